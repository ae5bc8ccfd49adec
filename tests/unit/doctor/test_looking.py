"""What the doctor reads from files, answers and sockets."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.doctor.environment import agents_environment, parse_assignments, parse_environment_file
from agent.doctor.facts import DockerSettings, InstanceStore, Unit
from agent.doctor.looking.cloud import look_at_run, reach
from agent.doctor.looking.docker import look_at_docker_settings, parse_options, settle
from agent.doctor.looking.host import look_at_cgroups, look_at_disk, look_for_instance_store
from agent.doctor.looking.metadata import token_reaches
from agent.doctor.looking.systemd import environment_of, look_at_systemd, parse_units
from agent.errors import StoreError
from tests.fakes.store import FakeStore

SHOWN = """\
Restart=on-failure
WatchdogUSec=1min
OnFailure=run-agent-gave-up.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
Environment=PYTHONUNBUFFERED=1 "RUN_AGENT_SHUTDOWN_COMMAND=[\\"systemctl\\", \\"poweroff\\"]"
EnvironmentFiles=/etc/one.env (ignore_errors=yes)
EnvironmentFiles=/etc/two.env (ignore_errors=no)

LoadState=not-found
ActiveState=inactive
"""


def test_units_are_read_in_the_order_in_which_they_were_asked() -> None:
    """Each block becomes a unit of its name, with its quoted environment and all its files."""
    agent, timer = parse_units(("run-agent.service", "machine-cap.timer"), SHOWN)
    assert agent.is_there
    assert agent.is_active
    assert agent.is_enabled
    assert agent.watchdog == "1min"
    assert agent.environment["RUN_AGENT_SHUTDOWN_COMMAND"] == '["systemctl", "poweroff"]'
    assert agent.environment_files == ("/etc/one.env", "/etc/two.env")
    assert timer == Unit("machine-cap.timer")


def test_without_systemd_only_the_first_process_is_named(tmp_path: Path) -> None:
    """systemctl is not even asked."""
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/comm").write_text("tini\n")
    assert look_at_systemd(tmp_path).first_process == "tini"


def test_the_units_environment_has_its_files(tmp_path: Path) -> None:
    """Files come after Environment=, later ones win, and one that is missing is left out."""
    file = tmp_path / "agent.env"
    file.write_text("# ours\nA=2\nB='two words'\n\nbroken\n")
    unit = Unit("u", load="loaded", environment={"A": "1"}, environment_files=(str(file), "/nowhere"))
    assert environment_of(unit) == {"A": "2", "B": "two words"}
    assert environment_of(Unit("u")) is None


def test_environment_files_are_read_as_systemd_reads_them() -> None:
    """Comments and blank lines are passed over; quotes go, brackets stay."""
    text = '; no\n#A=1\nC=["systemctl", "poweroff"]\nD="x y"\nE=\n'
    assert parse_environment_file(text) == {"C": '["systemctl", "poweroff"]', "D": "x y", "E": ""}
    assert parse_assignments('A=1 "B=x y" junk') == {"A": "1", "B": "x y"}
    assert parse_assignments('"broken') == {}


def test_the_machine_is_looked_at_with_the_agents_environment() -> None:
    """A person's credentials, profile and proxies do not count; what the person means for the agent does."""
    mine = {"PATH": "/bin", "AWS_ACCESS_KEY_ID": "mine", "https_proxy": "p", "AWS_ENDPOINT_URL": "u"}
    units = {"RUN_AGENT_SCRATCH": "/scratch", "AWS_ACCESS_KEY_ID": "units"}
    assert agents_environment(mine, units) == {
        "PATH": "/bin",
        "AWS_ACCESS_KEY_ID": "units",
        "AWS_ENDPOINT_URL": "u",
        "RUN_AGENT_SCRATCH": "/scratch",
    }
    assert agents_environment(mine, None) == mine


def test_dockers_settings_come_from_file_and_command_line() -> None:
    """The command line adds to the file; what neither says is dockerd's own limit."""
    file = '{"data-root": "/d", "log-opts": {"max-file": "2"}, "default-ulimits": {"nofile": {"Hard": 9, "Soft": 8}}}'
    assert settle(file, {}, 5) == DockerSettings("/d", None, 8)
    options = parse_options(
        [
            "dockerd",
            "-H",
            "fd://",
            "--default-ulimit",
            "nofile=32768:65536",
            "--log-opt=max-size=1m",
            "--data-root=/e",
        ]
    )
    assert settle("{}", options, 5) == DockerSettings("/e", "1m", 32768)
    assert settle("{}", {}, 5) == DockerSettings("/var/lib/docker", None, 5)
    with pytest.raises(ValueError, match="not a JSON object"):
        settle("[]", {}, None)


