"""`python -m launcher`, and the console script: the only place that reads the environment or exits."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from launcher.cli import run
from launcher.settings import Settings


def main() -> NoReturn:
    """Run the command on the command line, and exit with its code."""
    sys.exit(run(sys.argv[1:], Settings.from_environ(os.environ)))


if __name__ == "__main__":
    main()
