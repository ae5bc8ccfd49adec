"""A Docker daemon of our own: its awslogs driver needs credentials that the machine's daemon does not have."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 60


@contextmanager
def second_docker(image: str) -> Iterator[str]:
    """Run it for the duration, with `image` copied into it; yields its socket's address.

    Needs root. Everything it makes is in one temporary folder, and gone afterwards.
    """
    root = Path(tempfile.mkdtemp(prefix="bench-docker-", dir="/var/tmp"))
    host = f"unix://{root}/docker.sock"
    bridge = f"bench{os.getpid()}"
    subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True)
    subprocess.run(["ip", "addr", "add", "198.18.0.1/24", "dev", bridge], check=True)
    command = [
        "dockerd",
        f"--data-root={root}/data",
        f"--exec-root={root}/exec",
        f"--pidfile={root}/pid",
        f"--host={host}",
        # A bridge of its own: with `none` a daemon removes docker0, which is the machine's own daemon's.
        f"--bridge={bridge}",
        "--iptables=false",
        "--ip-masq=false",
    ]
    credentials = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
    with (root / "log").open("wb") as log:
        daemon = subprocess.Popen(command, env={**os.environ, **credentials}, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_S
        while subprocess.run(["docker", "-H", host, "info"], capture_output=True).returncode:
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no second dockerd: {(root / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as save:
            subprocess.run(
                ["docker", "-H", host, "load", "-q"], stdin=save.stdout, check=True, capture_output=True
            )
        yield host
    finally:
        daemon.terminate()
        daemon.wait()
        subprocess.run(["ip", "link", "delete", bridge], check=False)
        for mount in Path("/proc/mounts").read_text().splitlines():
            if mount.split()[1].startswith(f"{root}/"):  # the network namespace, which Docker leaves mounted
                subprocess.run(["umount", mount.split()[1]], check=True)
        shutil.rmtree(root)
