"""A new release of Amazon Linux 2023, from the message to the commit: moto's SSM and EC2, a real git repository."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.catalog import Arch
from launcher.errors import CloudError
from packer.follow.cli import Following
from packer.release import pins
from packer.release.cli import PIN_FILE, Settings
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


def request(new: pins.Pins) -> Request:
    return Request(new, HOME, FEW)


def run(following: Following, message: str = "") -> str:
    return following.run(message, request, HOME, "main")


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
