"""Figures of the log's way: container → spool → CloudWatch Logs. `python -m tests.bench logs` prints them."""

import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from botocore.credentials import Credentials

from agent.clock import Deadline, SystemClock
from agent.logs.cloudwatch import CloudWatchSink
from agent.logs.redact import Redactor
from agent.logs.shipper import LogShipper
from tests.bench.second_docker import second_docker
from tests.bench.table import BenchRow
from tests.fakes.logs_service import LogsService, logs_service

IMAGES = ("solorun/base:bookworm", "solorun/demo-tools:1")
"""Any of them does: it needs a shell and cat."""
LINES = 2_000_000
LINE_BYTES = 120
LATENCY_MS = 50
BOTO3_LINES = 300_000
LOW_RATE_LINES = 20
MEMORY_MB = 100
GROUP, REGION = "/solorun/bench", "eu-west-1"
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Shipped:
    """How shipping went."""

    seconds: float
    lines: int
    cpu_us_per_line: float = 0.0
    peak_mb: float = 0.0

    @property
    def mb_per_s(self) -> float:
        """Megabytes of log a second."""
        return self.lines * LINE_BYTES / 1e6 / self.seconds


def rows() -> list[BenchRow]:
    """All figures; takes about two minutes, and needs Docker and root."""
    image = _image()
    with _lines() as lines:
        return [_spool_row(image, lines), *_ship_rows(image, lines), _latency_row()]


# --- container → spool ---


def _spool_row(image: str, lines: Path) -> BenchRow:
    size = LINES * LINE_BYTES
    spool = lines.parent / "spool"
    ours, theirs = [], []
    lost = 0
    for _ in range(3):
        spool.unlink(missing_ok=True)
        spool.touch()
        redirect = ["--entrypoint", "/bin/sh", image, "-c", 'exec "$@" >>"$0" 2>&1', str(spool)]
        ours.append(_run("docker", lines.parent, ["--log-driver", "none", *redirect, "cat", str(lines)]))
        lost = max(lost, size - spool.stat().st_size)
        theirs.append(_run("docker", lines.parent, ["--log-driver", "json-file", image, "cat", str(lines)]))
    _same(spool, lines)
    our_rate, their_rate = size / 1e6 / statistics.median(ours), size / 1e6 / statistics.median(theirs)
    return BenchRow(
        f"container output → spool, 2 million lines of 120 bytes, {lost // LINE_BYTES} lost",
        our_rate,
        their_rate,
        "MB/s",
        "at least 3 x docker run with json-file, 0 lost",
        our_rate >= 3 * their_rate and lost == 0,
    )


def _same(one: Path, other: Path) -> None:
    subprocess.run(["cmp", str(one), str(other)], check=True)


# --- spool → Logs ---


def _ship_rows(image: str, lines: Path) -> list[BenchRow]:
    with logs_service(latency_ms=LATENCY_MS, keep=False) as service:
        ours = _ship_in_a_process("ours", lines, service)
        lost = LINES - _count_in_order(service)
    with logs_service(latency_ms=LATENCY_MS, keep=False) as service:
        boto3 = _ship_in_a_process("boto3", lines, service)
    with logs_service(latency_ms=LATENCY_MS, keep=False) as service, second_docker(image) as host:
        awslogs = _awslogs(host, image, lines, service)
    what = f"spool → Logs, {LATENCY_MS} ms of latency"
    return [
        BenchRow(
            f"{what}, the same lines, {lost} lost",
            ours.mb_per_s,
            awslogs.mb_per_s,
            "MB/s",
            "at least 1.5 x Docker's awslogs, blocking, 0 lost",
            ours.mb_per_s >= 1.5 * awslogs.mb_per_s and lost == 0,
        ),
        BenchRow(
            f"{what}, processor time a line",
            ours.cpu_us_per_line,
            boto3.cpu_us_per_line,
            "µs",
            "no more than boto3 with full batches",
            ours.cpu_us_per_line <= boto3.cpu_us_per_line,
        ),
        BenchRow(
            f"{what}, peak memory of the process",
            ours.peak_mb,
            None,
            "MB",
            f"at most {MEMORY_MB} MB, whatever the backlog",
            ours.peak_mb <= MEMORY_MB,
        ),
    ]


def _ship_in_a_process(how: str, lines: Path, service: LogsService) -> Shipped:
    """In a process of its own, so that time and memory are its own."""
    command = [sys.executable, "-m", __name__, how, str(lines), service.url]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=_ROOT)
    return Shipped(**json.loads(answer.stdout))


def _ours(lines: Path, url: str) -> Shipped:
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as state:
        began, cpu = time.monotonic(), time.process_time()
        with LogShipper(
            lines, Path(state), _sink(url, "bench/ours"), Redactor(["hunter2!"]), clock
        ) as shipper:
            report = shipper.finish(Deadline.after(600, clock))
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    return Shipped(seconds, report.events, cpu / report.events * 1e6, int(peak) / 1024)


