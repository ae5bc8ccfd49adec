"""What is kept for a resumed run, when, and how it comes back; Nextflow itself is in the integration tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.carry import NEXTFLOW_CACHE, Carrier
from agent.clock import Deadline, SystemClock
from agent.errors import StoreError
from agent.finished_tasks import CarriedTasks, FinishedTasks
from agent.folder import RunFolder
from agent.nextflow_cache import NextflowCache
from tests.fakes.store import FakeBucket, FakeStore

SESSION = "6f1c3c2e-0000-4000-8000-000000000001"
HEADER = "task_id\thash\tprocess\tstatus\tworkdir\n"
WHEN = 1_700_000_000_123_456_789


def soon() -> Deadline:
    return Deadline.after(30, SystemClock())


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "machine-1" / SESSION)
    made.create()
    return made


def add_task(folder: RunFolder, name: str, status: str = "COMPLETED", size: int = 10) -> Path:
    """A task that has ended: its folder and its line in the trace."""
    path = folder.work / name
    path.mkdir(parents=True, exist_ok=True)
    (path / ".exitcode").write_text("0")
    (path / "out.txt").write_bytes(os.urandom(size))
    (path / "in.txt").symlink_to(folder.pipeline / "in.txt")
    for item in (path / "out.txt", path):
        os.utime(item, ns=(WHEN, WHEN))
    add_row(folder, f"1\t{name[:9]}\tP\t{status}\t{path}\n")
    return path


def add_row(folder: RunFolder, row: str) -> None:
    if not folder.trace.exists():
        folder.trace.write_text(HEADER)
    with folder.trace.open("a") as file:
        file.write(row)


def write_cache(folder: RunFolder, **files: str) -> Path:
    database = folder.launch / ".nextflow" / "cache" / SESSION / "db"
    database.mkdir(parents=True, exist_ok=True)
    for name, text in {"CURRENT": "MANIFEST-1", "LOCK": "", "000003.log": "records", **files}.items():
        (database / name.replace("_", ".")).write_text(text)
    (folder.launch / ".nextflow" / "history").write_text(f"now\t-\tname\t{SESSION}\n")
    return database


def test_finished_tasks_are_carried_once(folder: RunFolder) -> None:
    """Tasks that ended well are copied as they come up, each once; failed ones are not."""
    bucket = FakeBucket()
    carrier = Carrier(FakeStore(bucket), folder, SESSION)
    carrier.carry()
    assert bucket.objects == {}
    write_cache(folder)
    add_task(folder, "ab/cdef01")
    add_task(folder, "ff/failed", status="FAILED")
    carrier.carry()
    add_task(folder, "01/234567", status="CACHED")
    carrier.carry()
    carrier.carry()
    assert bucket.writes == [
        "runs/1/cache/tasks/ab/cdef01.tar",
        f"runs/1/{NEXTFLOW_CACHE}",
        "runs/1/cache/tasks/01/234567.tar",
    ]


def test_cache_is_copied_when_it_has_changed(folder: RunFolder) -> None:
    """Nextflow's cache goes along again after it was written to, and not otherwise."""
    bucket = FakeBucket()
    carrier = Carrier(FakeStore(bucket), folder, SESSION)
    database = write_cache(folder)
    carrier.carry()
    carrier.carry()
    assert bucket.writes == [f"runs/1/{NEXTFLOW_CACHE}"]
    (database / "000003.log").write_text("records and more")
    carrier.carry()
    assert bucket.writes == [f"runs/1/{NEXTFLOW_CACHE}"] * 2


def test_a_restarted_agent_carries_only_the_rest(folder: RunFolder) -> None:
    """What was carried is known after a SIGKILL, in the middle of a line as well."""
    bucket = FakeBucket()
    add_task(folder, "ab/cdef01")
    Carrier(FakeStore(bucket), folder, SESSION).carry()
    with (folder.state / "carried.txt").open("a") as file:
        file.write("01/2345")
    add_task(folder, "01/234567")
    Carrier(FakeStore(bucket), folder, SESSION).carry()
    assert bucket.writes == ["runs/1/cache/tasks/ab/cdef01.tar", "runs/1/cache/tasks/01/234567.tar"]
    assert "01/234567" in CarriedTasks(folder.state / "carried.txt")
    assert "01/2345" in (folder.state / "carried.txt").read_text()


