"""`python -m tests.machine.cloud`: the local cloud's server, whose instances are booted machines.

It ends with its maker: a test run that is killed leaves no cloud behind.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Final

from launcher.localcloud.__main__ import be_server
from tests.machine.cloud.site import booted_site

_PR_SET_PDEATHSIG: Final = 1


def main() -> int:
    """Serve until told to stop, or until the maker is gone; returns the exit code."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return be_server(booted_site)


if __name__ == "__main__":
    sys.exit(main())