def _boto3(lines: Path, url: str) -> Shipped:
    """put_log_events with batches as full as they may be, one after the other; its imports are not counted."""
    import boto3

    session = boto3.session.Session(
        aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="not-a-secret", region_name=REGION
    )
    logs = session.client("logs", endpoint_url=url)
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName="bench/boto3")
    per_batch = 1_048_576 // (LINE_BYTES - 1 + 26)
    began, cpu = time.monotonic(), time.process_time()
    with lines.open() as file:
        for start in range(0, BOTO3_LINES, per_batch):
            now = int(time.time() * 1000)
            count = min(per_batch, BOTO3_LINES - start)
            events: Any = [{"timestamp": now, "message": next(file).rstrip("\n")} for _ in range(count)]
            logs.put_log_events(logGroupName=GROUP, logStreamName="bench/boto3", logEvents=events)
    return Shipped(time.monotonic() - began, BOTO3_LINES, (time.process_time() - cpu) / BOTO3_LINES * 1e6)


def _awslogs(host: str, image: str, lines: Path, service: LogsService) -> Shipped:
    """Docker's own driver, until the service has the last line."""
    options = {
        "mode": "blocking",
        "awslogs-region": REGION,
        "awslogs-endpoint": service.url,
        "awslogs-group": GROUP,
        "awslogs-stream": "bench/awslogs",
        "awslogs-create-group": "true",
    }
    flags = ["--log-driver", "awslogs"]
    for name, value in options.items():
        flags += ["--log-opt", f"{name}={value}"]
    began = time.monotonic()
    _run(f"docker -H {host}", lines.parent, [*flags, image, "cat", str(lines)])
    deadline = time.monotonic() + 60
    while (count := sum(batch["count"] for batch in service.look("batches"))) < LINES:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return Shipped(time.monotonic() - began, count)


def _count_in_order(service: LogsService) -> int:
    """How many lines arrived; each line begins with its number, and all must be in their order.

    Raises:
        AssertionError: a line is missing, doubled or out of its place, or a batch was beyond the limits.
    """
    assert service.look("problems") == []
    expected = 0
    for batch in service.look("batches"):
        first, last = int(batch["first"].split()[0]), int(batch["last"].split()[0])
        assert (first, last) == (expected, expected + batch["count"] - 1), (
            "lines lost, doubled or out of order"
        )
        expected = last + 1
    return expected


# --- a line printed → readable ---


def _latency_row() -> BenchRow:
    clock, seen = SystemClock(), []
    moments = random.Random(1)  # noqa: S311 - moments of a benchmark
    with logs_service(latency_ms=LATENCY_MS) as service, tempfile.TemporaryDirectory() as folder:
        spool = Path(folder) / "spool"
        with (
            LogShipper(spool, Path(folder), _sink(service.url, "bench/slow"), Redactor(), clock) as shipper,
            spool.open("ab", buffering=0) as printed,
        ):
            for number in range(LOW_RATE_LINES):
                time.sleep(moments.uniform(0.1, 1.5))
                printed.write(b"line %d\n" % number)
                began = time.monotonic()
                while f"line {number}" not in service.look("events"):
                    time.sleep(0.01)
                seen.append(time.monotonic() - began)
            shipper.finish(Deadline.after(10, clock))
    median = statistics.median(seen)
    return BenchRow(
        f"a line printed → readable in Logs, at low rate, median (worst: {max(seen):.2f} s)",
        median,
        None,
        "s",
        "at most 1.5 s",
        median <= 1.5,
    )


# --- parts ---


def _sink(url: str, stream: str) -> CloudWatchSink:
    keys = Credentials("AKIDEXAMPLE", "not-a-secret")
    return CloudWatchSink(REGION, GROUP, stream, endpoint_url=url, credentials=lambda: keys)


def _image() -> str:
    for image in IMAGES:
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0:
            return image
    raise RuntimeError(f"none of {', '.join(IMAGES)} is there: `make demo` makes them")


def _run(docker: str, folder: Path, arguments: list[str]) -> float:
    """Seconds from `docker run` to the container's end."""
    began = time.monotonic()
    container = _docker(docker, "run", "-d", "--network", "host", "-v", f"{folder}:{folder}", *arguments)
    try:
        status = _docker(docker, "wait", container)
        seconds = time.monotonic() - began
        assert int(status) == 0, f"the container exited with {status}"
    finally:
        _docker(docker, "rm", "-f", container)
    return seconds


def _docker(docker: str, *arguments: str) -> str:
    done = subprocess.run([*docker.split(), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


@contextmanager
def _lines() -> Iterator[Path]:
    """A file of numbered lines, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="bench-logs-"))
    try:
        with (folder / "lines").open("w") as file:
            for number in range(LINES):
                file.write(f"{number:08d} ".ljust(LINE_BYTES - 1, "x") + "\n")
        yield folder / "lines"
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """The process that a row starts: says how the shipping went, as JSON."""
    how, lines, url = sys.argv[1:]
    print(json.dumps(asdict({"ours": _ours, "boto3": _boto3}[how](Path(lines), url))))


if __name__ == "__main__":
    main()
