"""`python -m packer.release`: the environment, exit codes, wiring."""

from __future__ import annotations

import os
import sys

from packer.release.cli import make_app
from packer.release.exits import ended
from packer.release.wiring import settings_of

if __name__ == "__main__":
    sys.exit(ended(lambda: make_app(settings_of(dict(os.environ)))()))
