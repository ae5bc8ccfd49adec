"""How a command ends: its exit code, and what is said when it failed."""

from __future__ import annotations

import sys
from collections.abc import Callable

from launcher.errors import ExitCode, Interrupted, LauncherError


def ended(command: Callable[[], object]) -> int:
    """Run a command; its exit code. What failed, why, and what to do goes to stderr."""
    try:
        command()
    except LauncherError as error:
        print("" if isinstance(error, Interrupted) else "error: ", error.message, sep="", file=sys.stderr)
        for problem in error.problems:
            print(f"  - {problem}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return int(error.exit_code)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        print("Broken off. Run this again: it goes on.", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    return int(ExitCode.OK)
