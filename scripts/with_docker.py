#!/usr/bin/env python3
"""Run a command with Docker at hand: `with_docker.py COMMAND ARGUMENT…`; its exit code is the command's.

Docker that runs is used. Where it does not, systemd starts it (and it stays, as after a boot); where there is no
systemd (a container, CI) a daemon is started for the duration of the command, and ended with it, also after
Ctrl-C. A person who may not use Docker's socket gets the right for this one command, by sudo: no group is changed,
and files stay the person's own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

START_S = 60.0
"""How long a daemon may take until it answers."""
STOP_S = 40.0
"""How long a daemon may take to end; it gives its containers 10 s."""


class DockerProblem(Exception):
    """Docker cannot be had; says why and what to do."""


def say(text: str) -> None:
    """Tell the person, on stderr."""
    mark = "\033[1m•\033[0m" if sys.stderr.isatty() else "•"
    print(f"{mark} {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Host:
    """What is looked at on this machine; another one in tests."""

    socket: Path = Path("/var/run/docker.sock")
    systemd: Path = Path("/run/systemd/system")
    """Exists where systemd runs the machine."""
    options: tuple[str, ...] = ()
    """More options of a dockerd that we start."""


def answers(prefix: Sequence[str] = (), socket: Path | None = None) -> bool:
    """Whether a daemon answers; on `socket`, or else wherever the person's environment says."""
    if shutil.which("docker") is None:
        return False
    host = ["--host", f"unix://{socket}"] if socket else []
    command = [*prefix, "docker", *host, "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def as_root(*command: str) -> list[str]:
    """A command with root's rights."""
    return list(command) if os.geteuid() == 0 else ["sudo", *command]


def ask_for_root(why: str) -> None:
    """Make sure of root's rights while a person can still type a password.

    Raises:
        DockerProblem: neither root, nor a sudo that says yes.
    """
    if os.geteuid() == 0:
        return
    say(f"{why}: asking sudo")
    if shutil.which("sudo") is None or subprocess.run(["sudo", "-v"], check=False).returncode != 0:
        raise DockerProblem(f"{why}, and that needs root's rights: run this as root, or start Docker first")


def with_socket_group(command: Sequence[str], socket: Path) -> list[str]:
    """The command as this person, with the group of Docker's socket for as long as it runs."""
    groups = {*os.getgroups(), socket.stat().st_gid}
    return [
        *("sudo", "--preserve-env", "setpriv", "--reuid", str(os.getuid()), "--regid", str(os.getgid())),
        *("--groups", ",".join(str(group) for group in sorted(groups))),
        # sudo puts its own PATH and HOME in place of the person's.
        *("env", f"PATH={os.environ.get('PATH', os.defpath)}", f"HOME={Path.home()}", *command),
    ]


def wait_until_it_answers(
    prefix: Sequence[str], socket: Path, process: subprocess.Popen[bytes] | None = None
) -> bool:
    """False when `process` ended, or the time was up, before the daemon answered."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if answers(prefix, socket):
            return True
        if process is not None and process.poll() is not None:
            return False
        time.sleep(0.1)
    return False


def start_by_systemd(host: Host) -> None:
    """Start the system's own Docker; it stays.

    Raises:
        DockerProblem: systemd could not.
    """
    ask_for_root("Docker is not running, and systemd must start it")
    say("Starting Docker: systemctl start docker")
    started = subprocess.run(as_root("systemctl", "start", "docker"), check=False).returncode == 0
    if not (started and wait_until_it_answers(as_root(), host.socket)):
        raise DockerProblem("systemd could not start Docker: see `systemctl status docker`")


def end(pid: int) -> None:
    """End the daemon and wait until it is gone; by force where it does not go."""
    for name, patience in (("TERM", STOP_S), ("KILL", 10.0)):
        # The shell's own kill: a lean system has no other.
        subprocess.run(as_root("sh", "-c", f"kill -{name} {pid}"), capture_output=True, check=False)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0]
            except (FileNotFoundError, ProcessLookupError):
                return
            if state == "Z":
                return
            time.sleep(0.1)


@contextmanager
def own_daemon(host: Host) -> Iterator[None]:
    """A daemon for the duration; it picks overlay2 by itself where the file system allows.

    Raises:
        DockerProblem: it does not start; with the last lines of its log.
    """
    ask_for_root("Docker is not running, and there is no systemd: a daemon must be started for the duration")
    say("Starting a Docker daemon for the duration of this command")
    with tempfile.TemporaryDirectory(prefix="solorun-dockerd-") as folder:
        log, pid_file = Path(folder, "log"), Path(folder, "pid")
        command = as_root(
            *("dockerd", "--host", f"unix://{host.socket}", "--pidfile", str(pid_file)),
            *("--group", str(os.getgid()), *host.options),
        )
        with log.open("wb") as out:
            # A process group of its own: Ctrl-C is for the command, which needs Docker to tidy up.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, process_group=0
            )
        try:
            if not wait_until_it_answers((), host.socket, process):
                raise DockerProblem(
                    "the Docker daemon does not start here; its last lines:\n" + last_lines(log)
                )
            warn_of_slow_driver(host.socket)
            yield
        finally:
            if pid_file.exists():
                end(int(pid_file.read_text()))
            process.wait(timeout=STOP_S)
            say("The Docker daemon is stopped again")


def last_lines(log: Path) -> str:
    """What a daemon's log ends with, less its chatter."""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join([line for line in lines if "level=info" not in line][-8:])


def warn_of_slow_driver(socket: Path) -> None:
    """Say a word where images are copied whole for every container."""
    command = ["docker", "--host", f"unix://{socket}", "info", "--format", "{{.Driver}}"]
    driver = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    if driver == "vfs":
        say("This file system has no overlay2: Docker uses vfs, which is slow and takes much disk")


def run(command: Sequence[str]) -> int:
    """Run a command; its exit code, 128 + the signal's number where a signal ended it.

    Ctrl-C reaches the command from the terminal; SIGTERM and SIGHUP are passed on, and its end is waited for.
    """
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if process is not None:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        process = subprocess.Popen(command)
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def with_docker(command: Sequence[str], host: Host) -> int:
    """Run a command with Docker at hand; its exit code.

    Raises:
        DockerProblem: Docker cannot be had.
    """
    if answers():
        return run(command)
    if shutil.which("docker") is None or shutil.which("dockerd") is None:
        raise DockerProblem(
            "Docker is not installed, or its daemon is elsewhere and down: `make setup` installs it"
        )
    if host.socket.exists() and not os.access(host.socket, os.R_OK | os.W_OK):
        ask_for_root("Docker's socket is not this person's to use")
        if answers(as_root(), host.socket):
            return run(with_socket_group(command, host.socket))
    if host.systemd.is_dir():
        start_by_systemd(host)
        return run(command if answers() else with_socket_group(command, host.socket))
    with own_daemon(host):
        return run(command)


def stop_here(number: int, _frame: FrameType | None) -> None:
    """End in an orderly way, so that a daemon of ours is ended too."""
    sys.exit(128 + number)


def main(arguments: Sequence[str], host: Host) -> int:
    """The command's exit code; 2 where there is no command, or no Docker."""
    if not arguments:
        print("usage: with_docker.py COMMAND ARGUMENT…", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, stop_here)
    signal.signal(signal.SIGHUP, stop_here)
    try:
        return with_docker(arguments, host)
    except DockerProblem as problem:
        print(f"with_docker: {problem}", file=sys.stderr)
        return 2
    except FileNotFoundError as missing:
        print(f"with_docker: no such program: {missing.filename}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    # Debian keeps daemons where a person's PATH does not look.
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    sys.exit(main(sys.argv[1:], Host()))
