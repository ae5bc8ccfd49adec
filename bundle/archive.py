"""Folders as archives: the same content always gives the same bytes, so that a checksum can be its name."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_TIME: Final = 1767225600
"""Of every file, 2026-01-01: when a file was made is of no account."""


@dataclass(frozen=True)
class Archive:
    """An archive, as the file `NAME.json` beside it tells the launcher."""

    sha256: str
    bytes: int
    image: str | None = None
    """The container image that it holds; None for the agent."""
    image_id: str | None = None
    """Docker's id of it."""
    agent_sources: str | None = None
    """For the agent, what launcher.programs.agent_sources says; None for a container image."""


def write_archive(folder: Path, path: Path) -> None:
    """Write `folder` as tar.gz; owned by root, times of no account, in the order of the names."""
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for name in sorted(str(found.relative_to(folder)) for found in folder.rglob("*")):
            found = folder / name
            info = tar.gettarinfo(found, arcname=name)
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
            info.mtime = _TIME
            info.mode = 0o755 if info.isdir() or info.issym() or info.mode & 0o100 else 0o644
            if info.isreg():
                with found.open("rb") as content:
                    tar.addfile(info, content)
            else:
                tar.addfile(info)


def describe(
    path: Path, *, image: str | None = None, image_id: str | None = None, agent_sources: str | None = None
) -> Archive:
    """Write `NAME.json` beside an archive that is complete."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    archive = Archive(sha256, path.stat().st_size, image, image_id, agent_sources)
    note_of(path).write_text(json.dumps(asdict(archive), indent=2) + "\n")
    return archive


def described(path: Path) -> Archive | None:
    """What is beside an archive; None where there is no archive, or no word of it."""
    try:
        return Archive(**json.loads(note_of(path).read_text())) if path.exists() else None
    except (OSError, ValueError, TypeError):
        return None


def note_of(path: Path) -> Path:
    """The file beside an archive."""
    return path.with_name(path.name.removesuffix(".tar.gz") + ".json")
