"""What `make bundle` has made on this computer: the agent for machine images without one, and container images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from agent import contract
from agent.contract import Sha256
from launcher import catalog
from launcher.catalog import Arch
from launcher.errors import UserError

_BUILD: Final = "Build it, in solorun's folder: make bundle"


class _Note(BaseModel):
    """The file beside an archive: bundle/archive.py writes it when the archive is whole."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: Sha256
    bytes: int
    image: str | None = None
    agent_sources: str | None = None


@dataclass(frozen=True)
class Program:
    """An archive that machines fetch from the work bucket."""

    what: str
    """For people: `the agent for x86_64`."""
    path: Path
    sha256: str
    bytes: int

    def check(self) -> None:
        """Read it whole, and compare.

        Raises:
            UserError: it is not what it was when it was built.
        """
        with self.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise UserError(f"{self.path} was changed after it was built", hint=_BUILD)


def agent_for(folder: Path, arch: Arch) -> Program:
    """The agent with its Python.

    Raises:
        UserError: it was not built on this computer, or from other sources than this launcher's.
    """
    path = folder / f"agent-{arch}.tar.gz"
    note = _note(path)
    if note is None:
        raise UserError(
            f"The machine image may be without solorun's agent, and the agent for {arch} is not in {folder}",
            hint=f"{_BUILD}. Or, where the image has the agent, say so in the compute environment's file: "
            "image_has_agent: true",
        )
    if note.agent_sources != agent_sources():
        raise UserError(
            f"{path} is not of this version of solorun, so agent and launcher might not understand each other",
            hint=f"{_BUILD}; it is to be done after every update",
        )
    return Program(f"the agent for {arch}", path, note.sha256, note.bytes)


def container_image_for(folder: Path, arch: Arch, image: str) -> Program | None:
    """An archive of a container image; None where none was made, and machines can pull it.

    Raises:
        UserError: it is Nextflow's own image, which no registry has.
    """
    path = folder / f"nextflow-{arch}.tar.gz"
    note = _note(path)
    if note is not None and note.image == image:
        return Program(f"the container image {image} for {arch}", path, note.sha256, note.bytes)
    if image != catalog.NEXTFLOW_IMAGE:
        return None
    raise UserError(
        f"The machine image may be without the container image {image}, and its archive for {arch} is not in {folder}",
        hint=f"{_BUILD}, on a computer with an {arch} processor; copy its files nextflow-{arch}.* to {folder} where "
        "that is another computer. Or push the image to a registry, and name it there in the compute environment's "
        "file: container_image: REGISTRY/NAME:TAG",
    )


def agent_sources() -> str:
    """A SHA-256 of the agent's sources as this launcher came with them: what a bundle must have been made from."""
    digest = hashlib.sha256()
    folder = Path(contract.__file__).parents[1]
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _note(path: Path) -> _Note | None:
    try:
        found = _Note.model_validate_json(
            path.with_name(path.name.removesuffix(".tar.gz") + ".json").read_bytes()
        )
    except (OSError, ValidationError):
        return None
    return found if path.is_file() and path.stat().st_size == found.bytes else None
