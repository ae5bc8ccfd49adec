"""Builds the image of the test machine: a Debian root, the project's own roles, Nextflow's container image baked in.

Everything is kept in a folder, each part under a name made of all that it was made from.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from launcher.catalog import NEXTFLOW_IMAGE
from tests.machine.fabric import fabric
from tests.machine.machine import Image, booted

REPOSITORY: Final = Path(__file__).parents[2]
FOLDER: Final = REPOSITORY / "build/machine"
_PACKAGES: Final = (
    *("systemd-sysv", "dbus", "udev", "iproute2", "iptables", "ca-certificates", "procps", "kmod", "curl"),
    *("python3", "python3-apt", "python3-venv"),
)
# The lists stay: the roles install packages from them.
_OPTIONS: Final = ("--quiet", "--variant=apt", "--skip=cleanup/apt/lists")
_WITHOUT: Final = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
TASKS_IMAGE: Final = "solorun/demo-tools:1"
"""What the tests' tasks run in: machines here reach no registry."""
_PLAIN_DOCKER: Final = ("docker.io",)
APT_GET: Final = "apt-get -qq -o Acquire::Retries=3"
"""As every program here calls it: registries fail now and then."""
INSTALL_ON_A_ROOT: Final = f"""set -e
    mount -t overlay overlay -o lowerdir=$1,upperdir=$2/upper,workdir=$2/work $2/root
    mount -t proc proc $2/root/proc
    mount --bind /etc/resolv.conf $2/root/etc/resolv.conf
    export DEBIAN_FRONTEND=noninteractive
    chroot $2/root {APT_GET} update
    chroot $2/root {APT_GET} install -y --no-install-recommends"""
"""How a script begins that installs into a layer, $2, on a root, $1, in its own mount namespace; packages follow."""
_LOCK: Final = REPOSITORY / "ansible/roles/run_agent/files/requirements.lock"

# What a system in a container needs and an EC2 instance does not.
_TWEAKS: Final = {
    "etc/systemd/system/docker.service.d/10-container.conf": (
        '[Service]\nExecStartPre=/bin/sh -c \'for m in $(grep " /sys/fs/cgroup" /proc/mounts | cut -d" " -f2);'
        " do mount -o remount,bind,rw $m 2>/dev/null; done; true'\n"
    ),
}
# No container gets more than this computer has.
VARIABLES: Final = {"docker_nofile": min(1048576, resource.getrlimit(resource.RLIMIT_NOFILE)[1])}
_MASKED: Final = (
    "console-getty.service",
    "getty.target",
    "systemd-timesyncd.service",
    "systemd-resolved.service",
)


def image(folder: Path = FOLDER) -> Image:
    """The image, built where it is not there yet (about three minutes)."""
    with locked(folder):
        return _image(folder)


