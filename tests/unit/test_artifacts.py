"""What becomes an artifact, under which key and type, and what is left out and why."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.artifacts import UploadProgress, upload_tree
from agent.artifacts.names import content_type, escaped, manifest_line, why_no_key
from agent.artifacts.scan import open_within, real_roots, scan
from agent.clock import Deadline, SystemClock
from agent.errors import StoreError
from agent.store import part_bytes
from agent.store_errors import Refused
from tests.fakes.clock import ScriptedClock
from tests.fakes.store import FakeBucket, FakeStore

MIB = 1024**2


def soon() -> Deadline:
    return Deadline.after(30, SystemClock())


def write(path: Path, body: bytes = b"body") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "results"
    folder.mkdir(parents=True)
    return folder


# --- names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("report.html", "text/html; charset=utf-8"),
        ("a/b/table.TSV", "text/tab-separated-values; charset=utf-8"),
        ("versions.yml", "application/yaml; charset=utf-8"),
        ("x.json", "application/json; charset=utf-8"),
        ("reads.fastq.gz", "application/gzip"),
        ("calls.vcf", "text/plain; charset=utf-8"),
        ("aln.bam", "application/octet-stream"),
        ("plot.svg", "image/svg+xml"),
        ("plot.pdf", "application/pdf"),
        ("README", "application/octet-stream"),
    ],
)
def test_content_type_follows_the_name(name: str, expected: str) -> None:
    """Browsers show reports and tables; what nobody knows is bytes."""
    assert content_type(name) == expected


@given(st.binary(min_size=1, max_size=60).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"x"))))
def test_every_name_is_a_key_or_has_a_cause(name: str) -> None:
    """For any bytes that a file name can hold: S3 takes it as it is, or there is a cause and a printable form."""
    assert escaped(name).isprintable()
    if why_no_key(name) is None:
        assert len(name.encode()) <= 1024
        assert not any(segment in {"", ".", ".."} for segment in name.split("/"))
        assert all(ord(char) >= 0x20 for char in name)


@given(
    st.lists(
        st.text(
            st.characters(min_codepoint=0x20, exclude_characters="/\x7f", exclude_categories=["Cs"]),
            min_size=1,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_printable_names_are_keys(segments: list[str]) -> None:
    """Spaces, percent signs, hashes, quotes, emoji: any text is a key, unchanged, unless it is dots or too long."""
    key = "/".join(segments)
    if not {".", ".."} & set(segments) and len(key.encode()) <= 1024:
        assert why_no_key(key) is None


@pytest.mark.parametrize(
    ("name", "cause", "shown"),
    [
        ("new\nline", "control characters", "new\\x0aline"),
        ("tab\there", "control characters", "tab\\x09here"),
        (os.fsdecode(b"latin-\xe9"), "not valid UTF-8", "latin-\\xe9"),
        ("x" * 1025, "1025 bytes", "x" * 1025),
    ],
)
def test_names_that_cannot_be_keys(name: str, cause: str, shown: str) -> None:
    """What S3 cannot hold is named in printable form, with the cause."""
    assert cause in str(why_no_key(name))
    assert escaped(name) == shown


def test_manifest_line_is_what_sha256sum_reads() -> None:
    """Backslashes are escaped as sha256sum does, with one in front of the line."""
    assert manifest_line("ab", "a b") == "ab  a b\n"
    assert manifest_line("ab", "a\\b") == "\\ab  a\\\\b\n"


@given(st.integers(min_value=0, max_value=5 * 1024**4))
def test_parts_never_exceed_what_s3_takes(size: int) -> None:
    """Any object up to 5 TiB fits into 10,000 parts of at least 5 MiB."""
    assert part_bytes(size) >= 5 * MIB
    assert size / part_bytes(size) <= 10_000


# --- the folder -------------------------------------------------------------------------------------------------


def test_links_count_as_what_they_point_to(results: Path) -> None:
    """Nextflow publishes links into the work dir by default: files and whole folders are uploaded behind them."""
    work = results.parent / "work" / "ab" / "cdef"
    write(work / "out.txt", b"from work")
    write(work / "folder" / "deep.txt", b"deep")
    (results / "out.txt").symlink_to(work / "out.txt")
    (results / "folder").symlink_to(work / "folder")
    (results / "relative").symlink_to("../work/ab/cdef/out.txt")
    store = FakeStore()
    report = upload_tree(store, results, "artifacts/", deadline=soon(), roots=(results.parent / "work",))
    assert report.not_uploaded == ()
    assert store.objects["artifacts/out.txt"] == b"from work"
    assert store.objects["artifacts/folder/deep.txt"] == b"deep"
    assert store.objects["artifacts/relative"] == b"from work"


def test_links_out_of_the_run_are_refused(results: Path, tmp_path: Path) -> None:
    """A link to anything outside of the given folders is named, never followed."""
    secret = write(tmp_path / "etc" / "shadow", b"secret")
    write(tmp_path / "run-of-somebody-else" / "x", b"secret")
    (results / "shadow").symlink_to(secret)
    (results / "folder").symlink_to(tmp_path / "etc")
    (results / "neighbour").symlink_to(tmp_path / "run-of-somebody-else")
    write(results / "good")
    store = FakeStore()
    report = upload_tree(store, results, "artifacts/", deadline=soon(), roots=(tmp_path / "run",))
    assert list(store.objects) == ["artifacts/good"]
    assert len(report.not_uploaded) == 3
    assert all("outside of the run's folder" in line for line in report.not_uploaded)


def test_broken_and_circular_links_end(results: Path) -> None:
    """Links to nothing, to themselves, to each other and to a folder above are named; the scan ends."""
    (results / "dangling").symlink_to("nowhere")
    (results / "self").symlink_to("self")
    (results / "a").symlink_to("b")
    (results / "b").symlink_to("a")
    write(results / "folder" / "file")
    (results / "folder" / "up").symlink_to("..")
    found = scan(results, ())
    assert [file.name for file in found.files] == ["folder/file"]
    assert {line.split(":")[0] for line in found.skipped} == {"dangling", "self", "a", "b", "folder/up"}


def test_what_is_no_file_is_named(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipes and sockets are left out, and nothing waits on them."""
    os.mkfifo(results / "pipe")
    monkeypatch.chdir(results)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("sock")
    listener.close()
    report = upload_tree(FakeStore(), results, "artifacts/", deadline=soon())
    assert report.not_uploaded == ("pipe: is a named pipe, not a file", "sock: is a socket, not a file")


