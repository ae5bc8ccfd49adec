"""`python -m launcher.localcloud`: the server's process, started by `launcher local up`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from launcher.clock import SystemClock
from launcher.errors import LauncherError
from launcher.localcloud.processes import CLOUD_FOLDER, CLOUD_ID
from launcher.localcloud.server import ServerOptions, serve


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(description="The local cloud's server; see `launcher local up`.")
    parser.add_argument("--agent-command", type=json.loads, required=True, help="a JSON list")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("botocore").setLevel(logging.WARNING)
    options = ServerOptions(
        folder=Path(os.environ[CLOUD_FOLDER]),
        cloud_id=os.environ[CLOUD_ID],
        agent_command=tuple(arguments.agent_command),
        pid=os.getpid(),
    )
    try:
        serve(options, os.environ, SystemClock())
    except LauncherError as error:
        print(f"error: {error.message}\n{error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