@contextmanager
def locked(folder: Path, kind: str = "") -> Iterator[None]:
    """Alone with what is kept of a kind, by default with the image: another process may be building it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / (f"{kind}.lock" if kind else "lock")).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _image(folder: Path) -> Image:
    base = _base(folder)
    wheels = _wheels(folder)
    sources: list[str | Path] = [
        base.name,
        *files_in("agent"),
        *files_in("ansible"),
        str(VARIABLES),
        Path(__file__),
    ]
    root = kept(folder, "root", sources, lambda made: _make_root(made, base, wheels))
    ids = _run("docker", "image", "inspect", "--format", "{{.Id}}", NEXTFLOW_IMAGE, TASKS_IMAGE)
    sources = [base.name, ids, *files_in("ansible/roles/docker"), *files_in("ansible/roles/nextflow")]
    docker = kept(folder, "docker", sources, lambda made: _make_docker(made, root, wheels))
    return Image(root, docker)


def bare_root(folder: Path = FOLDER) -> Path:
    """The root as it is before the roles."""
    with locked(folder):
        return _base(folder)


def plain_root(folder: Path = FOLDER, kind: str = "plain", packages: tuple[str, ...] = ()) -> Path:
    """The root without the roles, but with Docker as the distribution has it: what the roles are measured against.

    With more packages it is of another kind, of which there is one too.
    """
    base = bare_root(folder)
    install = (*_PLAIN_DOCKER, *packages)
    with locked(folder, kind):
        return kept(folder, kind, [base.name, *install], lambda made: _make_plain(made, base, install))


def wheels(folder: Path = FOLDER) -> Path:
    """A folder with the wheels of all that the agent needs."""
    with locked(folder):
        return _wheels(folder)


def _wheels(folder: Path) -> Path:
    return kept(folder, "wheels", [_LOCK], _make_wheels)


def _base(folder: Path) -> Path:
    return kept(folder, "base", [*_PACKAGES, *_OPTIONS, *_WITHOUT, *_MASKED, *_TWEAKS.values()], _make_base)


def files_in(folder: str) -> list[Path]:
    """The files below a folder of the repository, as sources of `kept`."""
    return sorted(p for p in (REPOSITORY / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def kept(folder: Path, kind: str, sources: Iterable[str | Path], make: Callable[[Path], None]) -> Path:
    """The folder of this kind that was made from `sources`; older ones go. To be called alone, see `locked`."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes() if isinstance(source, Path) else source.encode())
    found = folder / f"{kind}-{digest.hexdigest()[:16]}"
    if not found.exists():
        for old in folder.glob(f"{kind}-*"):
            _remove_unused(old)
        print(f"building {found.name}", file=sys.stderr, flush=True)
        made = folder / f"unfinished-{kind}"
        shutil.rmtree(made, ignore_errors=True)
        make(made)
        os.sync()  # else the first machine to sync a file waits for a gigabyte of others to be written
        made.rename(found)
    _hold(found)
    return found


_held: dict[Path, int] = {}
"""What this process uses until it ends, by an open and locked file descriptor."""


def _hold(kept: Path) -> None:
    if kept not in _held:
        _held[kept] = os.open(kept, os.O_RDONLY)
        fcntl.flock(_held[kept], fcntl.LOCK_SH)


def _remove_unused(old: Path) -> None:
    """Remove an older folder; not where machines of another process run from it, or this one's do."""
    descriptor = os.open(old, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(old)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)


def _make_base(made: Path) -> None:
    left_out = [f"--dpkgopt=path-exclude={path}" for path in _WITHOUT]
    # Nobody builds on where a run was killed: the next one begins anew.
    # What it mounts goes with it, even then.
    ours = ("setpriv", "--pdeathsig=TERM", "unshare", "--mount")
    retries = '--aptopt=Acquire::Retries "3"'
    included = f"--include={','.join(_PACKAGES)}"
    _run(*ours, "mmdebstrap", *_OPTIONS, retries, included, *left_out, "bookworm", str(made))
    for path, text in _TWEAKS.items():
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_text(text)
    for unit in _MASKED:
        (made / "etc/systemd/system" / unit).symlink_to("/dev/null")


