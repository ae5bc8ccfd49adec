"""A pipeline folder as one archive: the same folder always gives the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from launcher.errors import UserError
from launcher.text import size

MAX_BYTES: Final = 100 * 1024 * 1024
"""Of the files before compression: a pipeline is scripts; data belongs in S3."""
_GIT_PATIENCE_S: Final = 60
_NEVER_AT_TOP: Final = frozenset({"work", ".DS_Store"})
_NEVER: Final = frozenset({".git", "__pycache__"})


@dataclass(frozen=True)
class Bundle:
    """A packed pipeline folder."""

    data: bytes
    """tar.gz."""
    sha256: str
    """Of `data`, as 64 hexadecimal digits."""
    files: int


@dataclass(frozen=True)
class GitState:
    """What git says about a folder."""

    commit: str | None
    """None where there is no commit yet, or no git repository."""
    dirty: bool
    """True when files differ from the commit."""


def git_state(folder: Path) -> GitState:
    """The commit a folder is at; without git, or outside a repository, nothing is known."""
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--", ".")
    return GitState(commit.decode().strip() if commit else None, dirty=bool(changes))


def pack(folder: Path, *, max_bytes: int = MAX_BYTES) -> Bundle:
    """Pack a folder; in a git repository, what git tracks or would track. `.git` and `work` stay out.

    Modification times are kept: Nextflow's cache looks at them.

    Raises:
        UserError: a file cannot be read, a link leads out of the folder, the files are larger than
            `max_bytes` together, or git refuses to list the files of its repository.
    """
    names = _listed(folder)
    _check_size(folder, names, max_bytes)
    _check_links(folder, names)
    buffer = io.BytesIO()
    # no time and no name in the gzip header: the checksum depends on the files alone
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in names:
            _add(archive, folder, name)
    data = buffer.getvalue()
    return Bundle(data=data, sha256=hashlib.sha256(data).hexdigest(), files=len(names))


def _listed(folder: Path) -> list[str]:
    tracked = _git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".")
    if tracked is None:
        _check_no_repository(folder)
        names = _walked(folder)
    else:
        names = sorted(set(_with_submodules(folder, [os.fsdecode(n) for n in tracked.split(b"\0") if n])))
    return [name for name in names if _wanted(name) and _is_packable(folder / name)]


def _check_no_repository(folder: Path) -> None:
    """Where git refuses its own repository, nobody knows what it ignores: sending all of it would be a surprise.

    Raises:
        UserError: there is a repository, and git will not list its files.
    """
    root = folder.resolve()
    # git looks upwards too, and stops where another file system begins
    device = root.stat().st_dev
    above = (parent for parent in (root, *root.parents) if parent.stat().st_dev == device)
    if not any(_is_repository(parent / ".git") for parent in above):
        return
    try:
        done = _run_git(folder, "ls-files", "--", ".")
        said = done.stderr.decode(errors="replace").strip()
    except subprocess.TimeoutExpired:
        said = f"it did not answer within {_GIT_PATIENCE_S} s"
    except OSError:
        # no git on this computer
        return
    raise UserError(
        f"git cannot list the files of {folder}, so what it ignores is not known",
        hint=f"Mend what git says, then look at it again: git -C {folder} status",
        problems=tuple(said.splitlines()),
    )


def _is_repository(path: Path) -> bool:
    """Whether a `.git` is a repository's own folder, or the file that leads to it (worktrees, submodules)."""
    return path.is_file() or (path / "HEAD").is_file()


def _with_submodules(folder: Path, names: list[str]) -> Iterator[str]:
    """To git a submodule is one entry; to a pipeline it is the files in it."""
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            yield from (str(Path(name) / inner) for inner in _walked(path))
        else:
            yield name


def _walked(folder: Path) -> list[str]:
    names: list[str] = []
    for root, folders, files in os.walk(folder):
        inside = Path(root).relative_to(folder)
        folders[:] = sorted(name for name in folders if _wanted(str(inside / name)))
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        names += [str(inside / name) for name in [*files, *links]]
    return sorted(names)


def _wanted(name: str) -> bool:
    """Whether a path, relative to the folder, is part of the pipeline: what runs and tools leave there is not."""
    parts = Path(name).parts
    return not (_NEVER & set(parts) or parts[0] in _NEVER_AT_TOP or parts[0].startswith(".nextflow"))


def _is_packable(path: Path) -> bool:
    """Tracked files may be gone; pipes and sockets cannot be sent."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _check_size(folder: Path, names: list[str], max_bytes: int) -> None:
    sizes = {name: (folder / name).lstat().st_size for name in names}
    total = sum(sizes.values())
    if total <= max_bytes:
        return
    tops: Counter[str] = Counter()
    for name, count in sizes.items():
        tops[Path(name).parts[0]] += count
    raise UserError(
        f"The pipeline folder {folder} holds {size(total)} in {len(names)} files; the limit is {size(max_bytes)}",
        hint="Leave data out (.gitignore is honoured in a git repository) and read it from S3 instead",
        problems=tuple(f"{name}: {size(count)}" for name, count in tops.most_common(5)),
    )


def _check_links(folder: Path, names: list[str]) -> None:
    """The machine refuses archives whose links lead elsewhere; better said before one is started."""
    root = folder.resolve()
    wrong = []
    for name in names:
        path = folder / name
        if path.is_symlink():
            target = path.readlink()
            end = Path(os.path.normpath(root / Path(name).parent / target))
            if target.is_absolute() or not end.is_relative_to(root):
                wrong.append(f"{name} -> {target}")
    if wrong:
        raise UserError(
            f"The pipeline folder {folder} holds links that lead out of it, or are absolute",
            hint="Replace them by relative links inside the folder, or by the files themselves",
            problems=tuple(wrong),
        )


def _add(archive: tarfile.TarFile, folder: Path, name: str) -> None:
    path = folder / name
    try:
        info = archive.gettarinfo(path, arcname=name)
        # hard links would make a file depend on which of its names comes first
        if info.islnk():
            info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.lstat().st_size
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        if info.isreg():
            with path.open("rb") as file:
                archive.addfile(info, file)
        else:
            archive.addfile(info)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints, or None where there is no git, no repository, or it refuses."""
    try:
        done = _run_git(folder, *arguments)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _run_git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, check=False, timeout=_GIT_PATIENCE_S
    )
