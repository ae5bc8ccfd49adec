"""`make machine`: boot one machine and look around in it; when the shell ends, nothing of it is left."""

from __future__ import annotations

import argparse
import subprocess
import time

from tests.fakes.s3_server import s3_server
from tests.integration.lone_machine import PIPELINES, submit
from tests.machine import build, leftovers
from tests.machine.conftest import pointer_of
from tests.machine.fabric import fabric
from tests.machine.machine import ALL_NAMESPACES, Machine, booted


def main() -> None:
    """Boot, show, open a shell."""
    parser = argparse.ArgumentParser(prog="make machine", description=__doc__)
    names = sorted(folder.name for folder in PIPELINES.iterdir())
    parser.add_argument(
        "--run", choices=names, metavar="PIPELINE", help=f"start it for a run: {', '.join(names)}"
    )
    options = parser.parse_args()
    for name in leftovers.clear():
        print(f"removed what was left of {name}")
    image = build.image()
    with s3_server() as aws, fabric() as network:
        run = submit(aws, options.run) if options.run else None
        started = time.monotonic()
        with booted(image, network, build.FOLDER, user_data=pointer_of(run) if run else None) as machine:
            if run is None:
                machine.wait_up()
                print(
                    f"{machine.name} is up after {time.monotonic() - started:.1f} s. `exit` or Ctrl-D ends it."
                )
                shell(machine)
            else:
                machine.wait_off(within=run.spec.time_limit_s + 300)
                print(machine.console)
                print(
                    f"off after {time.monotonic() - started:.1f} s: {run.status().state}: {run.status().message}"
                )


def shell(machine: Machine) -> None:
    """A shell in the machine, on this terminal."""
    words = ["nsenter", "--target", str(machine.leader), *ALL_NAMESPACES, "--", "/bin/bash", "--login"]
    subprocess.run(words, check=False, env={"TERM": "xterm-256color", "HOME": "/root"})


if __name__ == "__main__":
    main()
