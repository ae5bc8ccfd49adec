"""Folders packed and unpacked: nothing changes, nothing is written elsewhere."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.tar import tarfile
from agent.tarball import CHUNK, members, pack, packed_size, unpack


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything that must survive, by name."""
    found: dict[str, tuple[object, ...]] = {}
    for name in members(folder):
        path = folder / name
        info = path.lstat()
        if stat.S_ISLNK(info.st_mode):
            found[name] = ("link", str(path.readlink()), info.st_mtime_ns)
        elif stat.S_ISDIR(info.st_mode):
            found[name] = ("folder", stat.S_IMODE(info.st_mode), info.st_mtime_ns)
        else:
            body = path.read_bytes()
            found[name] = ("file", stat.S_IMODE(info.st_mode), info.st_mtime_ns, body)
    return found


def there_and_back(folder: Path, target: Path) -> int:
    """Pack `folder`, unpack as `target`; the archive's size."""
    archive = target.with_suffix(".tar")
    archive.write_bytes(b"".join(pack(folder, members(folder))))
    unpack(archive, target)
    return archive.stat().st_size


def test_a_task_folder_survives_exactly(tmp_path: Path) -> None:
    """Names of any bytes, empty files, modes, links to anywhere, mtimes of files, links and folders to the ns."""
    folder = tmp_path / "task"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / ".command.run").write_text("#!/bin/bash\n")
    (folder / ".command.run").chmod(0o755)
    (folder / "empty").touch()
    (folder / "deep" / ("long-" * 40)).write_bytes(b"long name")
    (folder / os.fsdecode(b"latin-\xe9 and\nnewline")).write_bytes(b"odd")
    (folder / "ünï").write_bytes(b"unicode")
    (folder / "input.txt").symlink_to("/scratch/session/pipeline/input.txt")
    (folder / "relative").symlink_to("deep/../ünï")
    for i, name in enumerate(sorted(members(folder), reverse=True)):
        when = 1_700_000_000_123_456_789 + i
        os.utime(folder / name, ns=(when, when), follow_symlinks=False)
    size = there_and_back(folder, tmp_path / "back")
    assert tree(tmp_path / "back") == tree(folder)
    assert packed_size(folder, members(folder)) >= size // 2


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(
        st.binary(min_size=1, max_size=60).filter(
            lambda n: b"/" not in n and b"\0" not in n and n not in (b".", b"..")
        ),
        st.tuples(st.binary(max_size=2000), st.integers(min_value=0, max_value=4 * 10**18)),
        max_size=6,
    )
)
def test_any_names_bodies_and_times_survive(
    files: dict[bytes, tuple[bytes, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever bytes a name has and whatever nanosecond a file is of, both come back."""
    base = tmp_path_factory.mktemp("any")
    folder = base / "task"
    folder.mkdir()
    for name, (body, when) in files.items():
        path = folder / os.fsdecode(name)
        path.write_bytes(body)
        os.utime(path, ns=(when, when))
    there_and_back(folder, base / "back")
    assert tree(base / "back") == tree(folder)


def test_large_files_travel_in_chunks(tmp_path: Path) -> None:
    """A large file is never in memory as a whole, and is the same afterwards."""
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "big").write_bytes(os.urandom(3 * CHUNK + 5))
    chunks = list(pack(folder, members(folder)))
    assert max(map(len, chunks)) < 2 * CHUNK + 10_000
    assert sum(map(len, chunks)) % tarfile.RECORDSIZE == 0
    there_and_back(folder, tmp_path / "back")
    assert tree(tmp_path / "back") == tree(folder)


def test_pipes_are_left_out(tmp_path: Path) -> None:
    """A named pipe in a task's folder is no reason to wait."""
    folder = tmp_path / "task"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    there_and_back(folder, tmp_path / "back")
    assert list((tmp_path / "back").iterdir()) == []


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    """An archive whose contents do not fit its headers is never finished."""
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "a").write_bytes(b"x" * 3 * CHUNK)
    pieces = pack(folder, members(folder))
    next(pieces)
    os.truncate(folder / "a", 10)
    with pytest.raises(OSError, match="became shorter"):
        list(pieces)


def archive_of(path: Path, *contents: tuple[str, bytes, str]) -> Path:
    """An archive that somebody made by hand: (name, type, link target or body)."""
    with tarfile.open(path, "w") as tar:
        for name, kind, text in contents:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(text)
                member.mode = 0o6755
            member.linkname = text if kind != tarfile.REGTYPE else ""
            tar.addfile(member, io.BytesIO(text.encode()) if kind == tarfile.REGTYPE else None)
    return path


@pytest.mark.parametrize(
    "contents",
    [
        [("../evil", tarfile.REGTYPE, "x")],
        [("/tmp/evil-absolute", tarfile.REGTYPE, "x")],
        [("up", tarfile.SYMTYPE, ".."), ("up/evil", tarfile.REGTYPE, "x")],
        [("evil", tarfile.SYMTYPE, "../evil"), ("evil", tarfile.REGTYPE, "x")],
        [("evil", tarfile.LNKTYPE, "../secret")],
        [("evil", tarfile.FIFOTYPE, "")],
        [("evil", tarfile.CHRTYPE, "")],
    ],
    ids=["above", "absolute", "through-link", "over-link", "hard-link", "pipe", "device"],
)
def test_nothing_is_written_outside(contents: list[tuple[str, bytes, str]], tmp_path: Path) -> None:
    """An archive that was tampered with is refused before it writes anywhere but in its folder."""
    (tmp_path / "secret").write_text("secret")
    target = tmp_path / "in" / "back"
    with pytest.raises(tarfile.TarError):
        unpack(archive_of(tmp_path / "evil.tar", *contents), target)
    assert not (tmp_path / "in" / "evil").exists()
    assert not (tmp_path / "evil").exists()
    assert not Path("/tmp/evil-absolute").exists()


def test_privileges_are_dropped(tmp_path: Path) -> None:
    """Set-user-id bits do not come back; links to anywhere do."""
    archive = archive_of(
        tmp_path / "a.tar", ("tool", tarfile.REGTYPE, "x"), ("link", tarfile.SYMTYPE, "/etc/passwd")
    )
    unpack(archive, tmp_path / "back")
    assert stat.S_IMODE((tmp_path / "back" / "tool").stat().st_mode) == 0o755
    assert str((tmp_path / "back" / "link").readlink()) == "/etc/passwd"


def test_a_damaged_archive_is_an_error(tmp_path: Path) -> None:
    """Half an archive is told, not taken for a whole one."""
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "a").write_bytes(os.urandom(100_000))
    archive = tmp_path / "half.tar"
    archive.write_bytes(b"".join(pack(folder, members(folder)))[:50_000])
    with pytest.raises(tarfile.TarError):
        unpack(archive, tmp_path / "back")
