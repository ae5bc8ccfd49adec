"""A pipeline that was sent along."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from agent.bundle import unpack_bundle
from agent.errors import SpecInvalid


class OneBundle:
    """A store that holds one bundle."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.sha256 = hashlib.sha256(body).hexdigest()

    def download(self, _key: str, path: Path) -> None:
        path.write_bytes(self.body)


def bundle(**members: str) -> OneBundle:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(text), 1_700_000_000
            tar.addfile(info, io.BytesIO(text.encode()))
    return OneBundle(buffer.getvalue())


def test_files_come_with_their_times_and_nothing_stays_behind(tmp_path: Path) -> None:
    """The folder holds just the bundle's files with their own times, and the archive is gone."""
    target = tmp_path / "pipeline"
    target.mkdir()
    (target / "old.nf").write_text("old")
    store = bundle(**{"main.nf": "workflow {}"})
    unpack_bundle(store, store.sha256, target)
    assert [path.name for path in target.iterdir()] == ["main.nf"]
    assert (target / "main.nf").stat().st_mtime == 1_700_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline"]


def test_a_bundle_that_was_changed_is_refused(tmp_path: Path) -> None:
    """A checksum that differs from the run spec's stops the run before anything is unpacked."""
    with pytest.raises(SpecInvalid, match="checksum"):
        unpack_bundle(bundle(**{"main.nf": "x"}), "0" * 64, tmp_path / "pipeline")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"no archive", bundle(**{"main.nf": "x" * 9999}).body[:-20]],
    ids=["empty", "no archive", "cut off"],
)
def test_a_broken_archive_is_the_spec_s_fault(tmp_path: Path, body: bytes) -> None:
    """What cannot be unpacked is told as such, not as a failure of the agent."""
    store = OneBundle(body)
    with pytest.raises(SpecInvalid, match="cannot be unpacked"):
        unpack_bundle(store, store.sha256, tmp_path / "pipeline")


@pytest.mark.parametrize("name", ["../outside", "/outside"])
def test_nothing_is_written_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    """A member that points out of the folder does not get there."""
    store = bundle(**{name: "x"})
    target = tmp_path / "a" / "pipeline"
    target.parent.mkdir()
    try:
        unpack_bundle(store, store.sha256, target)
    except SpecInvalid:
        assert list(target.iterdir()) == []
    assert not (tmp_path / "a" / "outside").exists()
    assert not Path("/outside").exists()