def test_what_s3_refused_is_tried_next_time(folder: RunFolder) -> None:
    """A task that could not be copied is named, and goes with the next look."""
    bucket = FakeBucket()
    carrier = Carrier(FakeStore(bucket), folder, SESSION)
    for name in ("ab/cdef01", "ab/cdef02"):
        add_task(folder, name)
    bucket.failures = [StoreError("S3 answered 503")]
    with pytest.raises(StoreError, match="1 finished tasks are not in S3") as caught:
        carrier.carry()
    (problem,) = caught.value.problems
    assert problem in {"ab/cdef01: S3 answered 503", "ab/cdef02: S3 answered 503"}
    carrier.carry()
    assert sorted(bucket.objects) == ["runs/1/cache/tasks/ab/cdef01.tar", "runs/1/cache/tasks/ab/cdef02.tar"]


def test_finish_sends_the_cache_first(folder: RunFolder) -> None:
    """With the time nearly over, the cache goes before the tasks: without it none of them counts."""
    bucket = FakeBucket()
    write_cache(folder)
    add_task(folder, "ab/cdef01")
    carrier = Carrier(FakeStore(bucket), folder, SESSION)
    carrier.finish(soon())
    assert bucket.writes == [f"runs/1/{NEXTFLOW_CACHE}", "runs/1/cache/tasks/ab/cdef01.tar"]
    add_task(folder, "ab/cdef02")
    carrier.carry()
    assert len(bucket.writes) == 2


def test_a_folder_that_is_gone_is_forgotten(folder: RunFolder) -> None:
    """A task whose folder the pipeline has cleaned up is no problem."""
    path = add_task(folder, "ab/cdef01")
    carrier = Carrier(FakeStore(), folder, SESSION)

    class Gone(FakeStore):
        async def send(self, *_: object, **__: object) -> None:
            for item in path.iterdir():
                item.unlink()
            path.rmdir()
            raise StoreError("too late")

    carrier = Carrier(Gone(), folder, SESSION)
    carrier.carry()
    carrier.carry()


def test_restore_brings_everything_back(folder: RunFolder, tmp_path: Path) -> None:
    """Task folders, links, mtimes to the ns and the cache are as they were; the second run keeps all of it too."""
    bucket = FakeBucket()
    write_cache(folder)
    small, large = add_task(folder, "ab/cdef01"), add_task(folder, "cd/ef0102", size=9 * 1024**2)
    Carrier(FakeStore(bucket, "runs/1"), folder, SESSION).finish(soon())

    other = RunFolder(tmp_path / "machine-2" / SESSION)
    other.create()
    carrier = Carrier(FakeStore(bucket, "runs/2"), other, SESSION)
    report = carrier.restore(FakeStore(bucket, "runs/1"))
    assert (report.tasks, report.has_cache, report.not_restored) == (2, True, ())
    for path in (small, large):
        copy = other.work / path.relative_to(folder.work)
        assert (copy / "out.txt").read_bytes() == (path / "out.txt").read_bytes()
        assert (copy / "in.txt").readlink() == (path / "in.txt").readlink()
        assert [(copy / "out.txt").stat().st_mtime_ns, copy.stat().st_mtime_ns] == [WHEN, WHEN]
    database = other.launch / ".nextflow" / "cache" / SESSION / "db"
    assert sorted(path.name for path in database.iterdir()) == ["000003.log", "CURRENT"]
    assert SESSION in (other.launch / ".nextflow" / "history").read_text()
    assert FakeStore(bucket, "runs/2").objects == FakeStore(bucket, "runs/1").objects
    assert list((other.state).glob("restoring*")) == []

    bucket.writes.clear()
    add_row(other, f"1\tab/cdef01\tP\tCACHED\t{other.work}/ab/cdef01\n")
    carrier.carry()
    assert [key for key in bucket.writes if "/tasks/" in key] == []


def test_restore_from_another_bucket_is_carried_again(folder: RunFolder, tmp_path: Path) -> None:
    """Across buckets nothing is copied inside S3, so a task that is used goes up again."""
    there, here = FakeBucket("there"), FakeBucket("here")
    add_task(folder, "ab/cdef01")
    Carrier(FakeStore(there), folder, SESSION).finish(soon())
    other = RunFolder(tmp_path / "machine-2" / SESSION)
    other.create()
    carrier = Carrier(FakeStore(here), other, SESSION)
    assert carrier.restore(FakeStore(there)).tasks == 1
    assert here.objects == {}
    add_row(other, f"1\tab/cdef01\tP\tCACHED\t{other.work}/ab/cdef01\n")
    carrier.carry()
    assert list(here.objects) == ["runs/1/cache/tasks/ab/cdef01.tar"]


