"""A run that ends on one machine goes on on another: real Nextflow, killed, its folder gone, brought back from S3."""

from __future__ import annotations

import contextlib
import csv
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.carry import TASKS, Carrier
from agent.clock import Deadline, SystemClock
from agent.folder import RunFolder
from agent.nextflow_cache import NextflowCache
from agent.store import Store
from launcher.catalog import NEXTFLOW_IMAGE
from tests.fakes.flaky_proxy import flaky_proxy
from tests.fakes.s3_server import S3Server

PIPELINE = Path(__file__).parents[1] / "pipelines" / "resumable"
pytestmark = pytest.mark.timeout(900)  # up to three times Nextflow, whole
BEFORE_LAST = 5
"""Tasks that end before the one that waits."""


@dataclass
class Machine:
    """What stands for a machine: a run folder at the path that every machine uses, and Nextflow's container."""

    folder: RunFolder
    session: str
    gate: Path
    container: str

    def prepare(self) -> None:
        """An empty machine with the pipeline's files, as the bundle brings them: with their mtimes."""
        shutil.rmtree(self.folder.root, ignore_errors=True)
        self.folder.create()
        shutil.copytree(PIPELINE, self.folder.pipeline)

    def start(self, name: str, *extra: str) -> subprocess.Popen[bytes]:
        """Run the pipeline as the agent does: cache in `launch`, work dir and trace in the run's folder."""
        root = str(self.folder.root)
        command = ["docker", "run", "--rm", "--name", self.container, "--network", "none"]
        command += ["-v", f"{root}:{root}", "-v", f"{self.gate.parent}:{self.gate.parent}"]
        command += ["-w", str(self.folder.results), "-e", f"NXF_UUID={self.session}"]
        command += ["-e", f"NXF_CACHE_DIR={self.folder.launch}/.nextflow", "-e", "NXF_OFFLINE=true"]
        command += [NEXTFLOW_IMAGE, "nextflow", "-log", str(self.folder.nextflow_log)]
        command += ["run", str(self.folder.pipeline), "-name", name, "-ansi-log", "false"]
        command += ["-work-dir", str(self.folder.work), "-with-trace", str(self.folder.trace)]
        command += ["--gate", str(self.gate), "--outdir", str(self.folder.results), *extra]
        config = self.folder.pipeline / "nextflow.config"
        config.write_text(
            "trace.fields = 'task_id,hash,process,status,exit,workdir'\ntrace.overwrite = true\n"
        )
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def complete(self, name: str, *extra: str) -> dict[str, list[str]]:
        """Run to the end; the tasks' statuses by process."""
        process = self.start(name, *extra)
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output.decode()
        return self.statuses()

    def statuses(self) -> dict[str, list[str]]:
        """What the trace says, by process."""
        found: dict[str, list[str]] = {}
        if self.folder.trace.exists():
            # Its last line may be half written.
            whole = self.folder.trace.read_text().rpartition("\n")[0].splitlines()
            for row in csv.DictReader(whole, delimiter="\t"):
                found.setdefault(row["process"], []).append(row["status"])
        return found

    def run_until_last(self, name: str) -> None:
        """Run until every task but the last has ended, and its cache knows of them, and leave it running."""
        process = self.start(name)
        deadline = Deadline.after(120, SystemClock())
        while sum(map(len, self.statuses().values())) < BEFORE_LAST:
            assert process.poll() is None, process.stdout and process.stdout.read().decode()
            assert not deadline.passed, self.statuses()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        self.process = process
        # The record of a task comes a moment after its row in the trace.
        cache, before = NextflowCache(self.folder.launch, self.session), None
        while before != (before := cache.state()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)

    def kill(self) -> None:
        """The machine is gone from one moment to the next."""
        subprocess.run(["docker", "kill", self.container], check=False, capture_output=True)
        self.process.communicate(timeout=30)

    def stop(self) -> None:
        """Nextflow is told to end, and does."""
        subprocess.run(["docker", "stop", self.container], check=True, capture_output=True)
        self.process.communicate(timeout=30)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    session = str(uuid.uuid4())
    (tmp_path / "gates").mkdir()
    machine = Machine(
        RunFolder(tmp_path / session),
        session,
        tmp_path / "gates" / "open",
        f"solorun-test-carry-{session[:8]}",
    )
    machine.prepare()
    yield machine
    subprocess.run(["docker", "rm", "--force", machine.container], check=False, capture_output=True)


