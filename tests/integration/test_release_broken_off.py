"""Ctrl-C while Packer builds: real processes and real signals; a small program stands in for Packer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.errors import ExitCode

ROOT = Path(__file__).parents[2]
PACKER = """#!{python}
import pathlib, signal, subprocess, sys, threading

folder = pathlib.Path({folder!r})
if sys.argv[1] != "build":
    sys.exit(0)
# As Packer's plugins, it goes on until it is told otherwise, and pays no heed to Ctrl-C.
plugin = subprocess.Popen(
    [sys.executable, "-c", "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); "
     "open({go!r}).read()"], stdout=subprocess.PIPE)
plugin.stdout.readline()
told = threading.Event()
signal.signal(signal.SIGINT, lambda *_: told.set())
print("building", file=sys.stderr, flush=True)
while not told.wait(0.1):
    pass
print("cleaning up", file=sys.stderr, flush=True)
plugin.wait()
folder.joinpath("clean").touch()
sys.exit(1)
"""
BUILD = """
import sys
from pathlib import Path
from launcher.catalog import Arch
from packer.release.building import BuildRequest, Packer
from packer.release.cli import say
from packer.release.exits import ended
from packer.release.model import Encryption

folder = Path(sys.argv[1])
request = BuildRequest(
    root=folder, output=folder, release="2026.1-1", region="eu-west-1", git_commit="", builder="", wheel=folder,
    encryption=Encryption(), variables={},
)
packer = Packer({}, say, program=str(folder / "packer"))
sys.exit(ended(lambda: packer.build(request, [Arch.ARM64])))
"""


@dataclass(frozen=True)
class Building:
    """A build that runs, with all its processes in the foreground of a terminal, as it were."""

    process: subprocess.Popen[str]
    folder: Path

    def press_ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def read_until(self, *words: str) -> str:
        """What is said up to the line in which the last of the words is found."""
        assert self.process.stderr is not None
        said, missing = "", set(words)
        for line in self.process.stderr:
            said += line
            missing = {word for word in missing if word not in line}
            if not missing:
                return said
        raise AssertionError(f"{missing} was not said: {said}")


@contextmanager
def building(folder: Path) -> Iterator[Building]:
    """A build as `make ami` does it."""
    go = folder / "go"
    os.mkfifo(go)
    program = folder / "packer"
    program.write_text(PACKER.format(python=sys.executable, folder=str(folder), go=str(go)))
    program.chmod(0o755)
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", BUILD, str(folder)],
        env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield Building(process, folder)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.timeout(60)
def test_packer_is_given_the_time_to_clean_up(tmp_path: Path) -> None:
    """After Ctrl-C Packer ends its machines however long that takes; it is said why one waits, and what to do then."""
    with building(tmp_path) as build:
        build.read_until("building")
        build.press_ctrl_c()
        build.read_until("cleaning up", "Broken off. Packer ends the machines")
        with pytest.raises(subprocess.TimeoutExpired):
            # Longer than subprocess.run gives a program after Ctrl-C.
            build.process.wait(0.5)
        (tmp_path / "go").write_text("on")
        _, rest = build.process.communicate(timeout=30)
    assert (tmp_path / "clean").exists()
    assert "Run this again" in rest
    assert build.process.returncode == ExitCode.INTERRUPTED


@pytest.mark.timeout(60)
def test_a_second_ctrl_c_ends_packer_and_says_what_may_be_left(tmp_path: Path) -> None:
    """Whoever cannot wait is told where machines may be left, and how to find them; no process of Packer's goes on."""
    with building(tmp_path) as build:
        build.read_until("building")
        build.press_ctrl_c()
        build.read_until("cleaning up", "Broken off. Packer ends the machines")
        build.press_ctrl_c()
        # To the end of what is said: nobody holds the pipe any more.
        _, rest = build.process.communicate(timeout=30)
    assert not (tmp_path / "clean").exists()
    assert "may be left in eu-west-1" in rest
    assert "Values=2026.1-1" in rest
    assert build.process.returncode == ExitCode.INTERRUPTED
