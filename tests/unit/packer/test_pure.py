"""Planning, pins, package lists, bills of materials, retirement: the parts of a release that touch nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from launcher.catalog import REGIONS, Arch
from launcher.errors import UserError
from packer.follow.decide import Newest
from packer.follow.pinning import commit_message, following
from packer.release import pins, plan
from packer.release.bom import bill_of_materials
from packer.release.model import Encryption, Image, Sharing
from packer.release.packages import Change, Package, changes, parse
from packer.release.retiring import GRACE, REMOVE_AFTER, retirement

PINS = pins.Pins(
    releasever="2023.12.20260930",
    revision=1,
    kernel="6.12",
    source_ami_name={arch: f"al2023-ami-2023.12.20260930.0-kernel-6.12-{arch}" for arch in Arch},
)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
LISTED = (
    "rpm\topenssl\t1:3.0.8-1.amzn2023.0.3\tx86_64\tApache-2.0\n"
    "rpm\tbash\t0:5.2.15-1.amzn2023.0.2\tx86_64\tGPLv3+\n"
    "deb\tlibc6\t2.36-9+deb12u10\tamd64\t\n"
)


def image(revision: int, **changed: Any) -> Image:
    release = f"2023.12.20260930-{revision}"
    values = {"id": f"ami-{revision}", "name": f"solorun-{release}-arm64", "region": "eu-west-1"}
    fields = {"arch": Arch.ARM64, "state": "available", "created": NOW, "tags": {"solorun:release": release}}
    return Image(**{**values, **fields, **changed})


def test_plan_covers_both_processors_in_all_regions() -> None:
    """An offline plan builds two images and copies each to the 21 other regions; the cost follows from that."""
    made = plan.plan(plan.Request(PINS, stored_gb=10), {})
    assert set(made.steps) == set(REGIONS)
    assert made.copies == 42
    assert made.usd_once == pytest.approx(42 * 10 * 0.02)
    assert made.usd_a_month == pytest.approx(44 * 10 * 0.05)
    assert "Copying 42 images" in plan.text(made)


@pytest.mark.parametrize(
    ("state", "step"),
    [
        ("available", plan.Step.KEEP),
        ("pending", plan.Step.WAIT),
        ("failed", plan.Step.REPLACE),
        ("error", plan.Step.REPLACE),
    ],
)
def test_what_is_there_decides_the_step(state: str, step: plan.Step) -> None:
    """A ready image is kept, one in the making waited for, a failed one replaced, a missing one made."""
    assert plan.step_for(image(1, state=state), build=False) is step
    assert plan.step_for(None, build=False) is plan.Step.COPY
    assert plan.step_for(None, build=True) is plan.Step.BUILD


def test_what_cannot_work_is_refused_at_once() -> None:
    """All that is wrong with a request is said together, before anything starts."""
    asked = plan.Request(
        PINS,
        "eu-west-1",
        ("us-east-1", "us-east-1"),
        Sharing(public=True, accounts=("12",)),
        Encryption(encrypted=True),
    )
    with pytest.raises(UserError) as refused:
        plan.plan(asked, {})
    assert len(refused.value.problems) == 6


def test_releases_sort_by_their_parts() -> None:
    """Releases sort by minor version, date and revision as numbers, not as text."""
    names = ["2023.12.20260930-10", "2023.9.20261231-1", "2023.12.20260930-9", "2023.12.20261001-1"]
    assert sorted(names, key=pins.release_order) == [names[1], names[2], names[0], names[3]]
    for wrong in ("2023.12.20260930", "latest-1", "2023.12.20260930-x"):
        with pytest.raises(UserError):
            pins.release_order(wrong)


def test_a_pin_file_that_is_wrong_is_refused_with_all_its_problems(tmp_path: Path) -> None:
    """Every problem of a pin file is named with its place."""
    path = tmp_path / "pins.json"
    path.write_text(json.dumps({"releasever": "latest", "revision": 0, "kernel": "6.12", "more": 1}))
    with pytest.raises(UserError) as refused:
        pins.read(path)
    assert {problem.split(":")[0] for problem in refused.value.problems} == {
        "releasever",
        "revision",
        "source_ami_name",
        "more",
    }


def test_pins_survive_being_written(tmp_path: Path) -> None:
    """A pin file that is written is the one that was read; the repository's own is such a file."""
    own = Path(__file__).parents[3] / "packer" / "pins.auto.pkrvars.json"
    for made in (PINS, pins.read(own)):
        (tmp_path / "pins.json").write_text(made.text())
        assert pins.read(tmp_path / "pins.json") == made


def test_package_lists_are_read() -> None:
    """Names, versions with their epochs, architectures and licenses come out; epoch 0 is left out."""
    bash, libc, openssl = parse(LISTED)
    assert bash == Package("bash", "5.2.15-1.amzn2023.0.2", "x86_64", "rpm", "GPLv3+")
    assert libc.kind == "deb"
    assert openssl.version == "1:3.0.8-1.amzn2023.0.3"


