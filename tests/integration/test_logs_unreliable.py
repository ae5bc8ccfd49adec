"""The whole way, from the spool to a service over HTTP, when the service or the agent fails."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from botocore.credentials import Credentials

from agent.clock import Deadline, SystemClock
from agent.logs.cloudwatch import CloudWatchSink
from agent.logs.redact import Redactor
from agent.logs.shipper import LogShipper, ShipReport, Timing
from tests.fakes.logs_service import Faults, LogsService, logs_service

CLOCK = SystemClock()
QUICK = Timing(
    poll_s=0.01,
    linger_s=0.02,
    patience_s=0.1,
    patience_max_s=0.5,
    settle_s=0.05,
    retry_s=0.02,
    retry_max_s=0.2,
)
LINES = [f"{number:07d} " + "x" * (number % 300) for number in range(100_000)]


def sink_at(service: LogsService) -> CloudWatchSink:
    """The real sink at our own service."""
    return CloudWatchSink(
        "eu-west-1",
        "/solorun/test",
        "run/workload",
        endpoint_url=service.url,
        credentials=lambda: Credentials("AKIDEXAMPLE", "not-a-secret"),
    )


def ship(folder: Path, service: LogsService, *, seconds: float = 60) -> ShipReport:
    """Ship `folder/spool` whole."""
    shipper = LogShipper(
        folder / "spool", folder / "state", sink_at(service), Redactor(["hunter2!"]), CLOCK, QUICK
    )
    with shipper:
        return shipper.finish(Deadline.after(seconds, CLOCK))


def assert_once_in_order(service: LogsService) -> None:
    """Every line is there, once, in its place."""
    events = service.look("events")
    assert len(events) == len(LINES)
    assert events == LINES
    assert service.look("problems") == []


@pytest.mark.parametrize(
    "faults",
    [
        Faults(throttle=0.5),
        Faults(error=0.25, throttle=0.25),
        Faults(error_but_taken=0.25, hang_up=0.15, hang_up_but_taken=0.15),
    ],
    ids=["throttles half", "errors and throttles half", "answers get lost"],
)
def test_half_of_the_calls_fail(tmp_path: Path, faults: Faults) -> None:
    """A service that throttles, fails or falls silent at half of the calls: nothing lost or doubled, in order."""
    (tmp_path / "spool").write_text("".join(line + "\n" for line in LINES))
    with logs_service() as service:
        service.set(faults)
        report = ship(tmp_path, service)

        assert report.complete
        assert report.events == len(LINES)
        assert_once_in_order(service)


AGENT = """
import sys
from pathlib import Path
from threading import Event
from botocore.credentials import Credentials
from agent.clock import SystemClock
from agent.logs.cloudwatch import CloudWatchSink
from agent.logs.redact import Redactor
from agent.logs.shipper import LogShipper, Timing

folder, url = Path(sys.argv[1]), sys.argv[2]
sink = CloudWatchSink("eu-west-1", "/solorun/test", "run/workload", endpoint_url=url,
                      credentials=lambda: Credentials("AKIDEXAMPLE", "not-a-secret"))
timing = Timing(poll_s=0.005, linger_s=0.01, patience_s=60, patience_max_s=60,
                settle_s=0.1, retry_s=0.02, retry_max_s=0.2)
with LogShipper(folder / "spool", folder / "state", sink, Redactor(["hunter2!"]), SystemClock(), timing):
    print("on", flush=True)
    Event().wait()
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_any_moment(tmp_path: Path, seed: int) -> None:
    """An agent that is killed again and again, while the workload prints: every line once, in order."""
    moments = random.Random(seed)  # noqa: S311 - moments of a test
    root = Path(__file__).parents[2]
    with logs_service(latency_ms=15) as service, (tmp_path / "spool").open("ab", buffering=0) as spool:
        service.set(Faults(hang_up_but_taken=0.05, throttle=0.05, seed=seed))
        printed = kills = 0
        while printed < len(LINES):
            agent = subprocess.Popen(
                [sys.executable, "-c", AGENT, str(tmp_path), service.url],
                stdout=subprocess.PIPE,
                cwd=root,
            )
            assert agent.stdout is not None
            try:
                agent.stdout.readline()
                # it imports botocore when it has something to send; from then on every moment is as good
                sent = len(service.look("batches"))
                spool.write(f"{LINES[printed]}\n".encode())
                printed += 1
                while len(service.look("batches")) == sent:
                    assert agent.poll() is None
                    time.sleep(0.01)
                deadline = Deadline.after(moments.uniform(0.1, 0.8), CLOCK)
                while not deadline.passed and printed < len(LINES):
                    more = moments.randrange(1, 1500)
                    text = "".join(line + "\n" for line in LINES[printed : printed + more])
                    half = moments.randrange(len(text))
                    spool.write(text[:half].encode())
                    time.sleep(0.03)
                    spool.write(text[half:].encode())
                    printed += more
            finally:
                agent.kill()
                agent.wait()
                agent.stdout.close()
            kills += 1
        service.set(Faults())
        batches_of_the_killed = len(service.look("batches"))
        report = ship(tmp_path, service)

        assert kills >= 3
        assert batches_of_the_killed >= 3
        assert report.complete
        assert_once_in_order(service)


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A backlog of 200 MB on a single line, with a service that is slow, takes no more than some tens of MB."""
    with (tmp_path / "spool").open("wb") as spool:
        for _ in range(200):
            spool.write(b"x" * (1 << 20))
    program = AGENT.replace(
        'timing):\n    print("on", flush=True)\n    Event().wait()\n',
        "timing) as shipper:\n"
        "    from agent.clock import Deadline\n"
        "    report = shipper.finish(Deadline.after(60, SystemClock()))\n"
        "    peak = Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]\n"
        "    print(report.bytes_shipped, peak)\n",
    )
    with logs_service(latency_ms=5, keep=False) as service:
        answer = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), service.url],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        size = sum(batch["size"] - 26 * batch["count"] for batch in service.look("batches"))

    shipped, peak_kb = answer.stdout.split()
    assert int(shipped) == 200 << 20
    assert size == 200 << 20
    assert int(peak_kb) < 100 * 1024