def test_damaged_and_foreign_objects_cost_only_themselves(folder: RunFolder, tmp_path: Path) -> None:
    """A task whose archive is damaged runs again, others are restored; keys that are not ours are left alone."""
    bucket = FakeBucket()
    for name in ("ab/cdef01", "ab/cdef02"):
        add_task(folder, name)
    write_cache(folder)
    Carrier(FakeStore(bucket), folder, SESSION).finish(soon())
    bucket.objects["runs/1/cache/tasks/ab/cdef02.tar"] = b"not a tar archive" * 100
    bucket.objects["runs/1/cache/tasks/../../evil.tar"] = b""
    bucket.objects["runs/1/cache/tasks/readme.txt"] = b""
    bucket.objects[f"runs/1/{NEXTFLOW_CACHE}"] = bucket.objects[f"runs/1/{NEXTFLOW_CACHE}"][:100]
    other = RunFolder(tmp_path / "machine-2" / SESSION)
    other.create()
    report = Carrier(FakeStore(bucket, "runs/2"), other, SESSION).restore(FakeStore(bucket))
    assert (report.tasks, report.has_cache) == (1, False)
    assert [line.split(":")[0] for line in report.not_restored] == ["ab/cdef02"]
    assert sorted(path.name for path in (other.work / "ab").iterdir()) == ["cdef01"]


def test_nothing_to_restore(folder: RunFolder) -> None:
    """A run that kept nothing, or was deleted, gives an empty report and no error."""
    report = Carrier(FakeStore(), folder, SESSION).restore(FakeStore(root="runs/none"))
    assert (report.tasks, report.has_cache) == (0, False)


# --- the trace -------------------------------------------------------------------------------------------------


def test_trace_is_read_as_it_grows(folder: RunFolder) -> None:
    """Each task is told once, half a line waits for its end, and a trace that was begun anew is read anew."""
    finished = FinishedTasks(folder.trace, folder.work)
    assert finished.new() == []
    first = add_task(folder, "ab/cdef01")
    assert finished.new() == [first]
    assert finished.new() == []
    second = folder.work / "ab" / "cdef02"
    second.mkdir()
    row = f"2\tab/cdef02\tP\tCOMPLETED\t{second}\n"
    add_row(folder, row[:20])
    assert finished.new() == []
    add_row(folder, row[20:])
    assert finished.new() == [second]
    folder.trace.write_text(HEADER)
    assert finished.new() == []
    add_row(folder, row)
    assert finished.new() == [second]


def test_trace_without_workdir(folder: RunFolder) -> None:
    """A user's own trace fields may leave the workdir out: the short hash finds the folder, if it is the only one."""
    for name in ("ab/cdef0123456789", "ab/cdffff", "cd/1111aa", "cd/1111bb"):
        (folder.work / name).mkdir(parents=True)
    folder.trace.write_text(
        "hash\tstatus\nab/cdef01\tCOMPLETED\ncd/1111\tCOMPLETED\n../..\tCOMPLETED\n-\tCOMPLETED\n"
    )
    found = FinishedTasks(folder.trace, folder.work).new()
    assert found == [folder.work / "ab" / "cdef0123456789"]


def test_folders_elsewhere_are_left_alone(folder: RunFolder, tmp_path: Path) -> None:
    """A workdir in S3, outside of the work dir, or that is a link is nothing to carry."""
    outside = tmp_path / "etc" / "secrets"
    outside.mkdir(parents=True)
    (folder.work / "ab").mkdir()
    (folder.work / "ab" / "link").symlink_to(outside)
    for workdir in ("s3://bucket/work/ab/cd", str(outside), f"{folder.work}/ab/link", f"{folder.work}/ab/.."):
        add_row(folder, f"1\tab/cd\tP\tCOMPLETED\t{workdir}\n")
    assert FinishedTasks(folder.trace, folder.work).new() == []


# --- Nextflow's cache ------------------------------------------------------------------------------------------


def test_cache_rearranged_while_it_is_copied_is_copied_anew(folder: RunFolder, tmp_path: Path) -> None:
    """A copy in which tables came or went is thrown away; after three such times the next look has its chance."""
    database = write_cache(folder)
    rearranged = 0

    class Restless(NextflowCache):
        def _write(self, archive: Path) -> None:
            nonlocal rearranged
            super()._write(archive)
            if rearranged < limit:
                rearranged += 1
                (database / f"{rearranged:06d}.ldb").write_text("table")

    limit = 2
    packed = Restless(folder.launch, SESSION).pack(tmp_path / "cache.tar.gz")
    assert packed is not None
    assert any(name.endswith("000002.ldb") for name, _, _ in packed)
    rearranged, limit = 0, 100
    for old in database.glob("*.ldb"):
        old.unlink()
    assert Restless(folder.launch, SESSION).pack(tmp_path / "cache.tar.gz") is None


def test_no_cache_yet(folder: RunFolder, tmp_path: Path) -> None:
    """Before Nextflow has made its cache there is nothing to pack."""
    cache = NextflowCache(folder.launch, SESSION)
    assert cache.state() == frozenset()
    assert cache.pack(tmp_path / "cache.tar.gz") is None
