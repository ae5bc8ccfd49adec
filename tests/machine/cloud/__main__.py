"""`python -m tests.machine.cloud`: the local cloud's server, whose instances are booted machines."""

from __future__ import annotations

import sys

from launcher.localcloud.__main__ import be_server
from tests.machine.cloud.site import booted_site

if __name__ == "__main__":
    sys.exit(be_server(booted_site))
