"""What PIPELINE means, and how a folder is packed."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from launcher.errors import UserError
from launcher.packing import git_state, pack
from launcher.pipeline import resolve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small pipeline, outside of git."""
    folder = tmp_path / "flow"
    (folder / "bin").mkdir(parents=True)
    (folder / "main.nf").write_text("println 1\n")
    (folder / "bin" / "tool").write_text("#!/bin/sh\n")
    (folder / "bin" / "tool").chmod(0o755)
    return folder


def git(folder: Path, *arguments: str) -> None:
    """Run git with nothing of the person's own configuration."""
    blank = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, env=blank)


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    """What is in the archive."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: info for info in archive.getmembers()}


def test_the_same_folder_gives_the_same_bytes(folder: Path) -> None:
    """The checksum is that of the bytes, and does not depend on the moment of packing."""
    first, second = pack(folder), pack(folder)
    assert first == second
    assert first.sha256 == hashlib.sha256(first.data).hexdigest()


def test_modes_times_links_and_odd_names_survive(folder: Path) -> None:
    """Nextflow's cache looks at times, and a tool must stay executable."""
    os.utime(folder / "main.nf", (1_700_000_000.25, 1_700_000_000.25))
    (folder / "odd näme\n.txt").write_text("x")
    (folder / "link").symlink_to("bin/tool")
    (folder / "empty").touch()
    found = members(pack(folder).data)
    assert set(found) == {"main.nf", "bin/tool", "odd näme\n.txt", "link", "empty"}
    assert found["bin/tool"].mode & 0o111
    assert found["main.nf"].mtime == 1_700_000_000.25
    assert found["link"].linkname == "bin/tool"
    assert {(info.uid, info.uname) for info in found.values()} == {(0, "")}


def test_what_runs_leave_behind_stays_at_home(folder: Path) -> None:
    """work, .nextflow and its logs, and .git are not part of a pipeline."""
    for name in ("work/ab/x", ".nextflow/cache/x", ".git/config", "__pycache__/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / ".nextflow.log").touch()
    (folder / "modules" / "work").mkdir(parents=True)
    (folder / "modules" / "work" / "main.nf").touch()
    assert set(members(pack(folder).data)) == {"main.nf", "bin/tool", "modules/work/main.nf"}


def test_in_git_what_is_ignored_stays_at_home(folder: Path) -> None:
    """Tracked and new files go; ignored and deleted ones do not; commit and changes are recorded."""
    git(folder, "init", "-q")
    (folder / ".gitignore").write_text("*.bam\n")
    (folder / "data.bam").write_text("large")
    (folder / "gone.nf").touch()
    assert git_state(folder).commit is None
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "x")
    assert not git_state(folder).dirty
    (folder / "gone.nf").unlink()
    (folder / "new.nf").touch()
    assert set(members(pack(folder).data)) == {".gitignore", "main.nf", "bin/tool", "new.nf"}
    pipeline = resolve(str(folder), revision=None, main_script=None)
    assert pipeline.source.revision == git_state(folder).commit
    assert pipeline.source.revision is not None
    assert len(pipeline.source.revision) == 40
    assert pipeline.source.dirty
    assert pipeline.source.folder == "flow"


def test_a_repository_that_git_refuses_is_not_sent_whole(folder: Path) -> None:
    """What git ignores is then not known: its own words are shown, and nothing is packed."""
    git(folder, "init", "-q")
    (folder / ".gitignore").write_text("*.bam\n")
    (folder / "data.bam").write_text("large")
    (folder / ".git" / "config").write_text("[core\n")
    for inner in (folder, folder / "bin"):
        with pytest.raises(UserError, match="git cannot list") as caught:
            pack(inner)
        assert "bad config" in "".join(caught.value.problems)


def test_a_folder_within_a_repository_is_packed_alone(folder: Path) -> None:
    """Names are relative to the folder, and files beside it stay at home."""
    root = folder.parent
    git(root, "init", "-q")
    (root / "README").touch()
    assert set(members(pack(folder).data)) == {"main.nf", "bin/tool"}


def test_a_folder_that_is_too_large_says_what_is_large(folder: Path) -> None:
    """The limit, and the largest entries."""
    (folder / "data").mkdir()
    (folder / "data" / "reads").write_bytes(b"x" * 3000)
    with pytest.raises(UserError, match="the limit is") as caught:
        pack(folder, max_bytes=2000)
    assert caught.value.problems[0].startswith("data: 2.9 KiB")


@pytest.mark.parametrize("target", ["/etc/hostname", "../other", "bin/../../other"])
def test_links_that_lead_out_are_refused(folder: Path, target: str) -> None:
    """The machine would refuse them too, but only after it was paid for."""
    (folder / "link").symlink_to(target)
    with pytest.raises(UserError, match="lead out") as caught:
        pack(folder)
    assert f"link -> {target}" in caught.value.problems


@pytest.mark.parametrize(
    "argument",
    [
        "https://github.com/nextflow-io/hello",
        "git@github.com:nextflow-io/hello.git",
        "nextflow-io/hello",
        "ssh://git@example.org/x",
        "ssh://h/x",
        "https://example.org/x@y",
    ],
)
def test_repositories_are_taken_by_their_form(argument: str) -> None:
    """No network is asked; the revision goes along."""
    pipeline = resolve(argument, revision="v1", main_script=None)
    assert (pipeline.source.repository, pipeline.source.revision) == (argument, "v1")
    assert pipeline.bundle is None


@pytest.mark.parametrize(
    "url",
    [
        "https://ada:hunter2@example.org/x/y.git",
        "https://hunter2@example.org/x/y",
        "HTTP://hunter2@example.org",
        "https://:hunter2@",
    ],
)
def test_a_url_with_credentials_is_refused_and_not_repeated(url: str) -> None:
    """It would be kept in S3, in tags and logs; how to do without is told."""
    with pytest.raises(UserError, match="token") as caught:
        resolve(url, revision=None, main_script=None)
    assert "clone" in caught.value.hint
    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}{caught.value.problems}"


@pytest.mark.parametrize(
    "argument", ["/no/such/folder", "./x", "../x/y", "~/nowhere-at-all", "a/b/c", "a/b/"]
)
def test_a_path_that_does_not_exist_is_no_repository(argument: str) -> None:
    """What looks like a path is answered as one."""
    with pytest.raises(UserError, match="no folder"):
        resolve(argument, revision=None, main_script=None)


def test_a_manifest_may_name_the_main_script(folder: Path) -> None:
    """It must be there; a comment does not count."""
    (folder / "main.nf").rename(folder / "start.nf")
    config = folder / "nextflow.config"
    config.write_text("// mainScript = 'x.nf'\n")
    with pytest.raises(UserError, match="no main script"):
        resolve(str(folder), revision=None, main_script=None)
    config.write_text("manifest {\n  mainScript = 'start.nf'\n}\n")
    assert resolve(str(folder), revision=None, main_script=None).bundle is not None
    config.write_text("manifest.mainScript = 'gone.nf'\n")
    with pytest.raises(UserError, match=r"gone\.nf"):
        resolve(str(folder), revision=None, main_script=None)
    assert resolve(str(folder), revision=None, main_script="start.nf").bundle is not None


def test_a_main_script_outside_of_the_folder_is_refused(folder: Path) -> None:
    """It would not be sent along."""
    (folder.parent / "other.nf").touch()
    with pytest.raises(UserError, match="not in the folder"):
        resolve(str(folder), revision=None, main_script="../other.nf")
    with pytest.raises(UserError, match="is a file"):
        resolve(str(folder / "main.nf"), revision=None, main_script=None)
