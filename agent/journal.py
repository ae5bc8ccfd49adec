"""What the agent must know again after it was killed: the start, the stop reason, the exit."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ConfigDict

from agent.contract import StopReason


class Started(BaseModel):
    """The workload's container was started; it must never be started a second time."""

    model_config = ConfigDict(frozen=True)

    container_id: str
    started_at: datetime


class Stop(BaseModel):
    """The one stop reason of a run, and when everything must be over."""

    model_config = ConfigDict(frozen=True)

    reason: StopReason
    message: str
    at: datetime
    """When the reason came up."""
    machine_ends_at: datetime | None = None
    """When somebody else ends the machine (Spot), where that is known."""


class Exited(BaseModel):
    """How the workload's container ended."""

    model_config = ConfigDict(frozen=True)

    code: int
    oom_killed: bool = False
    error: str = ""
    at: datetime


_Record = TypeVar("_Record", bound=BaseModel)

_FILES: Final[dict[type[BaseModel], str]] = {
    Started: "started.json",
    Stop: "stop.json",
    Exited: "exited.json",
}


class Journal:
    """Records in a folder, one file each. A record is written once: the first one stays."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, kind: type[_Record]) -> _Record | None:
        """The record of this kind, or None."""
        try:
            return kind.model_validate_json((self._folder / _FILES[kind]).read_bytes())
        except FileNotFoundError:
            return None

    def write(self, record: _Record) -> _Record:
        """Keep `record` durably, unless there is one of its kind already; returns the one that is kept.

        Raises:
            OSError: the disk is full or gone.
        """
        kind = type(record)
        kept = self.read(kind)
        if kept is not None:
            return kept
        target = self._folder / _FILES[kind]
        draft = target.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(record.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
        return record
