"""`python -m tests.machine.cloud ROOT DOCKER`: the local cloud's server, whose instances boot from these two folders.

It ends with its maker: a test run that is killed leaves no cloud behind.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Final

from launcher.localcloud.__main__ import be_server
from tests.machine.cloud.site import booted_site
from tests.machine.machine import Image

_PR_SET_PDEATHSIG: Final = 1


def main() -> int:
    """Serve until told to stop, or until the maker is gone; returns the exit code."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    root, docker = sys.argv[1:]
    return be_server(partial(booted_site, Image(Path(root), Path(docker))))


if __name__ == "__main__":
    sys.exit(main())
