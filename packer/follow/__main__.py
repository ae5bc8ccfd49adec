"""`python -m packer.follow`: the environment, exit codes, wiring."""

from __future__ import annotations

import getpass
import os
import sys

from packer.follow.cli import Following, make_app
from packer.release.exits import ended
from packer.release.wiring import settings_of

if __name__ == "__main__":
    environment = dict(os.environ)
    by = environment.get("CODEBUILD_BUILD_ID") or getpass.getuser()
    sys.exit(ended(lambda: make_app(Following(settings_of(environment), by))()))
