"""The tests' own tools."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
import os
import pytest

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(8))
def test_writes(number):
    with open("processes", "a") as processes:
        processes.write(f"{os.getpid()}\\n")
"""


def test_what_shares_a_fixture_runs_in_one_process(tmp_path: Path) -> None:
    """Where several tests run at a time, those of a group stay together: else each process would build images anew."""
    (tmp_path / "test_group.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "--quiet", "--numprocesses=3", "--dist=loadgroup"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert len(set((tmp_path / "processes").read_text().split())) == 1
