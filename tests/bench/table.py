"""A row of the bench table, and the table as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class BenchRow:
    """One figure beside its baseline, both measured in the same run."""

    name: str
    """What was measured."""
    measured: float
    """In `unit`."""
    baseline: float | None
    """The same of what it is compared with, in `unit`; None where the target is absolute."""
    unit: str
    target: str
    """What was promised, in words: `at most 0.6 x the baseline`."""
    ok: bool
    """Whether the target is met."""


def number(value: float | None, unit: str) -> str:
    """A figure with three digits that count; a dash where there is none."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f} {unit}"


def as_table(rows: Sequence[BenchRow]) -> Table:
    """The table; a missed target is marked."""
    table = Table(title="solorun bench", title_justify="left")
    for column in ("what", "measured", "baseline", "ratio", "target", ""):
        table.add_column(column, justify="right" if column in ("measured", "baseline", "ratio") else "left")
    for row in rows:
        table.add_row(
            row.name,
            number(row.measured, row.unit),
            number(row.baseline, row.unit),
            f"{row.measured / row.baseline:.2f}" if row.baseline else "-",
            row.target,
            "[green]met[/]" if row.ok else "[bold red]MISSED[/]",
        )
    return table
