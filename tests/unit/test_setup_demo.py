"""scripts/demo.py, with a program that stands for the launcher and writes down how it is called."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import demo

LAUNCHER = """#!/bin/sh
echo "$1 $2" >> "{folder}/calls"
case "$1 $2" in
    "local status") echo '{{"up": {up}}}' ;;
    "run examples/lambda-variants") exit {code} ;;
esac
"""


class Stage:
    """A folder with such a launcher."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.setattr(demo, "LAUNCHER", str(folder / "launcher"))
        monkeypatch.setattr(demo, "ROOT", folder)

    def play(self, *, up: bool = False, code: int = 0) -> int:
        """The demo's exit code, with a local cloud that is up before or not, and a run that ends with `code`."""
        program = self.folder / "launcher"
        program.write_text(LAUNCHER.format(folder=self.folder, up=str(up).lower(), code=code))
        program.chmod(0o755)
        return demo.main()

    def calls(self) -> list[str]:
        """The launcher's commands, each by its first two words."""
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Such a stage; the signals' handlers are as before afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
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
