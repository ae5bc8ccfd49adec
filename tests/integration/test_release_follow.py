"""A new release of Amazon Linux 2023, from the message to the commit: moto's SSM and EC2, a real git repository."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from launcher.catalog import Arch
from launcher.errors import CloudError, UserError
from packer.follow.claims import PREFIX
from packer.follow.cli import Following, Wanted, make_app
from packer.follow.records import Records
from packer.release import notes, pins
from packer.release.building import BuildRequest
from packer.release.cli import PIN_FILE, Settings
from packer.release.model import Encryption
from packer.release.plan import Request
from tests.fakes.s3_server import S3Server
from tests.integration.release_kit import Account, PatientClock, QuickBuilder, cleaned, moto_pins
from tests.integration.test_release import FEW, HOME, allowed

OLD = pins.Pins(
    releasever="2023.11.20260601",
    revision=3,
    kernel="6.12",
    source_ami_name={arch: f"al2023-ami-2023.11.20260601.0-kernel-6.12-{arch}" for arch in Arch},
)
NEWEST = moto_pins()
"""What moto's SSM parameters lead to."""
LISTS = tuple(f"ami/{NEWEST.release}/packages-{arch}.txt" for arch in Arch)


@pytest.fixture(scope="module")
def one_account(aws: S3Server) -> Account:
    return Account(aws.url)


@pytest.fixture
def account(one_account: Account) -> Iterator[Account]:
    one_account.forget()
    with cleaned(one_account, FEW):
        yield one_account


@pytest.fixture
def builder(account: Account, monkeypatch: pytest.MonkeyPatch) -> QuickBuilder:
    # The wheel is another test's subject, and takes seconds.
    monkeypatch.setattr("packer.release.cli.make_wheel", lambda _root, folder: folder / "solorun.whl")
    return QuickBuilder(account)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the old pins, and a bare one that it is pushed to."""
    origin, root = tmp_path / "origin.git", tmp_path / "checkout"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(origin))
    git(tmp_path, "clone", "--quiet", str(origin), str(root))
    git(root, "config", "user.name", "release")
    git(root, "config", "user.email", "release@localhost")
    (root / "packer").mkdir()
    (root / PIN_FILE).write_text(OLD.text())
    (root / ".gitignore").write_text("/build/\n")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "Pins")
    git(root, "push", "--quiet", "origin", "HEAD:refs/heads/main")
    return root


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def follow(checkout: Path, account: Account, builder: QuickBuilder, by: str = "build:1") -> Following:
    return Following(Settings(checkout, lambda: account.aws, lambda: builder, PatientClock()), by)


def run(following: Following, message: str = "", **changes: Any) -> str:
    wanted = Wanted(lambda new: Request(new, HOME, FEW), branch="main")
    return following.run(message, HOME, replace(wanted, **changes))


def test_a_new_release_becomes_images_and_a_commit(
    checkout: Path, account: Account, builder: QuickBuilder
) -> None:
    """A message leads to the release that SSM confirms; the pins are pushed; a second one does nothing."""
    said = run(follow(checkout, account, builder), f"Amazon Linux {NEWEST.releasever} is out")
    assert said == f"{NEWEST.releasever} is released"
    assert set(account.images("eu-west-1", NEWEST.release)) == {NEWEST.image_name(arch) for arch in Arch}
    assert pins.read(checkout / PIN_FILE) == NEWEST
    assert git(checkout, "status", "--porcelain") == ""
    assert git(checkout, "rev-parse", "HEAD") == git(checkout, "ls-remote", "origin", "main").split()[0]
    changed = set(git(checkout, "show", "--name-only", "--format=", "HEAD").split())
    assert changed == {
        str(PIN_FILE),
        "packer/released/release.json",
        *(f"packer/released/packages-{arch}.txt" for arch in Arch),
    }

    again = run(follow(checkout, account, builder), f"Amazon Linux {NEWEST.releasever} is out")
    assert again.startswith("not newer")
    assert builder.built == [Arch.ARM64, Arch.X86_64]


def test_the_commit_says_what_changed(checkout: Path, account: Account, builder: QuickBuilder) -> None:
    """The commit's message names the packages that changed against the release before."""
    released = checkout / "packer" / "released"
    released.mkdir()
    for arch in Arch:
        (released / f"packages-{arch}.txt").write_text("rpm\tbash\t0:5.1-1\tx86_64\tGPLv3+\n")
    (released / "release.json").write_text(json.dumps({"release": OLD.release}))
    run(follow(checkout, account, builder))
    text = git(checkout, "show", "--no-patch", "--format=%B", "HEAD")
    assert text.splitlines()[0] == f"Machine image {NEWEST.release}: Amazon Linux {NEWEST.releasever}"
    assert f"against {OLD.release}" in text
    assert "bash 5.1-1 -> 5.2.15-1.amzn2023.0.2" in text
    assert "+ openssl" in text


