"""Artifacts to S3 through upload_tree, with checksums, journal and manifest, against MinIO's client on the same server.

The server is versitygw on a folder in memory; it and `mc` are built by `go install` into the user's cache folder once.
Both clients take turns. Ours is timed from the call of upload_tree to its return in a fresh process (the agent
runs already when it collects), mc from its start to its exit, of which starting takes 0.05 s.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from tests.bench.table import BenchRow

MIB = 1024**2
MEMORY_MB = 200
NEEDED_BYTES = 3 * 1024**3
TOOLS = {
    "versitygw": "github.com/versity/versitygw/cmd/versitygw@latest",
    "mc": "github.com/minio/mc@latest",
}
KEY, SECRET, BUCKET = "bench", "bench-secret", "bench"


@dataclass(frozen=True)
class Load:
    """Files to upload, how often, and what was promised."""

    name: str
    files: int
    size: int
    target: float
    rounds: int


LOADS = (
    Load("2,000 x 20 KB", 2_000, 20_000, 0.6, 7),
    Load("200 x 5 MB", 200, 5 * MIB, 0.9, 7),
    Load("1 x 1 GB", 1, 1024 * MIB, 0.9, 9),
)


class NoTools(Exception):
    """The peers cannot be had here; says why."""


def tools() -> dict[str, Path]:
    """versitygw and mc, built the first time.

    Raises:
        NoTools: there is no Go, or it could not build them.
    """
    folder = user_cache_path("solorun") / "bench" / "bin"
    missing = [name for name in TOOLS if not (folder / name).exists()]
    if missing:
        go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
        if go is None:
            raise NoTools("Go is not installed, with which versitygw and mc are built")
        folder.mkdir(parents=True, exist_ok=True)
        for name in missing:
            print(f"building {name} with `go install {TOOLS[name]}` into {folder} (minutes)", file=sys.stderr)
            done = subprocess.run(
                [go, "install", TOOLS[name]],
                env={**os.environ, "GOBIN": str(folder)},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise NoTools(f"{name} could not be built: {done.stderr.strip().splitlines()[-1]}")
    return {name: folder / name for name in TOOLS}


@contextlib.contextmanager
def server(program: Path, storage: Path) -> Iterator[str]:
    """versitygw with an empty bucket; its host and port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (storage / BUCKET).mkdir(parents=True)
    command = [str(program), "--port", f"127.0.0.1:{port}", "--keep-alive", "--quiet", "--noacl"]
    process = subprocess.Popen(
        [*command, "posix", str(storage)],
        env={**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoTools("versitygw did not start")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.2)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()
    return True


# VmHWM, not getrusage: a child's ru_maxrss starts with what its parent had. os._exit: see agent/store.py.
_OURS = """
import os, re, sys, time
from pathlib import Path
from agent.artifacts import upload_tree
from agent.clock import Deadline, SystemClock
from agent.s3_clients import AccessKeys
from agent.store import open_store

address, key, secret, prefix, folder, journal = sys.argv[1:]
store = open_store(prefix, "us-east-1", endpoint_url=f"http://{address}", keys=AccessKeys(key, secret))
start = time.perf_counter()
report = upload_tree(
    store, Path(folder), "artifacts/", deadline=Deadline.after(600, SystemClock()),
    journal=Path(journal), manifest="artifacts.sha256",
)
seconds = time.perf_counter() - start
memory = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(seconds, memory, report.files, len(report.not_uploaded), flush=True)
os._exit(0)
"""


def ours(address: str, folder: Path, work: Path, files: int) -> tuple[float, float]:
    """Seconds and MB of memory of one upload."""
    journal = work / "journal"
    journal.unlink(missing_ok=True)
    arguments = [address, KEY, SECRET, f"s3://{BUCKET}/ours", str(folder), str(journal)]
    done = subprocess.run(
        [sys.executable, "-c", _OURS, *arguments], capture_output=True, text=True, check=True
    )
    seconds, memory, uploaded, left = done.stdout.split()
    if (int(uploaded), int(left)) != (files, 0):
        raise RuntimeError(f"{uploaded} of {files} files were uploaded")
    return float(seconds), float(memory)


def mirror(program: Path, address: str, folder: Path, work: Path) -> float:
    """Seconds of one `mc mirror`."""
    command = [str(program), "--config-dir", str(work / "mc"), "mirror", "--quiet"]
    start = time.perf_counter()
    subprocess.run(
        [*command, str(folder), f"bench/{BUCKET}/theirs"],
        env={**os.environ, "MC_HOST_bench": f"http://{KEY}:{SECRET}@{address}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - start


def write_files(load: Load, folder: Path) -> None:
    """Different random bytes in every file."""
    folder.mkdir(parents=True)
    pattern = os.urandom(min(load.size, 8 * MIB))
    for i in range(load.files):
        with (folder / f"file-{i:05d}.bin").open("wb") as file:
            left = load.size
            while left:
                # Eight bytes of every chunk differ: no two files, and no two parts, are alike.
                chunk = (i.to_bytes(4, "big") + left.to_bytes(4, "big") + pattern[8:])[:left]
                left -= file.write(chunk)


def measure(load: Load, programs: dict[str, Path], work: Path) -> tuple[float, float, float]:
    """Our median seconds, mc's, and our most memory in MB."""
    folder, storage = work / "files", work / "storage"
    write_files(load, folder)
    our_seconds, their_seconds, memories = [], [], []

    def clear() -> None:
        for left in (storage / BUCKET).iterdir():
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()

    try:
        with server(programs["versitygw"], storage) as address:
            for _ in range(load.rounds):
                their_seconds.append(mirror(programs["mc"], address, folder, work))
                clear()
                seconds, memory = ours(address, folder, work, load.files)
                our_seconds.append(seconds)
                memories.append(memory)
                clear()
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(storage, ignore_errors=True)
    return statistics.median(our_seconds), statistics.median(their_seconds), max(memories)


def workspace() -> Path:
    """A folder for files and server: in memory where there is room, so that no disk is measured."""
    shm = Path("/dev/shm")
    roomy = shm.is_dir() and shutil.disk_usage(shm).free > NEEDED_BYTES
    return Path(tempfile.mkdtemp(prefix="solorun-bench-", dir=shm if roomy else None))


def rows() -> list[BenchRow]:
    """A row for each load, and one for memory."""
    try:
        programs = tools()
    except NoTools as error:
        return [_unmeasured(f"upload of {load.name}", str(error)) for load in LOADS]
    found: list[BenchRow] = []
    memory = 0.0
    work = workspace()
    try:
        for load in LOADS:
            mine, theirs, used = measure(load, programs, work)
            memory = max(memory, used)
            found.append(
                BenchRow(
                    f"upload of {load.name}, against mc mirror",
                    mine,
                    theirs,
                    "s",
                    f"at most {load.target} x",
                    mine <= load.target * theirs,
                )
            )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    found.append(
        BenchRow("memory of the uploads", memory, None, "MB", f"at most {MEMORY_MB} MB", memory <= MEMORY_MB)
    )
    return found


def _unmeasured(name: str, cause: str) -> BenchRow:
    return BenchRow(f"{name} (not measured: {cause})", math.nan, None, "s", "-", ok=False)
