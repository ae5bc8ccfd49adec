"""Releases against moto: 22 regions, trouble, a second run, the next release, retirement."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from launcher.catalog import REGIONS, Arch, image_parameter
from launcher.errors import CloudError, UserError
from packer.release import notes, plan
from packer.release.images import Images
from packer.release.looking import look
from packer.release.model import Image, Sharing
from packer.release.parameters import versioned
from packer.release.plan import Request, Step
from packer.release.retiring import GRACE, REMOVE_AFTER
from tests.fakes.s3_server import S3Server
from tests.integration.release_kit import Account, Maintainer, QuickBuilder, cleaned, moto_pins

ROOT = Path(__file__).parents[2]
PINS = moto_pins()
HOME = "us-east-1"
FEW = (HOME, "eu-west-1", "eu-north-1")


@pytest.fixture(scope="module")
def one_account(aws: S3Server) -> Account:
    return Account(aws.url)


@pytest.fixture
def account(one_account: Account) -> Iterator[Account]:
    one_account.forget()
    with cleaned(one_account, FEW):
        yield one_account


@pytest.fixture
def builder(account: Account) -> QuickBuilder:
    return QuickBuilder(account)


@pytest.fixture
def maintainer(account: Account, builder: QuickBuilder, tmp_path: Path) -> Maintainer:
    made = Maintainer(account, tmp_path, builder)
    made.pin(PINS)
    return made


def request(**changes: Any) -> Request:
    return Request(**{"pins": PINS, "build_region": HOME, "regions": FEW, **changes})


def allowed() -> set[str]:
    """The actions of the documented policy."""
    policy = json.loads((ROOT / "packer" / "policy.json").read_text())
    actions = [statement["Action"] for statement in policy["Statement"]]
    return {action for item in actions for action in ([item] if isinstance(item, str) else item)}


def test_one_failing_region_is_reported_and_made_up_for(
    maintainer: Maintainer, account: Account, builder: QuickBuilder
) -> None:
    """With one region out of 22 failing, the 21 others are published; a second run does that one, and nothing twice."""
    account.failing.add("sa-east-1")
    asked = request(regions=REGIONS)
    with cleaned(account, REGIONS):
        _fails_and_goes_on(maintainer, account, builder, asked)


def _fails_and_goes_on(
    maintainer: Maintainer, account: Account, builder: QuickBuilder, asked: Request
) -> None:
    first = maintainer.release(asked)
    assert set(first.published) == set(REGIONS) - {"sa-east-1"}
    assert list(first.failed) == ["sa-east-1"]
    assert "Too many snapshot copies" in first.failed["sa-east-1"]
    assert account.images("sa-east-1", PINS.release) == {}
    ids = {
        region: {image["ImageId"] for image in account.images(region, PINS.release).values()}
        for region in REGIONS
    }

    account.failing.clear()
    second = maintainer.release(asked)
    assert set(second.published) == set(REGIONS)
    assert second.failed == {}
    assert builder.built == [Arch.ARM64, Arch.X86_64]
    for region in REGIONS:
        images = account.images(region, PINS.release)
        assert set(images) == {PINS.image_name(arch) for arch in Arch}
        if region != "sa-east-1":
            assert {image["ImageId"] for image in images.values()} == ids[region]
        for arch in Arch:
            image_id = images[PINS.image_name(arch)]["ImageId"]
            assert account.parameter(region, image_parameter(arch)) == image_id
            assert account.parameter(region, versioned(PINS.release, arch)) == image_id


def test_a_region_that_failed_can_be_left_out(maintainer: Maintainer, account: Account) -> None:
    """Without the region that failed the release is finished, and is what the next one is compared with."""
    account.failing.add("eu-north-1")
    first = maintainer.release(request())
    assert list(first.failed) == ["eu-north-1"]
    assert first.finished_at is None
    second = maintainer.release(request(regions=(HOME, "eu-west-1")))
    assert second.failed == {}
    assert second.finished_at is not None
    assert notes.read_last(maintainer.root / "packer" / "released").release == PINS.release


def test_a_region_that_is_not_enabled_is_named(maintainer: Maintainer, account: Account) -> None:
    """Plan and release say which region the account has not enabled, and how to leave it out; the others are done."""
    account.closed.add("eu-north-1")
    made = look(request(), maintainer.tools())
    assert list(made.steps) == [HOME, "eu-west-1"]
    assert "--without eu-north-1" in plan.text(made)
    record = maintainer.release(request())
    assert "eu-north-1 is not enabled for this account" in record.failed["eu-north-1"]
    assert set(record.published) == {HOME, "eu-west-1"}
    assert any("eu-north-1 is not enabled" in said for said in maintainer.said[:1])


def test_wrong_credentials_are_not_taken_for_regions(maintainer: Maintainer, account: Account) -> None:
    """Where no region knows the account, it is the credentials, and neither plan nor release goes on."""
    account.closed.update(FEW)
    with pytest.raises(UserError, match="does not accept these credentials"):
        look(request(), maintainer.tools())
    with pytest.raises(UserError, match="does not accept these credentials"):
        maintainer.release(request())


def test_a_closed_region_cannot_be_built_in(maintainer: Maintainer, account: Account) -> None:
    """Where only the build's region does not know the account, the way out is another one to build in."""
    account.closed.add(HOME)
    with pytest.raises(UserError, match=f"{HOME} is not enabled") as refused:
        maintainer.release(request())
    assert "--region" in refused.value.hint


