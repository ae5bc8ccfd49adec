"""The script of the user data, run by a shell: each way to S3 that an image may have, and what an image may lack."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import launcher
from agent.doctor.judging.host import OLDEST_LIBC

SCRIPT = (Path(launcher.__file__).parent / "user_data.sh").read_text()
FUNCTIONS = SCRIPT.partition("\nif systemctl")[0]
"""All of the script but what it does."""


@contextmanager
def object_store(taken: dict[str, bytes]) -> Iterator[str]:
    """Answers GET of /agent, and takes any PUT."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, b"agent") if self.path == "/agent?x=1" else self._answer(403, b"denied")

        def do_PUT(self) -> None:
            taken[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(200, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def programs(folder: Path, *names: str) -> Path:
    """A folder for PATH that has these programs only, of those that this computer has."""
    folder.mkdir()
    for name in names:
        found = sys.executable if name == "python3" else shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    return folder


def shell(path: Path, commands: str) -> subprocess.CompletedProcess[str]:
    sh = shutil.which("sh")
    assert sh is not None
    return subprocess.run(
        [sh],
        input=f"{FUNCTIONS}\n{commands}\n",
        text=True,
        capture_output=True,
        env={"PATH": str(path)},
        check=False,
    )


@pytest.mark.parametrize("client", ["curl", "wget", "python3"])
def test_whatever_client_is_there_fetches_and_reports(tmp_path: Path, client: str) -> None:
    """With one of the three alone; where this computer has not got that one, Python stands in, as on a machine."""
    path = programs(tmp_path / "bin", client)
    if not any(path.iterdir()):
        path = programs(tmp_path / "more", "python3")
    taken: dict[str, bytes] = {}
    with object_store(taken) as url:
        done = shell(path, f"fetch '{url}/agent?x=1' '{tmp_path}/got' && echo fetched")
        assert done.stdout == "fetched\n", done.stderr
        assert (tmp_path / "got").read_bytes() == b"agent"
        done = shell(path, f"fetch '{url}/gone' '{tmp_path}/not' || echo no")
        assert done.stdout.endswith("no\n")
        assert "403" in done.stderr
        shell(path, f"REPORT_URL='{url}/report?y=2'; send_report 'it is \"so\"'")
    assert taken == {"/report?y=2": b'it is "so"'}


def test_all_that_an_image_lacks_is_named(tmp_path: Path) -> None:
    """Every missing program at once; nothing where all are there."""
    done = shell(programs(tmp_path / "some", "tar", "gzip", "tr"), "missing | tr -d '\\n'")
    assert done.stdout == " docker sha256sum shutdown curl"
    everything = tmp_path / "all"
    everything.mkdir()
    for name in ("docker", "gzip", "sha256sum", "shutdown", "tar", "wget"):
        (everything / name).touch(mode=0o755)
    assert shell(everything, "missing").stdout == ""


def test_the_script_names_the_c_library_that_the_bundle_is_held_to() -> None:
    """A system that is too old is told the version that the doctor tells, too."""
    assert f"It needs glibc {'.'.join(map(str, OLDEST_LIBC))} or newer" in SCRIPT