@pytest.mark.parametrize("text", ["", "bash 5.2", "rpm\t\t1\tx\t", "tar\tbash\t1\tx\ty"])
def test_a_damaged_package_list_is_refused(text: str) -> None:
    """A list that is empty or has a line of another form is no package list."""
    with pytest.raises(UserError):
        parse(text)


def test_changes_are_new_gone_and_other_versions() -> None:
    """New packages, gone ones and changed versions are told apart; several versions of one package are one entry."""
    old = [
        Package("a", "1", "x"),
        Package("gone", "1", "x"),
        Package("kernel", "1", "x"),
        Package("same", "1", "x"),
    ]
    new = [
        Package("a", "2", "x"),
        Package("new", "1", "x"),
        *(Package("kernel", v, "x") for v in "12"),
        old[3],
    ]
    assert list(map(str, changes(old, new))) == ["  a 1 -> 2", "- gone 1", "  kernel 1 -> 1, 2", "+ new 1"]


def test_bill_of_materials_is_valid_cyclonedx() -> None:
    """The document passes CycloneDX's own strict schema, names every package by its URL, and is the same twice."""
    packages = parse(LISTED)
    text = bill_of_materials("solorun-x", "2023.12.20260930-1", packages, NOW)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    assert {component["purl"] for component in document["components"]} == {
        "pkg:rpm/amzn/openssl@3.0.8-1.amzn2023.0.3?arch=x86_64&distro=amzn-2023&epoch=1",
        "pkg:rpm/amzn/bash@5.2.15-1.amzn2023.0.2?arch=x86_64&distro=amzn-2023",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12",
    }
    assert bill_of_materials("solorun-x", "2023.12.20260930-1", packages, NOW) == text


def test_the_newest_release_is_never_retired() -> None:
    """The newest release, and what `latest` leads to, are left alone however old they are."""
    old = NOW - timedelta(days=3650)
    due = retirement([image(1, deprecated_at=old), image(2, deprecated_at=old)], {"ami-1"}, NOW)
    assert due.deprecate == due.remove == ()


def test_a_replaced_release_is_deprecated_once() -> None:
    """A replaced release is deprecated, and not again when it is, or is about to be."""
    far = NOW + timedelta(days=365)
    assert retirement([image(1, deprecated_at=far), image(2)], (), NOW).deprecate == (
        image(1, deprecated_at=far),
    )
    for when in (NOW, NOW + GRACE):
        assert retirement([image(1, deprecated_at=when), image(2)], (), NOW).deprecate == ()


def test_one_release_to_go_back_to_is_kept() -> None:
    """Of releases deprecated long ago all are removed but the newest two."""
    long_ago = NOW - REMOVE_AFTER
    images = [image(number, deprecated_at=long_ago) for number in (1, 2, 3)]
    assert [item.id for item in retirement(images, (), NOW).remove] == ["ami-1"]
    younger = [image(number, deprecated_at=long_ago + timedelta(days=1)) for number in (1, 2, 3)]
    assert retirement(younger, (), NOW).remove == ()


def test_images_of_others_are_left_alone() -> None:
    """An image without a release of ours is neither deprecated nor removed."""
    due = retirement([image(1, tags={}), image(2, tags={"solorun:release": "mine"}), image(3)], (), NOW)
    assert due.deprecate == due.remove == ()


def test_following_a_release_begins_at_revision_one() -> None:
    """Pins of a new release name its images and begin at revision 1; those of the same release stay."""
    names = {arch: f"al2023-ami-2023.13.20261015.0-kernel-6.12-{arch}" for arch in Arch}
    new = following(PINS.model_copy(update={"revision": 7}), Newest("2023.13.20261015", names))
    assert (new.release, new.kernel, new.source_ami_name) == ("2023.13.20261015-1", PINS.kernel, names)
    assert following(new, Newest("2023.13.20261015", names)) is new


def test_the_commit_names_every_package_that_changed() -> None:
    """The commit's message has the release, and what changed; once where both processors changed alike."""
    change = Change("openssl", ("1",), ("2",))
    alike = commit_message(PINS, "2023.11.20260101-1", dict.fromkeys(Arch, (change,)))
    assert alike.splitlines()[0] == f"Machine image {PINS.release}: Amazon Linux {PINS.releasever}"
    assert alike.count("openssl 1 -> 2") == 1
    apart = commit_message(PINS, "2023.11.20260101-1", {Arch.X86_64: (change,), Arch.ARM64: ()})
    assert "on x86_64" in apart
    assert "on arm64 against 2023.11.20260101-1: none changed" in apart
    assert "The first release." in commit_message(PINS, "", {})
