"""A bundle from its parts, and Nextflow's container image beside it."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from bundle import cpython, packages
from bundle.archive import Archive, describe, described, note_of, write_archive
from bundle.elf import check
from bundle.model import REPOSITORY, BundleError
from bundle.roles import files_of, units_of
from launcher.catalog import Arch
from launcher.programs import agent_sources

CPYTHON_IMAGE: Final = "solorun/cpython:3.12"
"""Made by scripts/build-images.sh; it only holds the published archives."""
_ROLES: Final = ("run_agent", "cloudwatch_agent")


def assemble(arch: Arch, jars: Path, folder: Path) -> Archive:
    """Make `agent-ARCH.tar.gz` in `folder`.

    Raises:
        BundleError: a part cannot be had, or would not run on every system.
    """
    with tempfile.TemporaryDirectory(prefix="solorun-bundle-") as made:
        root = Path(made)
        cpython.unpack(_jar(jars, arch), arch, root / "python")
        packages.install(arch, root / "venv")
        check(root, arch)
        _put_system(root)
        with _runnable(arch, root / "python", jars) as python:
            lacking = cpython.extensions(python) - cpython.extensions(root / "python")
            if lacking:
                raise BundleError(f"The Python for {arch} is without {', '.join(sorted(lacking))}")
            packages.compile_all(python, root)
            if python == root / "python":
                packages.try_out(python, root / "venv")
        with _written(folder / f"agent-{arch}.tar.gz") as draft:
            write_archive(root, draft)
    return describe(folder / f"agent-{arch}.tar.gz", agent_sources=agent_sources())


@contextmanager
def _runnable(arch: Arch, python: Path, jars: Path) -> Iterator[Path]:
    """The prefix of a Python of the same version that runs on this computer: the bundle's own, or the other one."""
    own = packages.own_arch()
    if own is arch:
        yield python
        return
    with tempfile.TemporaryDirectory(prefix="solorun-python-") as other:
        cpython.unpack(_jar(jars, own), own, Path(other))
        yield Path(other)


def save_image(image: str, folder: Path) -> Archive:
    """Make `nextflow-ARCH.tar.gz` in `folder` of a container image of this computer's; nothing is done where it is.

    Raises:
        BundleError: Docker has no such image.
    """
    path = folder / f"nextflow-{packages.own_arch()}.tar.gz"
    image_id = _docker("image", "inspect", "--format", "{{.Id}}", image).strip()
    known = described(path)
    if known is not None and (known.image, known.image_id) == (image, image_id):
        return known
    note_of(path).unlink(missing_ok=True)
    with _written(path) as draft, draft.open("wb") as file:
        words = ["docker", "image", "save", image]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as saving:
            if saving.stdout is None:
                raise RuntimeError("a pipe was asked for")
            _squeeze(saving.stdout, file)
        if saving.returncode != 0:
            raise BundleError(f"`{' '.join(words)}` ended with exit code {saving.returncode}")
    return describe(path, image=image, image_id=image_id)


def _squeeze(source: IO[bytes], target: IO[bytes]) -> None:
    # Level 4: half a minute less than 6, for 3 % more bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0, compresslevel=4) as zipped:
        shutil.copyfileobj(source, zipped, 1024**2)


def fetch_jars(folder: Path) -> Path:
    """The published Pythons, taken out of the container image that holds them; the folder that has them.

    Raises:
        BundleError: the container image was not built.
    """
    shutil.rmtree(folder, ignore_errors=True)
    container = _docker("create", CPYTHON_IMAGE).strip()
    try:
        _docker("cp", f"{container}:/jars", str(folder))
    finally:
        _docker("rm", container)
    return folder


def _jar(jars: Path, arch: Arch) -> Path:
    found = sorted(jars.glob(f"cpython-*-linux-{arch}.jar"))
    if len(found) != 1:
        raise BundleError(f"{CPYTHON_IMAGE} should hold one Python for {arch}, and holds {len(found)}")
    return found[0]


def _put_system(root: Path) -> None:
    for role in _ROLES:
        for file in files_of(role):
            target = root / "system" / file.path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.content)
            target.chmod(file.mode)
    (root / "units").write_text("".join(f"{unit}\n" for unit in units_of("run_agent")))
    shutil.copy(REPOSITORY / "bundle/install.sh", root / "install.sh")


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A draft that takes its name when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BundleError(f"`docker {' '.join(words)}` failed ({done.stderr.strip()}). Use `make bundle`")
    return done.stdout
