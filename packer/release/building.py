"""Runs Packer: a machine for each processor is provisioned, proved, and made an image of."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Protocol

import psutil

from launcher.catalog import Arch
from launcher.errors import CloudError, Interrupted, UserError
from packer.release.model import Encryption

OLDEST_PACKER: Final = (1, 11)
_VERSION: Final = re.compile(r"v(\d+(?:\.\d+)+)")


@dataclass(frozen=True)
class BuildRequest:
    """What Packer is told, beside the pin file that it reads itself."""

    root: Path
    """The repository."""
    output: Path
    """Where manifest and package lists go."""
    release: str
    region: str
    git_commit: str
    builder: str
    """Versions of the programs, for the image's tags."""
    wheel: Path
    encryption: Encryption
    variables: Mapping[str, str]
    """More of Packer's variables."""


class Builder(Protocol):
    """Makes images; Packer, or a test's."""

    def version(self) -> str:
        """What builds, for the notes."""

    def build(self, request: BuildRequest, archs: Collection[Arch]) -> None:
        """Make the images. Those that could be made stay, also where another one could not.

        Raises:
            CloudError: one could not be made.
            Interrupted: Ctrl-C, and what was started may be left.
        """


class Packer:
    """The packer on PATH. Its words go to stderr: stdout is for results."""

    def __init__(
        self, environ: Mapping[str, str], say: Callable[[str], None], program: str = "packer"
    ) -> None:
        self._environ = dict(environ) | {"CHECKPOINT_DISABLE": "1"}
        self._say = say
        self._program = program

    def version(self) -> str:
        """The versions of Packer and Ansible.

        Raises:
            UserError: it is not there, or too old for the template.
        """
        try:
            said = subprocess.run(
                [self._program, "version"], capture_output=True, text=True, check=True, env=self._environ
            ).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise UserError(
                f"Packer does not run: {error}", hint="Install it: developer.hashicorp.com/packer/install"
            ) from error
        found = _VERSION.search(said)
        version = found[1] if found else ""
        if tuple(int(part) for part in version.split(".") if part)[:2] < OLDEST_PACKER:
            raise UserError(
                f"Packer {version or said.strip()!r} is too old for the template",
                hint="Install 1.11 or newer: developer.hashicorp.com/packer/install",
            )
        return f"packer {version} ansible-core {metadata.version('ansible-core')}"

    def build(self, request: BuildRequest, archs: Collection[Arch]) -> None:
        """Run `packer init` and `packer build`."""
        self._run(request, "init", "packer")
        only = ",".join(f"*amazon-ebs.{arch}" for arch in sorted(archs))
        # Host keys are for this one build. In /tmp, as a socket's path must be short.
        with tempfile.TemporaryDirectory(prefix="solorun-", dir="/tmp") as ssh_folder:  # a new one, 0700
            options = [f"-only={only}", "-timestamp-ui", "-color=false"]
            for name, value in {**_variables(request), "ssh_folder": ssh_folder}.items():
                options += ["-var", f"{name}={value}"]
            self._run(request, "build", *options, "packer")

    def _run(self, request: BuildRequest, *arguments: str) -> None:
        # Not as a context manager: after Ctrl-C that waits for a quarter of a second only.
        running = subprocess.Popen(
            [self._program, *arguments], cwd=request.root, env=self._environ, stdout=sys.stderr
        )
        try:
            code = running.wait()
        except KeyboardInterrupt:
            self._wait_for_the_end(running, request)
            raise
        if code != 0:
            raise CloudError(
                f"`packer {arguments[0]}` ended with exit code {code}; its last lines say why",
                hint="Run this again when that is mended: what was built is kept",
            )

    def _wait_for_the_end(self, running: subprocess.Popen[bytes], request: BuildRequest) -> None:
        """Let Packer clean up: the terminal has told it as well.

        Raises:
            Interrupted: Ctrl-C once more, so that it could not.
        """
        try:
            self._say(
                "Broken off. Packer ends the machines that it has started, and removes their keys and security groups: "
                "a minute or two. Ctrl-C once more ends Packer at once, and may leave them"
            )
            running.wait()
        except KeyboardInterrupt as error:
            _kill(running)
            raise Interrupted(
                "Packer was ended before it had cleaned up: machines, key pairs and security groups named packer_… may "
                f"be left in {request.region}",
                hint=f"Look for machines with: aws ec2 describe-instances --region {request.region} "
                f"--filters Name=tag:solorun:release,Values={request.release}",
            ) from error


def _kill(running: subprocess.Popen[bytes]) -> None:
    """End Packer with its plugins and Ansible, which would go on without it."""
    try:
        started = psutil.Process(running.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    running.kill()
    for process in started:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    running.wait()


def _variables(request: BuildRequest) -> dict[str, str]:
    return {
        "region": request.region,
        "output": str(request.output),
        "git_commit": request.git_commit,
        "builder": request.builder,
        "wheel": str(request.wheel),
        "encrypted": str(request.encryption.encrypted).lower(),
        "kms_key_id": request.encryption.key,
        **request.variables,
    }


def make_wheel(root: Path, folder: Path) -> Path:
    """Our own package as a wheel, with nothing that it depends on; made anew each time.

    Raises:
        UserError: it cannot be made.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="solorun-wheel-") as copy:
        # From a copy: setuptools leaves files beside its sources, and takes up old ones.
        for package in ("agent", "launcher"):
            shutil.copytree(root / package, Path(copy, package), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(root / "pyproject.toml", copy)
        command = [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), copy),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("solorun-*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise UserError(f"our own wheel cannot be made: {done.stderr.strip()[-500:] or wheels}")
    return wheels[0]