def test_copies_carry_the_tags_of_their_source(maintainer: Maintainer, account: Account) -> None:
    """Every image says in every region what it was made of, and which package list is its own."""
    maintainer.release(request())
    for region in FEW:
        for arch in Arch:
            image = account.images(region, PINS.release)[PINS.image_name(arch)]
            tags = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
            checksum = notes.sha256(maintainer.output(request()) / notes.packages_file(arch))
            assert tags["solorun:packages-sha256"] == checksum
            assert tags["solorun:source-ami-name"] == PINS.source_ami_name[arch]


def test_a_failed_copy_is_removed_and_made_again(maintainer: Maintainer, account: Account) -> None:
    """An image that EC2 failed to make is not left over, and does not keep a good one out."""
    first = maintainer.release(request())
    there = maintainer.tools().images.named("eu-west-1", PINS.image_name(Arch.ARM64))
    assert there is not None
    from moto.backends import get_backend

    backend = get_backend("ec2")["123456789012"]["eu-west-1"]
    backend.amis[there.id].state = "failed"
    second = maintainer.release(request())
    assert second.failed == {}
    assert second.copied["eu-west-1"][Arch.ARM64] != first.copied["eu-west-1"][Arch.ARM64]
    assert set(account.images("eu-west-1", PINS.release)) == {PINS.image_name(arch) for arch in Arch}


def test_a_build_that_fails_publishes_nothing_and_keeps_the_other(
    maintainer: Maintainer, account: Account, builder: QuickBuilder
) -> None:
    """Where one processor cannot be built nothing is published; the next run builds that one only."""
    builder.refuses = {Arch.ARM64}
    with pytest.raises(CloudError):
        maintainer.release(request())
    assert account.images("eu-west-1", PINS.release) == {}
    builder.refuses = set()
    assert maintainer.release(request()).failed == {}
    assert builder.built == [Arch.X86_64, Arch.ARM64]


def test_an_image_built_elsewhere_is_not_published_blindly(maintainer: Maintainer) -> None:
    """An image whose package list is not here cannot be described, and is refused with the way out."""
    maintainer.release(request())
    (maintainer.output(request()) / notes.packages_file(Arch.ARM64)).unlink()
    with pytest.raises(UserError, match="built elsewhere"):
        maintainer.release(request())


def test_plan_says_what_is_left_to_do(maintainer: Maintainer, account: Account) -> None:
    """The plan before a release builds and copies all; after half of one it names what is missing."""
    before = look(request(), maintainer.tools())
    assert before.steps[HOME] == dict.fromkeys(Arch, Step.BUILD)
    assert before.copies == 4
    account.failing.add("eu-north-1")
    maintainer.release(request())
    after = look(request(), maintainer.tools())
    assert after.steps[HOME] == dict.fromkeys(Arch, Step.KEEP)
    assert after.steps["eu-west-1"] == dict.fromkeys(Arch, Step.KEEP)
    assert after.steps["eu-north-1"] == dict.fromkeys(Arch, Step.COPY)


def test_notes_tell_what_changed_since_the_last_release(
    maintainer: Maintainer, account: Account, builder: QuickBuilder
) -> None:
    """The next release's notes name every package that changed, its files match their checksums."""
    maintainer.release(request())
    following = PINS.model_copy(update={"revision": 2})
    maintainer.pin(following)
    builder.openssl = "3.2.2"
    maintainer.release(request(pins=following))
    output = maintainer.output(request(pins=following))
    text = (output / notes.NOTES).read_text()
    assert f"## Packages, against {PINS.release}" in text
    assert "openssl 1:3.0.8-1.amzn2023.0.3 -> 1:3.2.2-1.amzn2023.0.3" in text
    assert "bash" not in text
    for line in (output / notes.SUMS).read_text().splitlines():
        checksum, name = line.split("  ")
        assert notes.sha256(output / name) == checksum
    assert account.parameter("eu-west-1", image_parameter(Arch.ARM64)) in text


