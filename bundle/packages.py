"""The agent and what it depends on, as wheels for a machine's processor, whichever this computer's is."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from agent.doctor.judging.host import OLDEST_LIBC
from bundle.model import HOME, PYTHON, REPOSITORY, BundleError
from launcher.catalog import Arch
from packer.release.building import make_wheel

LOCK: Final = REPOSITORY / "ansible/roles/run_agent/files/requirements.lock"
_MACHINE: Final = {Arch.X86_64: "x86_64", Arch.ARM64: "aarch64"}
_OF_AN_INSTALLATION: Final = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""Notes of pip's on how and from where it installed; nothing is ever uninstalled from a bundle."""
_PROGRAM: Final = f"""#!{HOME}/venv/bin/python
import sys

from agent.__main__ import main

sys.exit(main())
"""

_TRY: Final = """
import importlib, pkgutil, sys

sys.path.insert(0, sys.argv[1])
import agent

for found in pkgutil.walk_packages(agent.__path__, "agent."):
    importlib.import_module(found.name)
for name in ("boto3", "ctypes", "docker", "obstore", "orjson", "psutil", "ssl", "urllib3", "watchtower", "zlib"):
    importlib.import_module(name)
"""


def install(arch: Arch, venv: Path) -> None:
    """Make `venv` a virtual environment at HOME/venv of the Python at HOME/python, with the agent in it.

    Raises:
        BundleError: a package cannot be had.
    """
    programs, packages = venv / "bin", venv / f"lib/python{PYTHON}/site-packages"
    programs.mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text(
        f"home = {HOME}/python/bin\ninclude-system-site-packages = false\nversion = {PYTHON}\n"
    )
    (programs / "python").symlink_to(f"../../python/bin/python{PYTHON}")
    (programs / "python3").symlink_to("python")
    (programs / "run-agent").write_text(_PROGRAM)
    (programs / "run-agent").chmod(0o755)
    _pip(arch, packages, "--require-hashes", "-r", str(LOCK))
    with tempfile.TemporaryDirectory(prefix="solorun-bundle-") as folder:
        _pip(arch, packages, "--no-deps", "--no-index", str(make_wheel(REPOSITORY, Path(folder, "wheel"))))
    shutil.copy(REPOSITORY / "bundle/sitecustomize.py", packages)
    # the agent never imports it, and its changes are no reason for another bundle
    shutil.rmtree(packages / "launcher")
    shutil.rmtree(packages / "bin", ignore_errors=True)
    for note in packages.glob("*.dist-info/*"):
        if note.name in _OF_AN_INSTALLATION:
            note.unlink()


def _pip(arch: Arch, target: Path, *arguments: str) -> None:
    # glibc 2.17 is the oldest that wheels of today name
    platforms = [f"manylinux_2_{minor}_{_MACHINE[arch]}" for minor in range(OLDEST_LIBC[1], 16, -1)]
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"),
        *("--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}", f"--target={target}"),
        *(f"--platform={name}" for name in (*platforms, f"manylinux2014_{_MACHINE[arch]}")),
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BundleError(f"pip cannot have a package for {arch}: {done.stderr.strip()[-800:]}")


def compile_all(python: Path, folder: Path) -> None:
    """Compile what is below `folder`, for where it will be: a machine's agent starts at once, and writes nothing.

    Compiled files are the same for every processor.

    Raises:
        BundleError: the Python with the prefix `python` does not run on this computer.
    """
    command = [
        *(
            str(python / f"bin/python{PYTHON}"),
            "-IB",
            "-m",
            "compileall",
            "-qf",
            "--invalidation-mode",
            "unchecked-hash",
        ),
        *("-s", str(folder), "-p", HOME, str(folder)),
    ]
    try:
        # some packages ship templates that are not Python yet: exit code 1
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
        )
    except OSError as error:
        raise BundleError(f"The bundle's Python does not run on this computer: {error}") from error
    if done.returncode not in (0, 1):
        raise BundleError(f"The bundle's Python does not run on this computer: {done.stderr.strip()[-500:]}")


def try_out(python: Path, venv: Path) -> None:
    """Import everything of the agent with the bundle's Python, and all that it imports only when it is needed.

    Raises:
        BundleError: something is missing.
    """
    packages = venv / f"lib/python{PYTHON}/site-packages"
    command = [str(python / f"bin/python{PYTHON}"), "-IBc", _TRY, str(packages)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"LC_ALL": "C.UTF-8"})
    if done.returncode != 0:
        raise BundleError(
            f"The agent cannot be imported with the bundle's Python: {done.stderr.strip()[-800:]}"
        )


def own_arch() -> Arch:
    """The processor of this computer.

    Raises:
        BundleError: machines have no such processor.
    """
    for arch, machine in _MACHINE.items():
        if platform.machine() in (machine, str(arch)):
            return arch
    raise BundleError(f"A bundle is made on Linux on x86_64 or arm64, not on {platform.machine()}")
