"""Counts from what Nextflow writes, as it grows: real traces and logs, a piece at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.contract import TaskCounts
from agent.workloads.nextflow_trace import TraceReader, read_rows

SAMPLES = Path(__file__).parent / "samples"


def reader_of(sample: str) -> TraceReader:
    return TraceReader(SAMPLES / sample / "trace.txt", SAMPLES / sample / "nextflow.log")


@pytest.mark.parametrize(
    ("sample", "counts"),
    [
        ("task-failed", TaskCounts(submitted=2, failed=2)),
        ("retried", TaskCounts(submitted=3, succeeded=1, failed=1)),
        ("many-fail", TaskCounts(submitted=3, failed=1)),
        ("too-big", TaskCounts(failed=1)),
        ("syntax-error", TaskCounts()),
        ("no-main", TaskCounts()),
    ],
)
def test_counts(sample: str, counts: TaskCounts) -> None:
    """The counts of real runs; a failed attempt that was tried again is no failed task."""
    assert reader_of(sample).counts() == counts


def test_nothing_yet(tmp_path: Path) -> None:
    """Before Nextflow has written anything all counts are zero, and there are no rows."""
    assert TraceReader(tmp_path / "trace.txt", tmp_path / "log").counts() == TaskCounts()
    assert list(read_rows(tmp_path / "trace.txt")) == []


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_counts_as_files_grow(tmp_path: Path, step: int) -> None:
    """However the files are cut while they grow, the counts end the same and never go back."""
    whole_log = (SAMPLES / "retried/nextflow.log").read_bytes()
    whole_trace = (SAMPLES / "retried/trace.txt").read_bytes()
    reader = TraceReader(tmp_path / "trace.txt", tmp_path / "log")
    before = TaskCounts()
    with (tmp_path / "trace.txt").open("ab") as trace, (tmp_path / "log").open("ab") as log:
        for at in range(0, len(whole_log), step):
            log.write(whole_log[at : at + step])
            log.flush()
            trace.write(whole_trace[at : at + step])
            trace.flush()
            counts = reader.counts()
            assert counts.submitted >= before.submitted
            assert counts.succeeded >= before.succeeded
            before = counts
    assert before == TaskCounts(submitted=3, succeeded=1, failed=1)


def test_running(tmp_path: Path) -> None:
    """What was submitted and has no row in the trace is running."""
    (tmp_path / "log").write_bytes((SAMPLES / "retried/nextflow.log").read_bytes())
    lines = (SAMPLES / "retried/trace.txt").read_text().splitlines(keepends=True)
    reader = TraceReader(tmp_path / "trace.txt", tmp_path / "log")
    assert reader.counts().running == 3
    (tmp_path / "trace.txt").write_text("".join(lines[:3]))
    assert reader.counts() == TaskCounts(submitted=3, running=1, failed=1)


def test_cached(tmp_path: Path) -> None:
    """Cached tasks are counted, and are neither submitted nor running."""
    lines = (SAMPLES / "retried/trace.txt").read_text().splitlines(keepends=True)
    (tmp_path / "trace.txt").write_text(lines[0] + lines[3].replace("COMPLETED", "CACHED"))
    assert TraceReader(tmp_path / "trace.txt", tmp_path / "log").counts() == TaskCounts(cached=1)


def test_another_file_in_its_place(tmp_path: Path) -> None:
    """When Nextflow begins its files anew, so does the reader."""
    trace = tmp_path / "trace.txt"
    trace.write_bytes((SAMPLES / "retried/trace.txt").read_bytes())
    reader = TraceReader(trace, tmp_path / "log")
    assert reader.counts().succeeded == 1
    trace.write_bytes((SAMPLES / "too-big/trace.txt").read_bytes())
    assert reader.counts() == TaskCounts(failed=1)


def test_row() -> None:
    """A row has the trace's values: milliseconds, bytes, and None where Nextflow has nothing."""
    row = list(read_rows(SAMPLES / "retried/trace.txt"))[2]
    assert (row.task_id, row.hash, row.process, row.name, row.tag) == (3, "08/d120f0", "FLAKY", "FLAKY", None)
    assert (row.status, row.exit, row.attempt, row.cpus, row.memory) == ("COMPLETED", 0, 2, 1, None)
    assert (row.realtime, row.cpu_percent, row.rchar) == (7, 33.3, 51411)
    assert row.complete is not None
    assert row.submit is not None
    assert row.complete - row.submit == row.duration


def test_damaged_rows_are_left_out(tmp_path: Path) -> None:
    """Lines that are no rows (a tab in a tag, rubbish, a line of megabytes) do not disturb the others."""
    lines = (SAMPLES / "retried/trace.txt").read_text().splitlines(keepends=True)
    rubbish = ["x\ty\n", "\n", "z" * 3_000_000 + "\n", lines[1].replace("FLAKY", "FL\tAKY", 1)]
    (tmp_path / "trace.txt").write_text("".join([lines[0], *rubbish, *lines[1:]]))
    assert len(list(read_rows(tmp_path / "trace.txt"))) == 3


def test_fields_of_the_users_choice(tmp_path: Path) -> None:
    """A user's own trace.fields leave less to know, and no error."""
    (tmp_path / "trace.txt").write_text(
        "task_id\thash\tname\tstatus\texit\n1\tab/123456\tA (x)\tCOMPLETED\t0\n"
    )
    (row,) = read_rows(tmp_path / "trace.txt")
    assert (row.process, row.status, row.peak_rss, row.attempt) == ("A", "COMPLETED", None, 1)