def test_odd_names_arrive_under_their_own_name(results: Path) -> None:
    """Names that S3 can hold are kept letter for letter; the others are listed in printable form."""
    good = [
        "a b",
        "100%",
        "a%20b",
        "#1",
        "q?x=1",
        "..hidden",
        "x..",
        "ünï",
        "😀",
        "q\"'",
        "b\\s",
        "a&b<c>",
        "*",
    ]
    for name in good:
        write(results / "sub dir" / name, name.encode())
    for raw in (b"new\nline", b"latin-\xe9"):
        write(Path(os.fsdecode(os.fsencode(results) + b"/" + raw)))
    store = FakeStore()
    report = upload_tree(store, results, "artifacts/", deadline=soon())
    assert store.objects == {f"artifacts/sub dir/{name}": name.encode() for name in good}
    assert report.not_uploaded == (
        "latin-\\xe9: the name is not valid UTF-8",
        "new\\x0aline: the name has control characters",
    )


def test_empty_missing_and_empty_files(results: Path) -> None:
    """An empty file is an object of no bytes; an empty or missing folder is no error and no object."""
    write(results / "empty", b"")
    store = FakeStore()
    assert upload_tree(store, results, "artifacts/", deadline=soon()).files == 1
    assert store.objects["artifacts/empty"] == b""
    nothing = upload_tree(FakeStore(), results / "missing", "artifacts/", deadline=soon())
    assert (nothing.files, nothing.bytes, nothing.not_uploaded) == (0, 0, ())


