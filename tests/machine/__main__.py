"""`make machine`: boot machines and look around in them; when it ends, nothing of them is left."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from launcher.localcloud.state import STATE_DIR_VARIABLE
from launcher.settings import CONFIG_DIR_VARIABLE
from tests.fakes.s3_server import s3_server
from tests.integration.lone_machine import PIPELINES, submit
from tests.machine import build, leftovers
from tests.machine.cloud.operator import operator
from tests.machine.conftest import pointer_of
from tests.machine.fabric import fabric
from tests.machine.machine import ALL_NAMESPACES, Image, Machine, booted


def main() -> None:
    """Boot, show, open a shell; or be a cloud whose instances are such machines."""
    parser = argparse.ArgumentParser(prog="make machine", description=__doc__)
    names = sorted(folder.name for folder in PIPELINES.iterdir())
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--run", choices=names, metavar="PIPELINE", help=f"start it for a run: {', '.join(names)}"
    )
    what.add_argument(
        "--cloud",
        action="store_true",
        help="a local cloud: `launcher run` in another terminal boots a machine",
    )
    what.add_argument("--image", action="store_true", help="build the image, and no more")
    options = parser.parse_args()
    for name in leftovers.clear():
        print(f"removed what was left of {name}")
    image = build.image()
    if options.cloud:
        cloud(image)
    elif not options.image:
        one(image, options.run)


def one(image: Image, pipeline: str | None) -> None:
    """One machine: for a run, until it is off; else for a person to look around in."""
    with s3_server() as aws, fabric() as network:
        run = submit(aws, pipeline) if pipeline else None
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


def cloud(image: Image) -> None:
    """The local cloud, with a booted machine for every instance, until Enter is pressed."""
    with operator(image, build.FOLDER / "cloud", say=print) as somebody:
        # Who came here by sudo needs it there too: the cloud is root's.
        root = "sudo " if "SUDO_UID" in os.environ else ""
        settings = " ".join(
            f"{name}={somebody.environment[name]}" for name in (STATE_DIR_VARIABLE, CONFIG_DIR_VARIABLE)
        )
        print(somebody.launcher("local", "status").out)
        print("In another terminal, for example:\n")
        for words in ("run examples/lambda-variants -c local --follow", "local status", "runs list"):
            launcher = Path(sys.executable).with_name("launcher").relative_to(build.REPOSITORY)
            print(f"    {root}env {settings} {launcher} {words}")
        print("\nEnter ends the cloud and every machine in it.")
        with suppress(KeyboardInterrupt):
            sys.stdin.readline()


def shell(machine: Machine) -> None:
    """A shell in the machine, on this terminal."""
    words = ["nsenter", "--target", str(machine.leader), *ALL_NAMESPACES, "--", "/bin/bash", "--login"]
    subprocess.run(words, check=False, env={"TERM": "xterm-256color", "HOME": "/root"})


if __name__ == "__main__":
    main()
