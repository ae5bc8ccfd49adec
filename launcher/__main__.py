"""`python -m launcher`, and the console script: the only place that reads the environment or exits."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from typing import NoReturn

from launcher.settings import Settings


def main() -> NoReturn:
    """Run the command on the command line, and exit with its code."""
    # A library of a library says so while it is imported, where several threads import at once.
    warnings.filterwarnings("ignore", message="SOCKS support in urllib3")
    # a command is mostly imports, and imports are no garbage: looking for some takes a sixth of its time
    gc.set_threshold(100_000)
    from launcher.cli import run

    sys.exit(run(sys.argv[1:], Settings.from_environ(os.environ)))


if __name__ == "__main__":
    main()
