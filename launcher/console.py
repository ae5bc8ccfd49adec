"""What the launcher prints: data on stdout, talk on stderr; no colours or frames where nobody looks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def say(text: str) -> None:
    """A sentence for the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


def data(text: str) -> None:
    """What was asked for, on stdout."""
    print(text, flush=True)


def emit_json(value: Any) -> None:
    """What was asked for, on stdout, as JSON that a person can read too."""
    data(json.dumps(value, indent=2, ensure_ascii=False))


def emit_json_line(value: Any) -> None:
    """One JSON object on one line of stdout."""
    data(json.dumps(value, ensure_ascii=False))


def console_for(stream: IO[str]) -> Console:
    """A rich console that takes text as it is. On a pipe it has no width to wrap at, and no colours."""
    from rich.console import Console

    width = None if stream.isatty() else 100_000
    return Console(file=stream, markup=False, highlight=False, emoji=False, width=width)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table on stdout; a column whose name starts with `>` is aligned to the right."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        right = column.startswith(">")
        grid.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    _print_stripped(grid)


def fields(pairs: Iterable[tuple[str, str]]) -> None:
    """Named values on stdout, one a line, the values below each other; empty values are left out."""
    kept = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in kept), default=0)
    for name, value in kept:
        head, *more = value.splitlines()
        data(f"{name:<{width}}  {head}")
        for line in more:
            data(f"{'':<{width}}  {line}")


@contextmanager
def byte_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where that is a terminal; call what it yields with each number of bytes that came."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console_for(sys.stderr), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)


def _print_stripped(renderable: Any) -> None:
    console = console_for(sys.stdout)
    if sys.stdout.isatty():
        console.print(renderable)
        return
    with console.capture() as capture:
        console.print(renderable)
    for line in capture.get().splitlines():
        data(line.rstrip())