def test_another_checkout_does_not_build_it_again(
    checkout: Path, account: Account, builder: QuickBuilder, tmp_path: Path
) -> None:
    """A checkout that has not seen the new pins yet is told that the release is made."""
    git(tmp_path, "clone", "--quiet", str(tmp_path / "origin.git"), str(tmp_path / "second"))
    run(follow(checkout, account, builder))
    said = run(follow(tmp_path / "second", account, builder, "build:2"))
    assert said == f"{NEWEST.releasever} was released by build:1"
    assert len(builder.built) == 2


def test_a_failed_region_is_taken_up_by_the_next_check(
    checkout: Path, account: Account, builder: QuickBuilder
) -> None:
    """While a region fails nothing is committed and the check fails; the next one goes on, and builds nothing anew."""
    account.failing.add("eu-north-1")
    with pytest.raises(CloudError, match="eu-north-1"):
        run(follow(checkout, account, builder))
    assert pins.read(checkout / PIN_FILE) == OLD
    assert git(checkout, "rev-list", "--count", "HEAD") == "1"
    account.failing.clear()
    assert run(follow(checkout, account, builder, "build:2")) == f"{NEWEST.releasever} is released"
    assert len(builder.built) == 2


@pytest.mark.parametrize("message", ["hello", "2023.11.20260601", "2023.1.20230101"])
def test_a_message_that_is_no_news_asks_nobody(
    checkout: Path, account: Account, builder: QuickBuilder, message: str
) -> None:
    """Garbage and old releases end there: no call to AWS, no claim, no build."""
    run(follow(checkout, account, builder), message)
    assert account.calls == set()
    assert builder.built == []


def test_a_message_that_lies_builds_nothing(checkout: Path, account: Account, builder: QuickBuilder) -> None:
    """A release that SSM does not have is not built, however it is announced."""
    (checkout / PIN_FILE).write_text(NEWEST.text())
    said = run(follow(checkout, account, builder), "2023.99.20991231")
    assert said.startswith("not confirmed: 2023.99.20991231 is announced")
    assert builder.built == []


def test_needs_no_more_than_the_documented_rights(
    checkout: Path, account: Account, builder: QuickBuilder
) -> None:
    """Following calls nothing that the policy of the docs does not allow."""
    run(follow(checkout, account, builder))
    assert account.calls - allowed() == set()


def claimed(account: Account) -> list[str]:
    """The claims in SSM."""
    found = account.client("ssm", HOME).get_parameters_by_path(Path=PREFIX, Recursive=True)
    return [parameter["Name"] for parameter in found["Parameters"]]