def test_a_running_dockerd_tells_its_options(tmp_path: Path) -> None:
    """By way of its PID file: its command line, its limit, and the file that it was given."""
    process = tmp_path / "proc/77"
    process.mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/docker.pid").write_text("77\n")
    (process / "cmdline").write_bytes(b"dockerd\0--config-file\0/my.json\0")
    (process / "limits").write_text(
        "Max processes  1 2 processes\nMax open files            1024   524288   files\n"
    )
    (tmp_path / "my.json").write_text('{"data-root": "/fast"}')
    assert look_at_docker_settings(tmp_path) == DockerSettings("/fast", None, 1024)


def test_own_disks_are_known_by_their_model(tmp_path: Path) -> None:
    """An EBS volume is none; the last mount at /scratch counts."""
    for name, model in (
        ("nvme0n1", "Amazon Elastic Block Store"),
        ("nvme1n1", "Amazon EC2 NVMe Instance Storage"),
    ):
        (tmp_path / f"sys/block/{name}/device").mkdir(parents=True)
        (tmp_path / f"sys/block/{name}/device/model").write_text(model)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mounts").write_text(
        "/dev/nvme0n1p1 / xfs rw 0 0\n/dev/nvme1n1 /scratch xfs rw 0 0\n"
    )
    assert look_for_instance_store(tmp_path) == InstanceStore(("/dev/nvme1n1",), "/dev/nvme1n1")


def test_control_groups_of_both_versions_are_known(tmp_path: Path) -> None:
    """Version 2 lists its controllers; in version 1 each is a folder, some with two names."""
    assert look_at_cgroups(tmp_path / "none") == (0, frozenset())
    (tmp_path / "cpu,cpuacct").mkdir()
    (tmp_path / "memory").mkdir()
    assert look_at_cgroups(tmp_path) == (1, frozenset({"cpu", "cpuacct", "memory"}))
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    assert look_at_cgroups(tmp_path) == (2, frozenset({"cpu", "memory"}))


def test_a_folder_that_is_to_come_is_judged_by_the_one_above(tmp_path: Path) -> None:
    """Before the first run there is no folder for runs."""
    disk = look_at_disk(tmp_path / "not" / "yet")
    assert disk.folder.endswith("not/yet")
    assert 0 < disk.free_bytes <= disk.total_bytes


@contextmanager
def web(ttl: int = 64, date: str | None = None) -> Iterator[str]:
    """A service whose answers have this IP time to live, and this Date."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            self.send_response_only(200)
            if date:
                self.send_header("Date", date)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_PUT(self) -> None:
            self.do_HEAD()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("ttl", "reaches"), [(1, False), (2, True), (64, True)])
def test_a_token_that_ends_at_the_machine_is_noticed(ttl: int, reaches: bool) -> None:
    """The kernel drops what would not live for another hop, as a container's bridge would."""
    with web(ttl) as url:
        assert token_reaches(url, 2, within_s=10 if reaches else 0.3) is reaches


def test_a_service_that_is_not_there_reaches_nobody() -> None:
    """A refused connection is no answer."""
    assert not token_reaches("http://127.0.0.1:1", 2)


def test_the_clock_is_compared_with_the_answers_date() -> None:
    """An answer of an hour ago means an hour ahead; none, or nonsense, says nothing of the time."""
    clock = SystemClock()
    with web(date="Sun, 06 Nov 1994 08:49:37 GMT") as url:
        skew = reach(url, clock).skew_s
        assert skew is not None
        assert skew > 1e8
    with web() as url:
        assert reach(url, clock).skew_s is None
    with web(date="yesterday") as url:
        assert reach(url, clock).skew_s is None


def test_an_endpoint_that_does_not_answer_is_named() -> None:
    """The error has the address."""
    with pytest.raises(ConnectionError, match="127.0.0.1:1 does not answer".replace(".", r"\.")):
        reach("http://127.0.0.1:1", SystemClock())


SAVED = Path(__file__).parents[1] / "contract/saved"
SPEC = (SAVED / "spec-v1-repository.json").read_bytes()
CLAIM = (SAVED / "claim-v1-machine.json").read_bytes()


def test_the_runs_objects_are_read_and_none_is_written() -> None:
    """The container image of the spec, and who claimed the run; a run without a claim is as good."""
    store = FakeStore()
    store.put("spec.json", SPEC)
    store.state.writes.clear()
    found = look_at_run(store, SystemClock())
    assert found.problem is None
    assert found.container_image
    assert found.claimed_by is None
    store.put("claim.json", CLAIM)
    assert look_at_run(store, SystemClock()).claimed_by == json.loads(CLAIM)["claimed_by"]
    assert store.state.writes == ["runs/1/claim.json"]


def test_objects_that_cannot_be_read_are_a_problem() -> None:
    """A missing spec, one that is no spec, and a refusal each say so in their words."""
    store = FakeStore()
    assert "spec.json" in (look_at_run(store, SystemClock()).problem or "")
    store.put("spec.json", b"{}")
    assert "spec.json" in (look_at_run(store, SystemClock()).problem or "")
    store.state.failures.append(StoreError("access denied"))
    assert look_at_run(store, SystemClock()).problem == "access denied"
