"""scripts/with_docker.py, with programs on PATH that stand for docker, dockerd and systemctl."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.with_docker import with_socket_group

ROOT = Path(__file__).parents[2]

DOCKER = """#!/bin/sh
test -e "$STATE/up" || exit 1
echo overlay2
"""
DOCKERD = """#!/bin/sh
while [ $# -gt 0 ]; do
    if [ "$1" = --pidfile ]; then echo $$ > "$2"; fi
    shift
done
sleep 60 &
trap 'echo interrupted >> "$STATE/events"' INT
trap 'rm "$STATE/up"; kill $!; echo stopped >> "$STATE/events"; exit 0' TERM
echo started >> "$STATE/events"
touch "$STATE/up"
wait
"""
SYSTEMCTL = """#!/bin/sh
echo "systemctl $*" >> "$STATE/events"
touch "$STATE/up"
"""
SUDO = """#!/bin/sh
if [ "$1" = -v ]; then exit 0; fi
exec "$@"
"""
RUN = """
import sys
from pathlib import Path
from scripts.with_docker import Host, main
sys.exit(main(sys.argv[2:], Host(Path(sys.argv[1], "docker.sock"), Path(sys.argv[1], "systemd"))))
"""


@dataclass(frozen=True)
class Machine:
    """A machine on which Docker is installed and down, and systemd does not run."""

    state: Path

    def program(self, name: str, text: str) -> None:
        """Put a program on PATH."""
        path = self.state / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start with_docker.py with a command, in a session of its own as from a terminal."""
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(self.state), *command],
            cwd=ROOT,
            env={"PATH": f"{self.state / 'bin'}:/usr/bin:/bin", "STATE": str(self.state)},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str) -> tuple[int, str]:
        """with_docker.py's exit code and what it said."""
        process = self.start(*command)
        _, said = process.communicate(timeout=30)
        return process.returncode, said

    def events(self) -> list[str]:
        """What happened to Docker."""
        path = self.state / "events"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, name: str) -> None:
        """Wait until a file is there."""
        deadline = time.monotonic() + 20
        while not (self.state / name).exists():
            assert time.monotonic() < deadline, f"{name} did not come"
            time.sleep(0.01)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Such a machine; no daemon of it outlives the test."""
    (tmp_path / "bin").mkdir()
    made = Machine(tmp_path)
    for name, text in (("docker", DOCKER), ("dockerd", DOCKERD), ("systemctl", SYSTEMCTL), ("sudo", SUDO)):
        made.program(name, text)
    yield made
    assert not (tmp_path / "up").exists() or "started" not in made.events()


def test_docker_that_runs_is_used(machine: Machine) -> None:
    """Where Docker answers, the command just runs, and its exit code is ours."""
    (machine.state / "up").touch()
    assert machine.run("sh", "-c", "exit 5")[0] == 5
    assert machine.events() == []


def test_daemon_for_the_duration(machine: Machine) -> None:
    """Without systemd a daemon runs while the command does, and is stopped and waited for."""
    code, _ = machine.run("sh", "-c", 'test -e "$STATE/up"')
    assert code == 0
    assert machine.events() == ["started", "stopped"]


def test_daemon_stops_after_a_failure(machine: Machine) -> None:
    """A failing command's exit code is kept, and the daemon stopped all the same."""
    assert machine.run("sh", "-c", "exit 7")[0] == 7
    assert machine.events() == ["started", "stopped"]


def test_daemon_outlives_the_command_on_ctrl_c(machine: Machine) -> None:
    """Ctrl-C reaches the command and not the daemon, which the command needs to tidy up."""
    tidy = 'trap "test -e $STATE/up && exit 9" INT; touch $STATE/ready; while :; do sleep 0.05; done'
    process = machine.start("sh", "-c", tidy)
    machine.wait_for("ready")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 9
    assert machine.events() == ["started", "stopped"]


def test_sigterm_is_passed_on(machine: Machine) -> None:
    """SIGTERM ends the command first, then the daemon."""
    process = machine.start(
        "sh", "-c", 'trap "exit 8" TERM; touch $STATE/ready; while :; do sleep 0.05; done'
    )
    machine.wait_for("ready")
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 8
    assert machine.events() == ["started", "stopped"]


def test_systemd_starts_docker(machine: Machine) -> None:
    """Where systemd runs the machine, it starts Docker, and Docker stays."""
    (machine.state / "systemd").mkdir()
    code, said = machine.run("sh", "-c", "exit 0")
    assert code == 0
    assert machine.events() == ["systemctl start docker"]
    assert "systemctl start docker" in said


def test_daemon_that_does_not_start(machine: Machine) -> None:
    """The daemon's last words are shown, and nothing is run."""
    machine.program("dockerd", "#!/bin/sh\necho 'no iptables here'\nexit 1\n")
    code, said = machine.run("touch", str(machine.state / "ran"))
    assert code == 2
    assert "no iptables here" in said
    assert not (machine.state / "ran").exists()


def test_no_docker_at_all(machine: Machine) -> None:
    """Without a daemon on the machine the way to one is said."""
    machine.program("docker", "#!/bin/sh\nexit 1\n")
    (machine.state / "bin" / "dockerd").unlink()
    process = subprocess.run(
        [sys.executable, "-c", RUN, str(machine.state), "true"],
        cwd=ROOT,
        env={"PATH": str(machine.state / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert "make setup" in process.stderr


def test_the_sockets_group_for_one_command(tmp_path: Path) -> None:
    """A person who may not use the socket stays that person, with the socket's group beside their own."""
    socket = tmp_path / "docker.sock"
    socket.touch()
    command = with_socket_group(["docker", "ps"], socket)
    assert command[command.index("--reuid") + 1] == str(os.getuid())
    assert str(socket.stat().st_gid) in command[command.index("--groups") + 1].split(",")
    assert command[-2:] == ["docker", "ps"]
