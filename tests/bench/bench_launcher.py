"""The launcher's start: `--help` against the smallest typer program, and `run` until its machine is started."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.bench.table import BenchRow
from tests.fakes.s3_server import s3_server
from tests.integration.launcher_kit import operator

ROUNDS = 9
HELP_TARGET = 1.3
RUN_TARGET_S = 1.5

_TWO_COMMANDS = """
import typer

app = typer.Typer()


@app.command()
def start(name: str, count: int = 1) -> None:
    "Start something."


@app.command()
def stop(name: str) -> None:
    "Stop it again."


if __name__ == "__main__":
    app()
"""


def rows() -> list[BenchRow]:
    """Two rows: medians of the wall time of whole processes."""
    with tempfile.TemporaryDirectory() as folder:
        return [_help(Path(folder)), _run(Path(folder))]


def _help(folder: Path) -> BenchRow:
    program = folder / "two_commands.py"
    program.write_text(_TWO_COMMANDS)
    ours, theirs = [], []
    # in turns, so that the machine's other work weighs on both alike; the first round warms the page cache
    for _ in range(ROUNDS + 1):
        ours.append(_seconds([sys.executable, "-m", "launcher", "--help"]))
        theirs.append(_seconds([sys.executable, str(program), "--help"]))
    measured, baseline = statistics.median(ours[1:]), statistics.median(theirs[1:])
    return BenchRow(
        "launcher --help, against a typer program with two commands",
        measured,
        baseline,
        "s",
        f"at most {HELP_TARGET} x",
        measured <= HELP_TARGET * baseline,
    )


def _run(folder: Path) -> BenchRow:
    with (
        pytest.MonkeyPatch.context() as patch,
        s3_server() as server,
        operator(server.url, folder, patch) as kit,
    ):
        kit.add_compute_env()
        pipeline = str(kit.pipeline())
        patch.setenv("SOLORUN_CONFIG_DIR", str(folder / "config"))
        command = [sys.executable, "-m", "launcher", "run", pipeline]
        # the first run makes moto load its instance types
        taken = [_seconds(command) for _ in range(ROUNDS + 1)][1:]
        if kit.started() != ROUNDS + 1:
            raise RuntimeError("not every run started its machine")
    measured = statistics.median(taken)
    return BenchRow(
        "launcher run, process start to end, RunInstances answered by moto",
        measured,
        None,
        "s",
        f"at most {RUN_TARGET_S} s",
        measured <= RUN_TARGET_S,
    )


def _seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=dict(os.environ))
    return time.perf_counter() - begin