def _make_wheels(made: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    _run(
        *pip,
        "--only-binary=:all:",
        "--python-version=3.11",
        "--require-hashes",
        "-r",
        str(_LOCK),
        "-d",
        str(made),
    )


def wheel(folder: Path = FOLDER) -> Path:
    """The project's own wheel."""
    sources = [*files_in("agent"), *files_in("launcher"), REPOSITORY / "pyproject.toml"]
    with locked(folder, "wheel"):
        return next(kept(folder, "wheel", sources, _make_wheel).glob("*.whl"))


def wheel_in(root: Path) -> Path:
    """The wheel that a root was made with: the launcher's part of it may be newer by now, and is of no account."""
    return next(root.glob("opt/solorun/*.whl"))


def _make_wheel(made: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    # From a copy: setuptools leaves files beside its sources, and takes up old ones.
    with tempfile.TemporaryDirectory() as copy:
        for package in ("agent", "launcher"):
            shutil.copytree(
                REPOSITORY / package, f"{copy}/{package}", ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copy(REPOSITORY / "pyproject.toml", copy)
        # One content, one wheel: files have no time in it.
        fixed = ["env", "SOURCE_DATE_EPOCH=1767225600", *pip]
        _run(*fixed, "--no-deps", "--no-build-isolation", "-w", str(made), copy)


def _make_root(made: Path, base: Path, wheels: Path) -> None:
    _run("cp", "-a", str(base), str(made))
    with _root_held(made) as pid:
        play(pid, root=made, variables={"run_agent_wheelhouse": str(wheels)})


def _make_plain(made: Path, base: Path, install: tuple[str, ...]) -> None:
    _run("cp", "-a", str(base), str(made))
    with _root_held(made) as pid:
        enter = ("nsenter", f"--target={pid}", "--mount", "--pid", "chroot", str(made))
        _run(*enter, "env", "DEBIAN_FRONTEND=noninteractive", *APT_GET.split(), "install", "--yes", *install)


def _make_docker(made: Path, root: Path, wheels: Path) -> None:
    """Boot the root, load the image by the roles, turn it off, keep what Docker has."""
    made.mkdir()
    archive = made.parent / "nextflow.tar"
    _run("docker", "image", "save", "--output", str(archive), NEXTFLOW_IMAGE, TASKS_IMAGE)
    # Not to be turned off, whatever else is in it: it was started by hand.
    with fabric() as network, booted(Image(root, None), network, made.parent, docker=made) as machine:
        machine.wait_up()
        play(
            machine.leader,
            variables={
                "run_agent_wheel": str(wheel_in(root)),
                "run_agent_wheelhouse": str(wheels),
                "nextflow_image": NEXTFLOW_IMAGE,
                "nextflow_image_archive": str(archive),
            },
            options=("--tags=nextflow",),
        )
        machine.exec("systemctl", "poweroff", "--no-block")
        machine.wait_off(within=60)
    archive.unlink()


def play(
    pid: int, *, variables: dict[str, Any], root: Path | None = None, options: tuple[str, ...] = ()
) -> list[str]:
    """Run ansible/image.yml in the namespaces of a process; returns the names of the tasks that changed something.

    Raises:
        RuntimeError: a task failed; with Ansible's own words.
    """
    given = {
        **({} if "run_agent_wheel" in variables else {"run_agent_wheel": str(wheel())}),
        **VARIABLES,
        **variables,
        "within_pid": pid,
        "within_root": str(root or ""),
        "ansible_become": False,
    }
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_HOME": str(FOLDER / "ansible"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible/ansible.cfg"),
        "ANSIBLE_CONNECTION_PLUGINS": str(Path(__file__).parent / "plugins/connection"),
        "ANSIBLE_DISPLAY_OK_HOSTS": "false",
        "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false",
        "ANSIBLE_NOCOLOR": "true",
    }
    words = [
        "ansible-playbook",
        "-i",
        "machine,",
        "-c",
        "within",
        "-e",
        json.dumps(given),
        *options,
        "image.yml",
    ]
    done = subprocess.run(
        words, cwd=REPOSITORY / "ansible", env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"ansible-playbook failed:\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
    changed, task = [], ""
    for line in done.stdout.splitlines():
        if found := re.match(r"(?:TASK|RUNNING HANDLER) \[(.*?)\]", line):
            task = found[1]
        elif line.startswith("changed: ") and task not in changed:
            changed.append(task)
    return changed


@contextmanager
def _root_held(root: Path) -> Iterator[int]:
    """A process in whose namespaces `root` can be entered; every process in it ends with it, and its mounts go."""
    mounts = (
        f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && mount -t tmpfs tmpfs {root}/run"
        f" && touch {root}/etc/resolv.conf && mount --bind /etc/resolv.conf {root}/etc/resolv.conf"
        " && echo ready && exec cat"
    )
    holder = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mounts],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{root} cannot be entered")
        yield int(Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text())
    finally:
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait()


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words[:3])}… failed: {done.stderr[-2000:]}")
    return done.stdout.strip()
