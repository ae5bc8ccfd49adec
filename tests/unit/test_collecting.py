"""What is saved of a run, in fakes: whatever breaks on the way, the rest arrives."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agent import collecting
from agent.container_plan import ContainerPlan
from agent.contract import (
    STOP,
    WORKLOAD_LOG,
    StopReason,
    StopRequest,
)
from agent.logs.sink import Denied, Receipt
from agent.reporting import Reporter
from agent.watching import Ballast
from tests.fakes.containers import Program
from tests.fakes.stage import NOW, Stage, assert_over


def test_an_artifact_that_cannot_be_brought_is_named(stage: Stage) -> None:
    """What cannot be brought to S3 is named in the status, and the rest is there."""
    stage.submit()

    def publish(plan: ContainerPlan) -> None:
        (Path(plan.working_dir) / "result.txt").write_text("42")
        (Path(plan.working_dir) / "locked.txt").symlink_to("/etc/hostname")

    stage.containers.on_start = publish
    stage.live()
    assert_over(stage, StopReason.COMPLETED)
    artifacts = stage.status.artifacts
    assert artifacts is not None
    assert artifacts.files == 1
    assert stage.store.get("artifacts/result.txt") == b"42"
    assert [line.split(":")[0] for line in artifacts.not_uploaded] == ["locked.txt"]


def test_logs_service_away_does_not_keep_the_machine(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything in S3, a stream that cannot be completed costs a moment and a warning, not hours."""
    monkeypatch.setattr(collecting, "STREAM_S", 0.5)
    stage.submit()
    stage.containers.programs[()] = Program(prints=b"one\n")
    stage.sink.put = lambda timestamp, events: _deny()  # type: ignore[method-assign]  # noqa: ARG005 - their names count  # a sink that denies all
    stage.live()
    assert_over(stage, StopReason.COMPLETED)
    assert any("CloudWatch Logs took 0 of 4 bytes" in warning for warning in stage.status.warnings)
    assert stage.store.get(WORKLOAD_LOG) == b"one\n"


def _deny() -> Receipt:
    raise Denied("logs:PutLogEvents is not allowed")


def test_a_defect_in_one_step_of_collecting_costs_only_that_step(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the diagnosis breaks, artifacts and logs are saved all the same, and the reason is what it was."""

    def broken(*_arguments: object, **_more: object) -> None:
        raise IndexError("nobody thought of this")

    monkeypatch.setattr(collecting, "diagnose", broken)
    stage.submit()
    stage.containers.programs[()] = Program(prints=b"one\n", code=1)
    stage.live()
    assert_over(stage, StopReason.WORKLOAD_FAILED)
    assert any("nobody thought of this" in warning for warning in stage.status.warnings)
    assert stage.store.get(WORKLOAD_LOG) == b"one\n"


def test_a_disk_that_takes_no_more_writes_does_not_keep_results(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where even the room kept for the end cannot be given back, what can be read is saved."""

    def read_only(_ballast: Ballast) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Ballast, "release", read_only)
    stage.submit()
    stage.containers.programs[()] = Program(prints=b"one\n")
    stage.live()
    assert_over(stage, StopReason.COMPLETED)
    assert any("Read-only" in warning for warning in stage.status.warnings)
    assert stage.store.get(WORKLOAD_LOG) == b"one\n"


def test_published_links_are_collected_whatever_ended_the_run(stage: Stage) -> None:
    """Results that are links into the work dir, Nextflow's default, are saved as the files that they point to."""
    stage.submit()

    def publish(plan: ContainerPlan) -> None:
        results = Path(plan.working_dir)
        task = results.parent / "work" / "ab" / "cdef"
        task.mkdir(parents=True)
        (task / "table.tsv").write_text("a\n")
        (results / "table.tsv").symlink_to(task / "table.tsv")
        request = StopRequest(requested_by="ada", requested_at=NOW).model_dump_json().encode()
        stage.store.put(STOP, request)

    stage.containers.programs[()] = Program(code=None)
    stage.containers.on_start = publish
    stage.live()
    assert stage.store.get("artifacts/table.tsv") == b"a\n"


def test_the_upload_of_results_is_told(stage: Stage) -> None:
    """While results travel, the status in S3 says how many files and bytes are there, of how many."""
    stage.submit()
    seen: list[str] = []

    def publish(plan: ContainerPlan) -> None:
        for name in ("a.txt", "b.txt"):
            (Path(plan.working_dir) / name).write_bytes(b"x" * 50_000_000)

    stage.containers.on_start = publish
    note = Reporter.note

    def listen(reporter: Reporter, **fields: object) -> None:
        note(reporter, **fields)
        seen.append(reporter.status.message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reporter, "note", listen)
        stage.live()
    assert_over(stage, StopReason.COMPLETED)
    told = [message for message in seen if message.startswith("Uploading")]
    assert told == [
        "Uploading the results: 1 of 2 files, 0.1 of 0.1 GB.",
        "Uploading the results: 2 of 2 files, 0.1 of 0.1 GB.",
    ]
    assert not stage.status.message.startswith("Uploading")