def soon() -> Deadline:
    return Deadline.after(60, SystemClock())


def test_killed_while_copying_then_resumed_twice(aws: S3Server, machine: Machine) -> None:
    """What was copied while Nextflow ran is enough: after a power loss the finished tasks are cached on another
    machine, and again on a third, though the first run's objects are gone by then."""
    first, second, third = (aws.store(f"runs/{machine.session}-{i}") for i in (1, 2, 3))
    machine.run_until_last("first")
    Carrier(first, machine.folder, machine.session).carry()
    machine.kill()

    machine.prepare()
    carrier = Carrier(second, machine.folder, machine.session)
    report = carrier.restore(first)
    assert (report.tasks, report.has_cache, report.not_restored) == (BEFORE_LAST, True, ())
    machine.gate.touch()
    assert machine.complete("second", "-resume", machine.session) == {
        "FILES": ["CACHED"] * 3,
        "FOLDER": ["CACHED"],
        "WORDS": ["CACHED"],
        "LAST": ["COMPLETED"],
    }
    carrier.finish(soon())
    assert (machine.folder.results / "last.txt").read_text() == "SAMPLE A SAMPLE B SAMPLE C 6\n"
    assert (machine.folder.results / "a upper.txt").read_text() == "SAMPLE A\n"

    for stored in first.list():
        aws.client.delete_object(Bucket=aws.bucket, Key=f"runs/{machine.session}-1/{stored.key}")
    machine.prepare()
    assert Carrier(third, machine.folder, machine.session).restore(second).tasks == BEFORE_LAST + 1
    statuses = machine.complete("third", "-resume", machine.session)
    assert {status for process in statuses.values() for status in process} == {"CACHED"}
    assert sum(map(len, statuses.values())) == BEFORE_LAST + 1


def test_two_minutes_notice_through_a_failing_s3(aws: S3Server, machine: Machine) -> None:
    """Nextflow is stopped in order, everything is copied at the end while a third of S3's calls fail, and resumes."""
    prefix = f"runs/{machine.session}"
    machine.run_until_last("first")
    machine.stop()
    with flaky_proxy(aws.url, fraction=1 / 3, seed=5) as proxy:
        Carrier(aws.store(prefix, url=proxy.url), machine.folder, machine.session).finish(soon())
        machine.prepare()
        carrier = Carrier(aws.store(f"{prefix}-2", url=proxy.url), machine.folder, machine.session)
        assert carrier.restore(aws.store(prefix, url=proxy.url)).tasks == BEFORE_LAST
        assert proxy.failed > 5
    machine.gate.touch()
    statuses = machine.complete("second", "-resume", machine.session)
    assert statuses.pop("LAST") == ["COMPLETED"]
    assert {status for process in statuses.values() for status in process} == {"CACHED"}


def test_cache_copied_again_and_again_while_nextflow_writes(aws: S3Server, machine: Machine) -> None:
    """Every copy of the cache that is taken while tasks end can be opened by the next Nextflow."""
    store: Store = aws.store(f"runs/{machine.session}")
    carrier = Carrier(store, machine.folder, machine.session)
    process = machine.start("first")
    copies = 0
    deadline = Deadline.after(120, SystemClock())
    while sum(map(len, machine.statuses().values())) < BEFORE_LAST or len(list(store.list(TASKS))) < 2:
        assert process.poll() is None
        assert not deadline.passed
        carrier.carry()
        copies += 1
    machine.process = process
    machine.kill()
    assert copies > 1
    machine.prepare()
    report = Carrier(aws.store(f"runs/{machine.session}-2"), machine.folder, machine.session).restore(store)
    machine.gate.touch()
    statuses = machine.complete("second", "-resume", machine.session)
    cached = sum(status == "CACHED" for process in statuses.values() for status in process)
    # The very last task may be in the trace a moment before it is in the cache.
    assert cached >= report.tasks - 1 >= 1
