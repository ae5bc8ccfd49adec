"""scripts/demo.py, with a program that stands for the launcher and writes down how it is called."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import demo

LAUNCHER = """#!/bin/sh
echo "$1 $2" >> "{folder}/calls"
case "$1 $2" in
    "local status") echo '{{"up": {up}}}'; exit {status} ;;
    "run examples/lambda-variants") [ {code} = hang ] && exec sleep 60; exit {code} ;;
esac
"""


RUN = "run examples/lambda-variants"


class Stage:
    """A folder with such a launcher."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.setattr(demo, "LAUNCHER", str(folder / "launcher"))
        monkeypatch.setattr(demo, "ROOT", folder)

    def play(self, *, up: bool = False, status: int = 0, code: int = 0) -> int:
        """The demo's exit code, with a local cloud that is up before or not, and a run that ends with `code`."""
        self._make(up=up, status=status, code=str(code))
        return demo.main()

    def begin(self) -> subprocess.Popen[bytes]:
        """The demo as a program of its own, with a run that does not end; returns when that goes."""
        self._make(up=False, status=0, code="hang")
        program = (
            "import pathlib, sys; from scripts import demo; demo.ROOT = pathlib.Path(sys.argv[1]);"
            "demo.LAUNCHER = sys.argv[1] + '/launcher'; sys.exit(demo.main())"
        )
        started = subprocess.Popen(
            [sys.executable, "-c", program, str(self.folder)], cwd=demo.__file__.rsplit("/", 2)[0]
        )
        deadline = time.monotonic() + 20
        while RUN not in self.calls():
            assert time.monotonic() < deadline, "not in time"
            time.sleep(0.01)
        return started

    def _make(self, *, up: bool, status: int, code: str) -> None:
        program = self.folder / "launcher"
        program.write_text(LAUNCHER.format(folder=self.folder, up=str(up).lower(), status=status, code=code))
        program.chmod(0o755)

    def calls(self) -> list[str]:
        """The launcher's commands, each by its first two words."""
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Such a stage; the signals' handlers are as before afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *demo.STOPPING)}
    yield Stage(tmp_path, monkeypatch)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_whole_story(stage: Stage) -> None:
    """Up, run, tasks, download, down, in this order."""
    assert stage.play() == 0
    assert stage.calls() == [
        "local status",
        "local up",
        "run examples/lambda-variants",
        "runs tasks",
        "runs download",
        "local down",
    ]


def test_a_cloud_that_was_up_stays_up(stage: Stage) -> None:
    """The person's own local cloud is used, and neither started nor ended."""
    assert stage.play(up=True) == 0
    assert not {"local up", "local down"} & set(stage.calls())


def test_failed_run_brings_its_logs(stage: Stage) -> None:
    """A run that failed is downloaded before the cloud goes, and its exit code is the demo's."""
    assert stage.play(code=3) == 3
    assert stage.calls()[-2:] == ["runs download", "local down"]


def test_run_that_never_was(stage: Stage) -> None:
    """Where nothing was started there is nothing to download, and the cloud is taken down all the same."""
    assert stage.play(code=2) == 2
    assert stage.calls()[-2:] == ["run examples/lambda-variants", "local down"]


def test_nobody_knows_whether_a_cloud_is_up(stage: Stage) -> None:
    """Where the status cannot be told, a cloud that may be the person's own is neither used nor ended."""
    assert stage.play(up=True, status=6) == 6
    assert stage.calls() == ["local status"]


@pytest.mark.parametrize("number", demo.STOPPING)
def test_told_to_stop(stage: Stage, number: signal.Signals) -> None:
    """SIGTERM, and SIGHUP of a terminal that is closed, take the cloud down before the demo ends."""
    started = stage.begin()
    try:
        started.send_signal(number)
        assert started.wait(20) == 128 + number
    finally:
        started.kill()
        started.wait()
    assert stage.calls()[-2:] == [RUN, "local down"]