def test_manifest_has_every_file(results: Path) -> None:
    """The manifest beside the artifacts carries the SHA-256 of each object's bytes, small and large."""
    bodies = {"a.txt": b"one", "dir/b": os.urandom(9 * MIB), "c": os.urandom(300_000)}
    for name, body in bodies.items():
        write(results / name, body)
    store = FakeStore()
    report = upload_tree(store, results, "artifacts/", deadline=soon(), manifest="artifacts.sha256")
    assert (report.files, report.bytes) == (3, sum(map(len, bodies.values())))
    expected = "".join(f"{hashlib.sha256(bodies[n]).hexdigest()}  {n}\n" for n in sorted(bodies))
    assert store.objects["artifacts.sha256"].decode() == expected


def test_manifest_never_replaces_a_file(results: Path) -> None:
    """Where the folder has a file under the manifest's own key, the file stays what it is."""
    write(results / "artifacts.sha256", b"the pipeline's own")
    store = FakeStore()
    upload_tree(store, results, "", deadline=soon(), manifest="artifacts.sha256")
    assert store.objects == {"artifacts.sha256": b"the pipeline's own"}


def test_a_file_that_vanishes_is_named(results: Path) -> None:
    """A file that is gone by the time it is read costs only itself."""
    write(results / "a")
    vanishing = write(results / "b")

    def on_progress(_progress: UploadProgress) -> None:
        vanishing.unlink(missing_ok=True)

    for i in range(40):
        write(results / f"c{i}", b"x" * 2 * MIB if i else b"x")
    vanishing.write_bytes(b"x" * 3 * MIB)
    report = upload_tree(FakeStore(), results, "artifacts/", deadline=soon(), on_progress=on_progress)
    assert report.not_uploaded == ("b: is gone, or a link to nothing",)
    assert report.files == 41


def test_a_file_replaced_by_a_link_is_not_read(results: Path, tmp_path: Path) -> None:
    """Between the scan and the upload a file may become a link to elsewhere: it is opened only where it lies."""
    secret = write(tmp_path / "secret")
    allowed = real_roots(results, ())
    folder = write(results / "dir" / "file").parent
    os.close(open_within(str(results / "dir" / "file"), allowed))
    (results / "link").symlink_to(secret)
    with pytest.raises(OSError, match="Too many levels"):
        open_within(str(results / "link"), allowed)
    (folder / "file").unlink()
    folder.rmdir()
    write(tmp_path / "elsewhere" / "file")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="outside of the run's folder"):
        open_within(str(folder / "file"), allowed)


def test_a_file_that_keeps_changing_is_named(results: Path) -> None:
    """A file that is different after each reading is uploaded, and said to be uncertain."""
    path = write(results / "growing")

    class Meddler(FakeStore):
        async def send(self, key: str, *args: Any, **kwargs: Any) -> None:
            await super().send(key, *args, **kwargs)
            with path.open("ab") as file:
                file.write(b"more")

    report = upload_tree(Meddler(), results, "artifacts/", deadline=soon())
    assert report.not_uploaded == ("growing: kept changing while it was uploaded; the object may be torn",)


# --- stopping and going on --------------------------------------------------------------------------------------


