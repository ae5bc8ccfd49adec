#!/usr/bin/env python3
"""The demo: a real pipeline, from `launcher run` to results in demo-results/, on the embedded cloud.

Does what a person would do, with the same commands, and shows each. Takes down what it started, also after Ctrl-C
or when the terminal is closed; a local cloud that was up before stays up.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[1]
LAUNCHER = str(Path(sys.executable).with_name("launcher"))
PIPELINE = "examples/lambda-variants"
RESULTS = "demo-results"
RUN_FAILED = 3
"""The launcher's exit code for a run that ended as FAILED."""
STOPPING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end the demo in an orderly way, like Ctrl-C."""


class Failed(Exception):
    """A command did not do what it is for; `code` is its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def say(text: str) -> None:
    """Tell the person, in bold; at once, as the launcher writes between the lines."""
    print(f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text, flush=True)


def launcher(*arguments: str, shown: bool = True) -> None:
    """Run a launcher command, its output going to the person.

    Raises:
        Failed: its exit code is not 0.
    """
    if shown:
        say(f"\n$ launcher {shlex.join(arguments)}")
    code = subprocess.run([LAUNCHER, *arguments], cwd=ROOT, check=False).returncode
    if code != 0:
        raise Failed(code)


def is_up() -> bool:
    """Whether a local cloud is up already.

    Raises:
        Failed: nobody knows. Then it must not be taken for the demo's own, which would be taken down.
    """
    status = subprocess.run(
        [LAUNCHER, "local", "status", "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if status.returncode != 0:
        raise Failed(status.returncode)
    return bool(json.loads(status.stdout)["up"])


@contextmanager
def local_cloud() -> Iterator[None]:
    """The embedded cloud for the duration; the person's own where there is one."""
    if is_up():
        say("The local cloud is up already: it is used, and stays up")
        yield
        return
    try:
        launcher("local", "up")
        yield
    finally:
        # A second Ctrl-C, or one more signal as the terminal closes, must not leave a machine behind.
        for number in (signal.SIGINT, *STOPPING):
            signal.signal(number, signal.SIG_IGN)
        launcher("local", "down", "--yes")


def run_pipeline() -> Path:
    """Run the pipeline, show the run, bring its results, also those of a run that failed; the folder they are in.

    Raises:
        Failed: the run, or one of the commands, failed.
    """
    name = time.strftime("demo-%Y%m%d-%H%M%S", time.gmtime())
    results = Path(RESULTS, name)
    try:
        launcher("run", PIPELINE, "--compute-env", "local", "--name", name, "--follow")
    except Failed as failed:
        if failed.code == RUN_FAILED:
            show(name, results)
        raise
    show(name, results)
    return results


def show(name: str, results: Path) -> None:
    """The run's tasks, and its files, before the cloud that holds them is gone.

    Raises:
        Failed: one of the commands failed.
    """
    launcher("runs", "tasks", name)
    launcher("runs", "download", name, "--to", str(results))


def stop_here(number: int, _frame: FrameType | None) -> None:
    """End in an orderly way, so that the local cloud is taken down."""
    if number == signal.SIGHUP:
        # The terminal is gone: writing to it would be an error, here and in the launcher.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
    raise Failed(128 + number)


def ended(code: int) -> int:
    """Say why the demo ends before its end; the exit code."""
    if code > 128:
        say("\nThe demo was stopped; what it started is taken down.")
    else:
        say(f"\nThe demo did not get to its end (exit code {code}): the messages above say why.")
    return code


def main() -> int:
    """0 when the results are there; else the exit code of the command that failed, 130 after Ctrl-C."""
    for number in STOPPING:
        # Under nohup the closing of the terminal is to be ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop_here)
    try:
        with local_cloud():
            results = run_pipeline()
    except Failed as failed:
        return ended(failed.code)
    except KeyboardInterrupt:
        return ended(128 + signal.SIGINT)
    say(f"\nThe results are in {results}/")
    for report in sorted((ROOT / results).rglob("*.html")):
        print(f"  {report.relative_to(ROOT)}")
    say("To go on by hand:")
    print("  . .venv/bin/activate")
    print("  launcher local up                                  # stays up until `launcher local down`")
    print(f"  launcher run {PIPELINE} --param samples=5 --follow")
    print("  launcher runs list")
    return 0


if __name__ == "__main__":
    sys.exit(main())
