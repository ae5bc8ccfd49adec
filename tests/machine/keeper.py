"""PID 1 of a machine's surroundings: mounts, network and processes that end with it, whatever happens.

It is started by `unshare --pid --mount --net --fork`. When it ends the kernel kills every process of the machine,
and with the last of them go its mounts and its network. It ends when the machine is off, or when its standard
input is closed: by its maker, or because its maker is gone.

    keeper.py PLAN    PLAN is JSON: mounts (commands), command, console (a path), off (a path)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path


def main() -> None:
    """Mount, say so, wait for the word that the network is there, start the machine, wait for its end."""
    plan = json.loads(sys.argv[1])
    for words in plan["mounts"]:
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    print("ready", flush=True)
    if sys.stdin.readline() != "go\n":
        os._exit(1)
    with Path(plan["console"]).open("ab") as console:
        machine = subprocess.Popen(
            plan["command"], stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
        )
    print(machine.pid, flush=True)

    def until_closed() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=until_closed, daemon=True).start()
    exit_code = machine.wait()
    Path(plan["off"]).write_text(str(exit_code))
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the maker, who ends the machine in order
    main()
