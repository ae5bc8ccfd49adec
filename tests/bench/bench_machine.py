"""The machine: boot to the workload's container, the workload's end to power off, and what the roles cost at boot.

Needs root, and what tests/machine needs. Machines of both sides are booted in turns, so that this computer's other
work weighs on both alike; the first of each warms the page cache and does not count.

No moment is asked for while it may happen: files that containers make on the machine's disk have a time of birth,
and the machine's end is the end of its process.
"""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

from agent.contract import RunState
from agent.folder import RunFolder
from agent.workloads.nextflow_launch import NEXTFLOW_ENDED
from launcher.catalog import NEXTFLOW_IMAGE
from tests.bench.bare_unit import BareUnit
from tests.bench.boot_times import PROPERTIES, parse_boot_times
from tests.bench.table import BenchRow
from tests.fakes.s3_server import S3Server, s3_server
from tests.integration.lone_machine import eventually, submit
from tests.machine import build, leftovers
from tests.machine.conftest import pointer_of
from tests.machine.fabric import Fabric, fabric
from tests.machine.machine import Image, Machine, booted

_Figure = TypeVar("_Figure")

ROUNDS: Final = 7
START_TARGET_S: Final = 1.0
END_TARGET_S: Final = 2.0
BOOT_TARGET: Final = 1.15
_LIFE_S: Final = 300.0
_SCRATCH: Final = Path("/scratch")
_BARE: Final = BareUnit(NEXTFLOW_IMAGE, ("nextflow", "-q", "run", "/opt/nextflow/hello"), _SCRATCH / "bare")


@dataclass(frozen=True)
class Life:
    """Seconds of one machine's life."""

    start: float
    """From the word to boot until the container's first process ran."""
    end: float
    """From the workload's end until the machine was off."""


def rows() -> list[BenchRow]:
    """Three rows; takes about four minutes when the machine's image is built."""
    leftovers.clear()
    image = build.image()
    with fabric() as network:
        return [*_lives(image, network), _userspace(image, network)]


# --- boot to container, workload's end to off


def _lives(image: Image, network: Fabric) -> list[BenchRow]:
    with s3_server() as aws:
        agents, bare = _in_turns(
            lambda: _agents_life(image, network, aws), lambda: _bare_life(image, network)
        )
    start, bare_start = _medians(agents, bare, lambda life: life.start)
    end, bare_end = _medians(agents, bare, lambda life: life.end)
    return [
        BenchRow(
            "machine boot → workload's container runs, against a bare unit's `docker run`",
            start,
            bare_start,
            "s",
            f"at most the baseline + {START_TARGET_S} s",
            start <= bare_start + START_TARGET_S,
        ),
        BenchRow(
            "workload exit → machine off, against `poweroff` alone",
            end,
            bare_end,
            "s",
            f"at most the baseline + {END_TARGET_S} s",
            end <= bare_end + END_TARGET_S,
        ),
    ]


def _agents_life(image: Image, network: Fabric, aws: S3Server) -> Life:
    run = submit(aws, "hello")
    with booted(image, network, build.FOLDER, user_data=pointer_of(run)) as machine:
        machine.wait_off(within=_LIFE_S)
        status = run.status()
        if status.state is not RunState.SUCCEEDED:
            raise RuntimeError(f"the run did not succeed: {status.message}\n{machine.console[-3000:]}")
        folder = RunFolder(_SCRATCH / "solorun" / run.spec.workload.session_id)
        return _life(machine, folder.spool, folder.config / NEXTFLOW_ENDED)


def _bare_life(image: Image, network: Fabric) -> Life:
    with booted(image, network, build.FOLDER, files=_BARE.files(image.root)) as machine:
        machine.wait_off(within=_LIFE_S)
        return _life(machine, _BARE.output, _BARE.ended)


def _life(machine: Machine, output: Path, ended: Path) -> Life:
    off = (machine.folder / "off").stat().st_mtime
    return Life(_born(machine, output) - machine.started_at, off - _born(machine, ended))


def _born(machine: Machine, path: Path) -> float:
    """When a file on the machine's disk was made, in seconds since 1970."""
    here = machine.folder / "scratch" / path.relative_to(_SCRATCH)
    done = subprocess.run(["stat", "--format=%.9W", str(here)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{done.stderr.strip()}\n{machine.console[-3000:]}")
    if float(done.stdout) == 0:
        raise RuntimeError(
            f"the file system of {build.FOLDER} does not know when a file was made: use ext4 or XFS"
        )
    return float(done.stdout)


# --- userspace


def _userspace(image: Image, network: Fabric) -> BenchRow:
    plain = Image(build.plain_root(), None)
    with TemporaryDirectory(prefix="plain-docker-", dir=build.FOLDER) as docker:
        ours, theirs = _in_turns(
            lambda: _userspace_s(image, network), lambda: _userspace_s(plain, network, Path(docker))
        )
    measured, baseline = _medians(ours, theirs, lambda seconds: seconds)
    return BenchRow(
        "userspace boot, against the same root with Docker and without our roles",
        measured,
        baseline,
        "s",
        f"at most {BOOT_TARGET} x the baseline",
        measured <= BOOT_TARGET * baseline,
    )


def _userspace_s(image: Image, network: Fabric, docker: Path | None = None) -> float:
    with booted(image, network, build.FOLDER, docker=docker) as machine:
        # The console is a file: looking at it costs the machine nothing.
        eventually("the target is reached", lambda: "Multi-User System" in machine.console, within=60)
        words = ("systemctl", "show", *(f"--property={name}" for name in PROPERTIES))
        took = eventually(
            "the boot is over",
            lambda: parse_boot_times(machine.exec(*words)).userspace_s,
            every=0.5,
        )
        return float(took)


# --- figures


def _in_turns(
    ours: Callable[[], _Figure], theirs: Callable[[], _Figure]
) -> tuple[list[_Figure], list[_Figure]]:
    """Both, ROUNDS times, after a first time that does not count."""
    pairs = [(ours(), theirs()) for _ in range(ROUNDS + 1)][1:]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _medians(
    ours: list[_Figure], theirs: list[_Figure], figure: Callable[[_Figure], float]
) -> tuple[float, float]:
    return statistics.median(map(figure, ours)), statistics.median(map(figure, theirs))
