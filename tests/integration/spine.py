"""A local cloud of the tests' own, and a person at its launcher: the real command line, the real agent."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.contract import RunState, RunStatus, parse
from tests.integration.lone_machine import containers, eventually

ROOT = Path(__file__).parents[2]
PIPELINES = ROOT / "tests" / "pipelines"


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Person:
    """Somebody who types launcher commands."""

    folder: Path
    environment: dict[str, str]

    def launcher(self, *words: str, stdin: str = "", within: float = 180) -> Said:
        """Run one command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *words],
            env=self.environment,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=within,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def says(self, *words: str, within: float = 180) -> Any:
        """Run one command that must succeed, with --json; its document."""
        said = self.launcher(*words, "--json", within=within)
        assert said.code == 0, said
        return json.loads(said.out)

    def start(self, pipeline: str, *words: str) -> str:
        """`launcher run` of a pipeline of tests/pipelines; the run's id."""
        return str(self.says("run", str(PIPELINES / pipeline), "-c", "local", *words)["run_id"])

    def status(self, run: str) -> RunStatus:
        """`launcher runs view`."""
        document = self.says("runs", "view", run)
        document.pop("prefix")
        if document["state"] == RunState.UNKNOWN:
            raise AssertionError(document)
        return parse(RunStatus, json.dumps(document))

    def until(self, run: str, state: RunState, *, within: float = 120) -> RunStatus:
        """Wait until the run is in a state."""
        eventually(f"{run} is {state}", lambda: self.status(run).state is state, within=within, every=0.3)
        return self.status(run)

    def machines(self) -> list[dict[str, Any]]:
        """The machines of the local cloud that are on."""
        return [
            machine
            for machine in self.says("local", "status")["machines"]
            if machine["state"] not in {"ending", "off"}
        ]

    def assert_gone(self, *runs: str) -> None:
        """The runs' machines are terminated, and no container of theirs is left."""
        eventually("every machine is gone", lambda: not self.machines(), within=30)
        for run in runs:
            assert containers(f"solorun.run={run}") == []


def somebody_in(folder: Path) -> Person:
    """Somebody whose local cloud and compute environments are in a folder of their own."""
    environment = {
        **os.environ,
        "SOLORUN_STATE_DIR": str(folder / "state"),
        "SOLORUN_CONFIG_DIR": str(folder / "config"),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }
    return Person(folder, environment)


@contextlib.contextmanager
def person(folder: Path) -> Iterator[Person]:
    """Bring a local cloud up for the duration; afterwards nothing of it is left."""
    somebody = somebody_in(folder)
    said = somebody.launcher("local", "up")
    assert said.code == 0, said
    try:
        yield somebody
    finally:
        said = somebody.launcher("local", "down", "--yes")
        assert said.code == 0, said
    assert not [path for path in (folder / "state").rglob("*") if path.is_file()], (
        "files of the local cloud are left"
    )
