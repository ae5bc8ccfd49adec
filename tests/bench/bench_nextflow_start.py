"""Nextflow's hello in our container image: with the class-data archive and flags, against without."""

from __future__ import annotations

import statistics
import subprocess

from launcher.catalog import NEXTFLOW_IMAGE
from tests.bench.table import BenchRow

ROUNDS = 5
TARGET = 0.6

# Both run in one container, in turns, so that the machine's other work weighs on both alike. The baseline is Java as
# it comes, with the same class path and the same --add-opens, without which Nextflow does not run.
_SCRIPT = """
grep -v -e ^-XX:SharedArchiveFile -e ^-Xshare -e ^-XX:TieredStopAtLevel /opt/nextflow/java.args > /tmp/plain.args
cd /tmp
timed() {
    start=$(date +%s%N); "$@" > out 2>&1 || { cat out; exit 1; }; end=$(date +%s%N)
    echo $(( end - start ))
}
nextflow run /opt/nextflow/hello > /dev/null 2>&1
for round in $(seq ROUNDS); do
    echo "with $(timed nextflow -q run /opt/nextflow/hello)"
    echo "plain $(timed java @/tmp/plain.args nextflow.cli.Launcher -q run /opt/nextflow/hello)"
done
"""


def seconds() -> dict[str, list[float]]:
    """Seconds of each run, `with` and `plain`."""
    done = subprocess.run(
        [
            *("docker", "run", "--rm", "--network", "none", "-e", "NXF_OFFLINE=true"),
            *(NEXTFLOW_IMAGE, "sh", "-c", _SCRIPT.replace("ROUNDS", str(ROUNDS))),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[float]] = {"with": [], "plain": []}
    for line in done.stdout.splitlines():
        kind, nanoseconds = line.split()
        found[kind].append(int(nanoseconds) / 1e9)
    return found


def rows() -> list[BenchRow]:
    """One row: the medians."""
    found = seconds()
    ours, plain = statistics.median(found["with"]), statistics.median(found["plain"])
    return [
        BenchRow(
            "Nextflow hello in our image, against the same without archive and flags",
            ours,
            plain,
            "s",
            f"at most {TARGET} x",
            ours <= TARGET * plain,
        )
    ]
