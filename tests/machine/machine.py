"""A booted machine that stands for an EC2 instance: systemd, Docker and the agent, started from an image."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from launcher.localcloud.metadata_values import Credentials, InstanceMetadata, Interruption
from tests.fakes.s3_server import KEYS, REGION
from tests.integration.lone_machine import TimedOut, eventually
from tests.machine import cgroups, leftovers
from tests.machine.fabric import AWS_PORT, GATEWAY, METADATA, Fabric
from tests.machine.namespaces import within

_KEEPER: Final = Path(__file__).with_name("keeper.py")
_GONE_S: Final = 120.0
"""The processes of a dead machine may wait for a disk that others fill."""
ALL_NAMESPACES: Final = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")


@dataclass(frozen=True)
class Image:
    """What a machine is started from."""

    root: Path
    docker: Path | None
    """Docker's data with the baked-in images; None for a machine that is to make them."""


@dataclass(frozen=True)
class Limits:
    """The dead-man's switch, short enough for a test; seconds."""

    cap: int = 120
    reserve: int = 30
    force_after: int = 8
    watchdog: int = 20
    restarts: int = 3
    shutdown: int = 40


@dataclass
class Machine:
    """One machine, from its start until nothing of it is left. Made by `booted`."""

    name: str
    folder: Path
    address: str
    fabric: Fabric
    keeper: subprocess.Popen[str]
    console_file: Path
    metadata: InstanceMetadata
    """What its metadata service says, where nobody else tells it."""
    outer_pid: int = 0
    """The machine's systemd-nspawn."""
    port: str = ""
    """The bridge's end of its network interface."""
    started_at: float = 0.0
    """When it got the word to boot, in seconds since 1970."""
    power_was_lost: bool = False
    files: dict[str, str] = field(default_factory=dict)

    # --- looking

    @property
    def console(self) -> str:
        """What the machine said on its console."""
        return self.console_file.read_text(errors="replace")

    @property
    def leader(self) -> int:
        """The machine's PID 1 as this computer numbers it; 0 where it is not there (any more)."""
        with suppress(OSError):
            for child in _children(self.outer_pid):
                if _status(child, "NSpid").endswith("\t1"):
                    return child
        return 0

    def exec(self, *words: str, check: bool = True, stdin: str | None = None) -> str:
        """The output of a program in the machine.

        Raises:
            RuntimeError: it failed, and `check` is set; or the machine is not there.
        """
        done = self.run(*words, stdin=stdin.encode() if stdin else b"")
        if check and done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace")
            raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}: {said}")
        return done.stdout.decode(errors="replace")

    def run(
        self, *words: str, stdin: bytes = b"", within: float | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program in the machine, whatever becomes of it.

        Raises:
            RuntimeError: the machine is not there.
            subprocess.TimeoutExpired: it has not ended within so many seconds.
        """
        leader = self.leader
        if leader == 0:
            raise RuntimeError(f"{self.name} is not there\n{self.console[-2000:]}")
        # Never an option of ours less: without the machine's own namespaces a program would act on this computer.
        enter = ["nsenter", "--target", str(leader), *ALL_NAMESPACES, "--"]
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
        }
        return subprocess.run(
            [*enter, *words], input=stdin, capture_output=True, check=False, env=environment, timeout=within
        )

    def unit(self, unit: str, name: str) -> str:
        """One of systemd's properties of a unit."""
        return self.exec("systemctl", "show", "--value", "--property", name, unit).strip()

    def is_active(self, unit: str) -> bool:
        """Whether a unit is active."""
        return self.unit(unit, "ActiveState") == "active"

    @property
    def is_off(self) -> bool:
        """Whether the machine has ended."""
        return self.keeper.poll() is not None

    # --- doing

    def wait_up(self, *, within: float = 60.0) -> None:
        """Wait until systemd has nothing left to start."""

        def up() -> bool:
            if self.is_off:
                raise AssertionError(f"{self.name} went off while it booted\n{self.console[-3000:]}")
            if not self.leader:
                return False
            state = self.exec("systemctl", "is-system-running", check=False).strip()
            return state in ("running", "degraded")

        try:
            eventually(f"{self.name} is up", up, within=within)
        except TimedOut as error:
            jobs = self.exec("systemctl", "list-jobs", check=False) if self.leader else "no leader"
            raise TimedOut(f"{error}\n{jobs}\n{self.console[-3000:]}") from None

    def wait_off(self, *, within: float) -> None:
        """Wait until the machine has turned itself off, in whatever way."""
        eventually(f"{self.name} is off", lambda: self.is_off, within=within)
        assert (self.folder / "off").exists(), f"{self.name} was lost\n{self.console[-3000:]}"

    def kill(self, unit: str, signal: str) -> None:
        """Send a signal to a unit's main process."""
        self.exec("systemctl", "kill", "--kill-who=main", f"--signal={signal}", unit)

    def power_loss(self) -> None:
        """Everything of the machine is gone at once; nothing in it hears of it."""
        self.power_was_lost = True
        cgroups.thaw(self.name)
        for child in _children(self.keeper.pid):
            with suppress(ProcessLookupError):  # it has ended by itself
                os.kill(child, 9)  # the first process of the PID namespace: the kernel kills all others
        self.keeper.wait(_GONE_S)

    def cut(self, *, aws: bool = False, metadata: bool = False) -> None:
        """Packets to a service are dropped from now on, those of containers too."""
        for chosen, target in (
            (aws, ["-d", GATEWAY, "-p", "tcp", "--dport", str(AWS_PORT)]),
            (metadata, ["-d", METADATA]),
        ):
            for chain in ("OUTPUT", "FORWARD") if chosen else ():
                within(self.outer_pid, "iptables", "-w", "-I", chain, *target, "-j", "DROP")

    def interrupt(self, seconds: float) -> None:
        """EC2 takes the machine back in so many seconds."""
        now = datetime.now(UTC)
        notice = Interruption(noticed_at=now, ends_at=now + timedelta(seconds=seconds))
        self.metadata = replace(self.metadata, interruption=notice)

    def start(self) -> None:
        """The word to boot."""
        assert self.keeper.stdin is not None
        assert self.keeper.stdout is not None
        self.started_at = time.time()
        self.keeper.stdin.write("go\n")
        self.keeper.stdin.flush()
        own = int(self.keeper.stdout.readline())
        self.outer_pid = next(
            pid for pid in _descendants(self.keeper.pid) if _status(pid, "NSpid").endswith(f"\t{own}")
        )


@contextmanager
def booted(
    image: Image,
    fabric: Fabric,
    folder: Path,
    *,
    user_data: bytes | None = None,
    instance_id: str | None = None,
    hop_limit: int = 2,
    limits: Limits | None = None,
    files: dict[str, str] | None = None,
    docker: Path | None = None,
    empty_docker: bool = False,
    scratch: Path | None = None,
    scratch_bytes: int | None = None,
    metadata: bool = True,
    tell: Callable[[], InstanceMetadata | None] | None = None,
    console: Path | None = None,
) -> Iterator[Machine]:
    """A machine that boots, and of which nothing is left afterwards.

    Args:
        image: what it is started from; it is not changed.
        fabric: the network it is in.
        folder: for its disks and its console; removed at the end.
        user_data: as given to EC2.
        instance_id: its name at EC2; a new one by default.
        hop_limit: of the metadata service.
        limits: of the dead-man's switch; the image's own where None.
        files: more files of the machine, by path; whole.
        docker: a folder that becomes Docker's data, and is kept.
        empty_docker: Docker has nothing, and a disk for what it will have, which goes with the machine.
        scratch: a folder that becomes /scratch, and is kept: an instance-store disk of sorts.
        scratch_bytes: /scratch is a small disk in memory of this size instead.
        metadata: whether its metadata service answers.
        tell: what it answers, in place of what is made up of the above.
        console: the file of its console, which is kept; one in `folder` by default.
    """
    instance_id = instance_id or f"i-{secrets.token_hex(8)}"
    name = leftovers.new_name()
    home = folder / name
    address = fabric.address()
    console = console or home / "console.log"
    plan = {
        "mounts": _mounts(image, home, scratch, scratch_bytes),
        "command": _nspawn(image, name, home, home / "docker" if empty_docker else docker),
        "console": str(console),
        "off": str(home / "off"),
    }
    with leftovers.owned(name, home), _room(name, home):
        _write(home / "upper", {**_identity(name, fabric), **_shorter(limits), **(files or {})})
        console.touch()
        with (home / "keeper.log").open("wb") as told:
            keeper = subprocess.Popen(
                [
                    *cgroups.launcher(name),
                    *("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"),
                    *(sys.executable, str(_KEEPER), json.dumps(plan)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=told,
                text=True,
                start_new_session=True,
                # Docker sets what is its network's; all else of /proc/sys stays read-only.
                env={**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"},
            )
            told_of = metadata_of(instance_id, address, user_data, hop_limit)
            machine = Machine(name, home, address, fabric, keeper, console, told_of)
            if metadata:
                fabric.machines[address] = tell or (lambda: machine.metadata)
            try:
                assert keeper.stdout is not None
                if keeper.stdout.readline() != "ready\n":
                    raise RuntimeError(f"{name} cannot be set up: {(home / 'keeper.log').read_text()}")
                machine.port = fabric.connect(_children(keeper.pid)[0], address)
                machine.start()
                yield machine
            finally:
                fabric.machines.pop(address, None)
                if keeper.poll() is None:
                    machine.power_loss()


@contextmanager
def _room(name: str, home: Path) -> Iterator[None]:
    """A machine's folders and cgroups; neither is there afterwards, nor any process of it."""
    for part in ("upper", "work", "root", "scratch", "docker"):
        (home / part).mkdir(parents=True)
    try:
        cgroups.make(name)
        yield
    finally:
        cgroups.thaw(name)
        eventually(f"{name} is gone", lambda: not cgroups.processes(name), within=_GONE_S)
        cgroups.remove(name)
        shutil.rmtree(home)


def _identity(name: str, fabric: Fabric) -> dict[str, str]:
    return {
        "/etc/hostname": f"{name}\n",
        "/etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {name}\n",
        "/etc/resolv.conf": "# nobody to ask: the answer is no, at once\n",
        "/etc/machine-id": secrets.token_hex(16) + "\n",
        "/etc/solorun/run-agent.env": f"AWS_ENDPOINT_URL={fabric.endpoint_url}\n",
    }


def _shorter(limits: Limits | None) -> dict[str, str]:
    if limits is None:
        return {}
    units = "/etc/systemd/system"
    return {
        "/etc/solorun/dead-man.conf": f"RESERVE_S={limits.reserve}\nFORCE_AFTER_S={limits.force_after}\n",
        f"{units}/machine-cap.timer.d/t.conf": f"[Timer]\nOnBootSec=\nOnBootSec={limits.cap}s\n",
        f"{units}/machine-cap-force.timer.d/t.conf": (
            f"[Timer]\nOnBootSec=\nOnBootSec={limits.cap + limits.force_after}s\n"
        ),
        f"{units}/run-agent.service.d/t.conf": (
            f"[Unit]\nStartLimitBurst={limits.restarts}\n[Service]\nWatchdogSec={limits.watchdog}s\n"
        ),
        f"{units}/poweroff.target.d/t.conf": f"[Unit]\nJobTimeoutSec={limits.shutdown}s\n",
    }


def _write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def metadata_of(instance_id: str, address: str, user_data: bytes | None, hop_limit: int) -> InstanceMetadata:
    """What the metadata service tells a machine."""
    return InstanceMetadata(
        instance_id=instance_id,
        instance_type="m5d.large",
        image_id="ami-0",
        architecture="x86_64",
        account_id="123456789012",
        region=REGION,
        availability_zone=f"{REGION}a",
        private_ip=address,
        pending_time=datetime.now(UTC),
        user_data=user_data,
        role="tests",
        credentials=Credentials(KEYS.access_key_id, KEYS.secret_access_key, "token"),
        hop_limit=hop_limit,
    )


def _mounts(image: Image, home: Path, scratch: Path | None, scratch_bytes: int | None) -> list[Sequence[str]]:
    layers = f"lowerdir={image.root},upperdir={home}/upper,workdir={home}/work"
    mounts: list[Sequence[str]] = [
        ("mount", "-t", "overlay", "overlay", "-o", layers, f"{home}/root"),
        # systemd-nspawn leaves files there: here they go with the mount.
        ("mkdir", "-p", "/run/systemd"),
        ("mount", "-t", "tmpfs", "tmpfs", "/run/systemd"),
    ]
    if scratch is not None:
        mounts.append(("mount", "--bind", str(scratch), f"{home}/scratch"))
    elif scratch_bytes is not None:
        mounts.append(("mount", "-t", "tmpfs", "-o", f"size={scratch_bytes}", "tmpfs", f"{home}/scratch"))
    return mounts


def _nspawn(image: Image, name: str, home: Path, docker: Path | None) -> list[str]:
    binds = []
    if docker is not None:
        binds.append(f"--bind={docker}:/var/lib/docker")
    elif image.docker is not None:
        # As on a machine with an instance-store disk: Docker's data are moved to it, the baked-in layers linked.
        binds += [f"--bind-ro={image.docker}:/var/lib/docker", f"--bind={home}/scratch:/scratch"]
    return [
        *("systemd-nspawn", f"--machine={name}", f"--directory={home}/root", "--boot", "--keep-unit"),
        *("--register=no", "--capability=all", "--system-call-filter=@keyring bpf add_key keyctl"),
        *("--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only"),
        *("--kill-signal=SIGRTMIN+3", "--notify-ready=no", *binds),
    ]


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _descendants(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        yield from _descendants(child)


def _status(pid: int, name: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line
    return ""
