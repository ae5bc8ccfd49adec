"""Somebody whose local cloud has booted machines: the real command line, and a real boot for every `launcher run`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from launcher.clock import SystemClock
from launcher.localcloud import lifecycle
from launcher.localcloud.state import default_folder
from tests.integration.spine import Person, somebody_in

SERVER: Final = (sys.executable, "-m", "tests.machine.cloud")


def _quiet(_text: str) -> None:
    """Say nothing."""


@contextmanager
def operator(folder: Path, say: Callable[[str], None] = _quiet) -> Iterator[Person]:
    """A local cloud of booted machines in `folder` for the duration; afterwards nothing of it is left."""
    somebody = somebody_in(folder)
    place = default_folder(somebody.environment)
    lifecycle.up(place, somebody.environment, SystemClock(), say, server_command=SERVER)
    try:
        # It is up: this makes the compute environment.
        said = somebody.launcher("local", "up")
        assert said.code == 0, said
        yield somebody
    finally:
        lifecycle.down(place, somebody.environment, say)
    assert not place.exists(), "files of the local cloud are left"