def test_regions_are_left_out_and_the_template_gets_its_variables(
    checkout: Path, account: Account, builder: QuickBuilder
) -> None:
    """Following takes the options of a release by hand: an account without a region, or a default VPC, can follow."""
    account.failing.add("eu-north-1")
    make_app(follow(checkout, account, builder))(
        [
            *("run", "--regions", ",".join(FEW), "--without", "eu-north-1", "--push-to", "main"),
            *("--var", "subnet_id=subnet-0123456789abcdef0", "--encrypted", "--kms-key", "alias/images"),
        ],
        standalone_mode=False,
    )
    assert pins.read(checkout / PIN_FILE) == NEWEST
    assert len(account.images("eu-west-1", NEWEST.release)) == len(Arch)
    assert account.images("eu-north-1", NEWEST.release) == {}
    (asked,) = builder.asked
    assert asked.variables["subnet_id"] == "subnet-0123456789abcdef0"
    assert asked.encryption == Encryption(encrypted=True, key="alias/images")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--without", "eu-nroth-1"), "--without takes regions of the release"),
        (("--without", HOME), "cannot be made"),
        (("--public", "--encrypted"), "cannot be made"),
        (("--var", "subnet_id"), "NAME=VALUE"),
        (("--records", "bucket"), "s3://BUCKET/PREFIX"),
    ],
)
def test_what_cannot_work_is_no_attempt(
    checkout: Path, account: Account, builder: QuickBuilder, options: tuple[str, ...], problem: str
) -> None:
    """A wrong option is said before AWS is asked and the release claimed: it uses up none of the attempts."""
    with pytest.raises(UserError, match=problem):
        make_app(follow(checkout, account, builder))(["run", *options], standalone_mode=False)
    assert account.calls == set()
    assert claimed(account) == []
    assert pins.read(checkout / PIN_FILE) == OLD
    assert builder.built == []


@pytest.fixture
def bucket(account: Account) -> str:
    name = f"records-{uuid.uuid4().hex[:12]}"
    account.client("s3", HOME).create_bucket(Bucket=name)
    return name


def kept(account: Account, bucket: str) -> dict[str, str]:
    """What the records have, by key."""
    s3 = account.client("s3", HOME)
    found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {
        item["Key"]: s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read().decode() for item in found
    }


@dataclass
class StoppedBuilder(QuickBuilder):
    """Is stopped as soon as the records have the package lists."""

    bucket: str = ""

    def build(self, request: BuildRequest, archs: Collection[Arch]) -> None:
        super().build(request, archs)
        deadline = time.monotonic() + 30
        while not set(LISTS) <= set(kept(self.account, self.bucket)):
            assert time.monotonic() < deadline, "the lists are not kept"
            time.sleep(0.02)
        raise KeyboardInterrupt


def test_a_build_that_was_stopped_goes_on_in_a_new_folder(
    checkout: Path, account: Account, builder: QuickBuilder, bucket: str, tmp_path: Path
) -> None:
    """Package lists are in S3 while the build still runs; with them alone the next one, elsewhere, builds nothing."""
    second = tmp_path / "second"
    git(tmp_path, "clone", "--quiet", str(tmp_path / "origin.git"), str(second))
    git(second, "config", "user.name", "release")
    git(second, "config", "user.email", "release@localhost")
    stopped = StoppedBuilder(account, bucket=bucket)
    records = Records(account.aws, HOME, f"s3://{bucket}/ami", period_s=0.05)
    with pytest.raises(KeyboardInterrupt):
        run(follow(checkout, account, stopped), records=records)
    for key in set(kept(account, bucket)) - set(LISTS):
        # A process that is killed sends nothing at its end.
        account.client("s3", HOME).delete_object(Bucket=bucket, Key=key)

    said = run(follow(second, account, builder, "build:2"), records=records)
    assert said == f"{NEWEST.releasever} is released"
    assert (len(stopped.built), builder.built) == (2, [])
    found = kept(account, bucket)
    assert json.loads(found[f"ami/{NEWEST.release}/release.json"])["finished_at"] is not None
    assert {f"ami/{NEWEST.release}/{name}" for name in (notes.NOTES, notes.SUMS, notes.IMAGES)} <= set(found)
    # The first is s3:ListBucket's; the stack's role has these three.
    assert account.calls - allowed() == {"s3:ListObjectsV2", "s3:GetObject", "s3:PutObject"}
