"""`python -m tests.bench [WORD…]`: every bench, or those whose module's name holds one of the words.

Each `bench_*.py` in this folder has `rows() -> list[BenchRow]`. Exits 0 also where a target is missed, and 1 where
a bench could not be done; the table tells of what could.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.bench.table import BenchRow, as_table


def bench_modules(words: Sequence[str]) -> list[str]:
    """Names of the bench modules, sorted."""
    names = sorted(item.name for item in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return [
        name for name in names if name.startswith("bench_") and any(word in name for word in words or ("",))
    ]


def main(words: Sequence[str]) -> int:
    """Do the benches one after the other, and print one table."""
    rows: list[BenchRow] = []
    broken = []
    for name in bench_modules(words):
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            rows += importlib.import_module(f"tests.bench.{name}").rows()
        except Exception:  # noqa: BLE001 - the other benches are still worth having; the exit code tells
            traceback.print_exc()
            broken.append(name)
    Console(width=160).print(as_table(rows))
    if broken:
        print(f"could not be done: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
