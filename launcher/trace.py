"""Nextflow's trace file as the launcher shows it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from launcher.text import duration, size

_MILLISECONDS: Final = frozenset({"duration", "realtime"})
_BYTES: Final = frozenset({"peak_rss", "rchar", "wchar"})
_COLUMNS: Final = ("name", "status", "exit", "duration", "realtime", "%cpu", "peak_rss", "rchar", "wchar")


@dataclass(frozen=True)
class Trace:
    """The tasks of a run, in the order in which they were reported."""

    tasks: tuple[dict[str, str], ...]
    """Every column of the trace file by its name."""

    def columns(self) -> tuple[str, ...]:
        """The columns worth showing that this trace has."""
        first = self.tasks[0] if self.tasks else {}
        return tuple(name for name in _COLUMNS if name in first) or tuple(first)

    def rows(self) -> list[Sequence[str]]:
        """Cells of those columns, raw numbers with their units."""
        return [[_cell(name, task.get(name, "")) for name in self.columns()] for task in self.tasks]


def parse_trace(text: str) -> Trace:
    """Read a trace file: a header, then a task a line, fields between tabs; a torn last line is left out."""
    whole = text[: text.rfind("\n") + 1]
    lines = csv.DictReader(io.StringIO(whole), delimiter="\t", quoting=csv.QUOTE_NONE)
    tasks = []
    for row in lines:
        task = {key: value or "" for key, value in row.items() if isinstance(key, str)}
        tasks.append({key: "" if value == "-" else value for key, value in task.items()})
    return Trace(tuple(tasks))


def _cell(name: str, value: str) -> str:
    # the trace may be written raw: milliseconds and bytes
    if not value.isdecimal():
        return value
    if name in _MILLISECONDS:
        return f"{int(value) / 1000:.1f}s" if int(value) < 60_000 else duration(int(value) / 1000)
    return size(int(value)) if name in _BYTES else value
