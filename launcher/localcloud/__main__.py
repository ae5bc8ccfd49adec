"""`python -m launcher.localcloud`: the server's process, started by `launcher local up`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from functools import partial
from pathlib import Path

from launcher.clock import SystemClock
from launcher.errors import LauncherError
from launcher.localcloud.ground import MakeSite
from launcher.localcloud.process_site import process_site
from launcher.localcloud.processes import CLOUD_FOLDER, CLOUD_ID
from launcher.localcloud.server import ServerOptions, serve


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(description="The local cloud's server; see `launcher local up`.")
    parser.add_argument(
        "--agent-command",
        type=json.loads,
        default=[sys.executable, "-m", "agent"],
        help="starts the agent on a machine, a JSON list",
    )
    arguments = parser.parse_args()
    return be_server(partial(process_site, agent_command=tuple(arguments.agent_command)))


def be_server(make_site: MakeSite) -> int:
    """The server's process, whatever its machines are; returns the exit code."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("botocore").setLevel(logging.WARNING)
    options = ServerOptions(
        folder=Path(os.environ[CLOUD_FOLDER]),
        cloud_id=os.environ[CLOUD_ID],
        pid=os.getpid(),
    )
    try:
        serve(options, os.environ, SystemClock(), make_site)
    except LauncherError as error:
        print(f"error: {error.message}\n{error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