def test_an_older_release_does_not_take_the_newest_ones_place(
    maintainer: Maintainer, account: Account
) -> None:
    """A release made again of an older pin gets its own parameters; `latest` stays with the newer one."""
    newer = PINS.model_copy(update={"revision": 2})
    maintainer.pin(newer)
    maintainer.release(request(pins=newer))
    promoted = account.parameter(HOME, image_parameter(Arch.X86_64))
    maintainer.pin(PINS)
    maintainer.release(request())
    assert account.parameter(HOME, image_parameter(Arch.X86_64)) == promoted
    assert account.parameter(HOME, versioned(PINS.release, Arch.X86_64)) != promoted


def test_old_releases_are_deprecated_then_removed(maintainer: Maintainer, account: Account) -> None:
    """A replaced release is deprecated a month later, removed half a year after that, with parameters and snapshots."""
    releases = [PINS.model_copy(update={"revision": number}) for number in (1, 2, 3, 4)]
    for made in releases[:2]:
        began = maintainer.clock.now()
        maintainer.pin(made)
        maintainer.release(request(pins=made))
    ended = maintainer.clock.now()
    old = account.images("eu-west-1", releases[0].release)
    snapshots = {image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"] for image in old.values()}
    for image in old.values():
        deprecated = datetime.fromisoformat(account.deprecated[image["ImageId"]])
        # AWS takes whole minutes.
        assert began - timedelta(minutes=1) < deprecated - GRACE <= ended

    maintainer.clock.shift += GRACE + REMOVE_AFTER + timedelta(days=1)
    for made in releases[2:]:
        maintainer.pin(made)
        maintainer.release(request(pins=made))
    assert account.images("eu-west-1", releases[0].release) == {}
    left = account.client("ec2", "eu-west-1").describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert snapshots.isdisjoint(item["SnapshotId"] for item in left)
    assert maintainer.tools().parameters.get("eu-west-1", versioned(releases[0].release, Arch.ARM64)) is None
    assert len(account.images("eu-west-1", releases[2].release)) == 2


@pytest.mark.parametrize("keeping", [False, True])
def test_no_snapshot_outlives_its_image(maintainer: Maintainer, account: Account, keeping: bool) -> None:
    """An image goes with its snapshots, also where EC2 fails to delete them together at first."""
    image, images = _an_image(maintainer)
    account.keeping = keeping
    images.remove(image)
    assert _left(account, image) == set()
    images.remove(image)


def test_a_removal_broken_off_leaves_no_snapshot(maintainer: Maintainer, account: Account) -> None:
    """Ctrl-C right after an image was deregistered leaves no snapshot that no image leads to."""
    image, images = _an_image(maintainer)
    account.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        images.remove(image)
    assert _left(account, image) == set()


def _an_image(maintainer: Maintainer) -> tuple[Image, Images]:
    """An image of a release with its snapshots, and what removes it."""
    maintainer.release(request())
    images = maintainer.tools().images
    image = images.named("eu-west-1", PINS.image_name(Arch.ARM64))
    assert image is not None
    assert image.snapshots
    return image, images


def _left(account: Account, image: Image) -> set[str]:
    """Its snapshots that are still there."""
    there = account.client("ec2", image.region).describe_snapshots(OwnerIds=["self"])["Snapshots"]
    return {item["SnapshotId"] for item in there} & {*image.snapshots}


def test_sharing_reaches_every_region(maintainer: Maintainer, account: Account) -> None:
    """Images shared with an account, or public, are so in every region; private ones are nobody else's."""

    def permissions(region: str) -> list[Any]:
        ec2 = account.client("ec2", region)
        return [
            ec2.describe_image_attribute(ImageId=image["ImageId"], Attribute="launchPermission")[
                "LaunchPermissions"
            ]
            for image in account.images(region, PINS.release).values()
        ]

    maintainer.release(request())
    assert permissions("eu-west-1") == [[], []]
    maintainer.release(request(sharing=Sharing(accounts=("111122223333",))))
    assert permissions("eu-west-1") == [[{"UserId": "111122223333"}]] * 2
    maintainer.release(request(sharing=Sharing(public=True)))
    assert all({"Group": "all"} in item for region in FEW for item in permissions(region))


def test_needs_no_more_than_the_documented_rights(maintainer: Maintainer, account: Account) -> None:
    """A release, its retirement and its plan call nothing that the policy of the docs does not allow."""
    for number in (1, 2, 3, 4):
        made = PINS.model_copy(update={"revision": number})
        maintainer.pin(made)
        maintainer.release(request(pins=made, sharing=Sharing(public=True)))
        maintainer.clock.shift += timedelta(days=250)
    look(request(), maintainer.tools())
    assert account.calls - allowed() == set()
    assert {
        "ec2:CopyImage",
        "ec2:DeregisterImage",
        "ec2:DeleteSnapshot",
        "ssm:DeleteParameter",
    } <= account.calls