def test_reports_go_first_and_the_deadline_is_kept(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When time runs out, small reports are in S3 and the large rest is listed."""
    monkeypatch.setattr("agent.artifacts.upload.BYTES_IN_FLIGHT", 3 * MIB)  # one large file at a time
    clock = ScriptedClock()
    write(results / "data.bam", b"x" * 2 * MIB)
    write(results / "more.bam", b"x" * 3 * MIB)
    write(results / "tiny.bin", b"x")
    write(results / "report.html", b"<p>")

    class Slow(FakeStore):
        async def send(self, key: str, *args: Any, **kwargs: Any) -> None:
            await super().send(key, *args, **kwargs)
            clock.advance(4)

    store = Slow(clock=clock)
    report = upload_tree(store, results, "artifacts/", deadline=Deadline.after(10, clock))
    assert store.state.writes[0] == "runs/1/artifacts/report.html"
    assert report.files == 3
    assert report.not_uploaded == ("more.bam: the time was over",)


def test_refusal_is_not_asked_for_a_thousand_times(results: Path) -> None:
    """When S3 refuses one file for want of permission, the rest is listed with that cause, untried."""
    for i in range(100):
        write(results / f"{i:03d}")
    bucket = FakeBucket()
    bucket.failures = [Refused("access denied") for _ in range(100)]
    report = upload_tree(FakeStore(bucket), results, "artifacts/", deadline=soon())
    assert report.files == 0
    assert len(report.not_uploaded) == 100
    assert "access denied" in report.not_uploaded[50]
    assert len(bucket.failures) > 50


def test_one_failure_costs_one_file(results: Path) -> None:
    """A file that S3 gives up on is listed; all others arrive."""
    for i in range(10):
        write(results / f"{i}")
    bucket = FakeBucket()
    bucket.failures = [StoreError("S3 answered 503")]
    report = upload_tree(FakeStore(bucket), results, "artifacts/", deadline=soon())
    assert (report.files, report.not_uploaded) == (9, ("0: S3 answered 503",))


def test_second_call_uploads_only_the_rest(results: Path) -> None:
    """With a journal, what arrived is not sent again, a changed file is, and the report counts all of them."""
    journal = results.parent / "state" / "uploads.jsonl"
    for name in ("a", "b", "c"):
        write(results / name, name.encode())
    bucket = FakeBucket()
    store = FakeStore(bucket)
    upload_tree(store, results, "artifacts/", deadline=soon(), journal=journal)
    bucket.writes.clear()
    write(results / "b", b"new content")
    write(results / "d")
    with journal.open("ab") as file:
        file.write(b'["s3://bucket/runs/1/artifacts","torn li')
    for expected in (["artifacts/b", "artifacts/d", "sums"], ["sums"]):
        report = upload_tree(store, results, "artifacts/", deadline=soon(), journal=journal, manifest="sums")
        assert sorted(key.removeprefix("runs/1/") for key in bucket.writes) == expected
        assert report.files == 4
        bucket.writes.clear()
    assert store.objects["sums"].count(b"\n") == 4


def test_journal_is_of_one_destination(results: Path) -> None:
    """What arrived in one place has not arrived in another."""
    journal = results.parent / "uploads.jsonl"
    write(results / "a")
    bucket = FakeBucket()
    for root in ("runs/1", "runs/2"):
        upload_tree(FakeStore(bucket, root), results, "artifacts/", deadline=soon(), journal=journal)
    assert {"runs/1/artifacts/a", "runs/2/artifacts/a"} <= set(bucket.objects)


def test_progress_is_told(results: Path) -> None:
    """Every file that arrived is told with the totals."""
    for i in range(3):
        write(results / f"{i}", b"xx")
    told: list[UploadProgress] = []
    upload_tree(FakeStore(), results, "", deadline=soon(), on_progress=told.append)
    assert told[-1] == UploadProgress(3, 3, 6, 6)
    assert len(told) == 3


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    names=st.sets(
        st.binary(min_size=1, max_size=30).filter(
            lambda n: b"/" not in n and b"\0" not in n and n not in (b".", b"..")
        ),
        max_size=5,
    )
)
def test_every_file_is_uploaded_or_named(names: set[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the names: each file is an object under its own name, or in the list of those left out."""
    folder = tmp_path_factory.mktemp("odd")
    for name in names:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(name)
    store = FakeStore()
    report = upload_tree(store, folder, "artifacts/", deadline=soon())
    assert report.files + len(report.not_uploaded) == len(names)
    arrived = {
        key.removeprefix("artifacts/").encode(): body for key, body in store.objects.items() if "/" in key
    }
    assert all(name == body for name, body in arrived.items())
    assert len(arrived) == report.files
