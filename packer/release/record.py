"""What a release has done so far, in one file: a second run reads it and goes on."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from launcher.catalog import Arch
from launcher.errors import UserError

FILE: Final = "release.json"


class BuiltImage(BaseModel):
    """An image that was built and proved, in the region of the build."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_id: str
    source_ami: str
    source_ami_name: str
    packages_sha256: str
    made_at: datetime


class Record(BaseModel):
    """The state of one release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: str
    git_commit: str
    builder: str = ""
    """Versions of the programs that built it."""
    built: dict[Arch, BuiltImage] = {}
    copied: dict[str, dict[Arch, str]] = {}
    """By region: the ids of the images, all of them ready."""
    published: tuple[str, ...] = ()
    """Regions whose parameters lead to this release."""
    failed: dict[str, str] = {}
    """By region of those that were last asked for: what went wrong there last."""
    finished_at: datetime | None = None
    """When every region that was asked for was done."""


class Book:
    """Keeps a Record in its file; safe for threads."""

    def __init__(self, folder: Path, record: Record) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()
        self._record = record

    @property
    def record(self) -> Record:
        """What was done so far."""
        return self._record

    def change(self, how: Callable[[Record], Record]) -> None:
        """Write a changed record; the file holds the old one or the new one, never a part."""
        with self._lock:
            record = how(self._record)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=self._path.parent, prefix=".release-", delete=False
            ) as file:
                file.write(record.model_dump_json(indent=2) + "\n")
            Path(file.name).replace(self._path)
            self._record = record


def open_book(folder: Path, release: str, git_commit: str) -> Book:
    """Take up the release where it was left, or begin it.

    Raises:
        UserError: the file is of another release, or damaged.
    """
    path = folder / FILE
    if not path.exists():
        return Book(folder, Record(release=release, git_commit=git_commit))
    try:
        record = Record.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise UserError(
            f"{path} cannot be read: {error}", hint="Remove it: AWS is asked what is done"
        ) from error
    if record.release != release:
        raise UserError(f"{path} is of release {record.release}, not of {release}")
    return Book(folder, record)
