"""The agent itself: how soon the workload runs, how soon the machine is off, and what the agent costs meanwhile."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import psutil

from agent.contract import RunState
from launcher.catalog import NEXTFLOW_IMAGE
from tests.bench.table import BenchRow
from tests.fakes.s3_server import S3Server, s3_server
from tests.integration.lone_machine import eventually, lone_machine, submit

ROUNDS = 7
IDLE_S = 30
START_TARGET_S = 0.6
END_TARGET_S = 0.5
RSS_TARGET_MB = 90
CPU_TARGET = 1.0


def docker(*words: str) -> str:
    """What a docker command prints."""
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


class Events:
    """Hears Docker say when containers with a label start and die."""

    def __init__(self, *labels: str) -> None:
        filters = [word for label in labels for word in ("--filter", f"label={label}")]
        self._docker = subprocess.Popen(
            ["docker", "events", "--format", "{{json .}}", "--filter", "type=container", *filters],
            stdout=subprocess.PIPE,
        )
        self._seen: dict[str, float] = {}
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self._docker.stdout is not None
        for line in self._docker.stdout:
            event = json.loads(line)
            self._seen.setdefault(event["Action"], event["timeNano"] / 1e9)

    def first(self, action: str) -> float:
        """When it first happened, in seconds since 1970."""
        return float(eventually(f"a container's {action}", lambda: self._seen.get(action)))

    def close(self) -> None:
        """Hear no more."""
        self._docker.terminate()
        self._docker.wait()
        self._thread.join()


def docker_alone() -> float:
    """Seconds from `docker run` to a running container: the same image, network and mounts."""
    events = Events("solorun.bench=alone")
    with tempfile.TemporaryDirectory() as folder:
        before = time.time()
        container = docker(
            *(
                "run",
                "--detach",
                "--network",
                "host",
                "--log-driver",
                "none",
                "--label",
                "solorun.bench=alone",
            ),
            *("--volume", "/var/run/docker.sock:/var/run/docker.sock", "--volume", f"{folder}:{folder}"),
            *("--entrypoint", "/bin/sh", NEXTFLOW_IMAGE, "-c", "sleep 60"),
        )
        took = events.first("start") - before
        docker("rm", "--force", container)
    events.close()
    return took


def one_life(aws: S3Server, folder: Path) -> tuple[float, float]:
    """Seconds from the agent's start to the running workload, and from its exit to the shutdown command."""
    run = submit(aws, "hello")
    events = Events(f"solorun.run={run.spec.run_id}", "solorun.role=workload")
    with lone_machine(folder, run) as machine:
        before = time.time()
        machine.boot()
        machine.ends()
        started = events.first("start") - before
        ended = machine.power_off.stat().st_mtime - events.first("die")
    events.close()
    status = run.status()
    if status.state is not RunState.SUCCEEDED:
        raise RuntimeError(f"the run did not succeed: {status.message}\n{machine.console}")
    return started, ended


def idle(aws: S3Server, folder: Path) -> tuple[float, float]:
    """MB of memory, and percent of a core, of an agent beside a task that sleeps."""
    run = submit(aws, "sleepy", params={"seconds": 600})
    with lone_machine(folder, run) as machine:
        agent = psutil.Process(machine.boot().pid)
        run.until(RunState.RUNNING)
        eventually("the task runs", lambda: run.status().tasks.running == 1)
        before = agent.cpu_times()
        threading.Event().wait(IDLE_S)
        after = agent.cpu_times()
        busy = after.user + after.system - before.user - before.system
        return agent.memory_info().rss / 1e6, 100 * busy / IDLE_S


def rows() -> list[BenchRow]:
    """The agent's rows of the table."""
    with tempfile.TemporaryDirectory(prefix="bench-agent-") as name, s3_server() as aws:
        folder = Path(name)
        alone, starts, ends = [], [], []
        for number in range(ROUNDS):
            alone.append(docker_alone())
            start, end = one_life(aws, folder / str(number))
            starts.append(start)
            ends.append(end)
        rss, cpu = idle(aws, folder / "idle")
    start, baseline, end = map(statistics.median, (starts, alone, ends))
    return [
        BenchRow(
            "agent process start → workload's container runs, against `docker run` of the same",
            start,
            baseline,
            "s",
            f"at most the baseline + {START_TARGET_S} s",
            start <= baseline + START_TARGET_S,
        ),
        BenchRow(
            "workload exit → shutdown called, nothing left to upload",
            end,
            None,
            "s",
            f"at most {END_TARGET_S} s",
            end <= END_TARGET_S,
        ),
        BenchRow(
            "agent idle beside a run: memory",
            rss,
            None,
            "MB",
            f"at most {RSS_TARGET_MB}",
            rss <= RSS_TARGET_MB,
        ),
        BenchRow(
            "agent idle beside a run: cpu",
            cpu,
            None,
            "% of a core",
            f"at most {CPU_TARGET}",
            cpu <= CPU_TARGET,
        ),
    ]
