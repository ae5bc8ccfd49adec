"""What the Ansible roles put on a machine, read from the roles themselves: there is no second copy of any of it.

Only tasks that lay down files are understood, in a role's configure.yml, and those that enable units, in its
enable.yml. Any other task there is an error, so that nothing that a role does can be forgotten here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jinja2
import yaml

from bundle.model import REPOSITORY, BundleError

ROLES: Final = REPOSITORY / "ansible/roles"
_A: Final = "ansible.builtin."
_KEYS: Final = {
    "name",
    "loop",
    "notify",
    "ignore_errors",  # of --check only
    *(_A + module for module in ("copy", "file", "systemd_service", "template")),
}
_MANAGED: Final = "Brought by solorun's agent bundle."


@dataclass(frozen=True)
class SystemFile:
    """A file for the machine."""

    path: str
    """Absolute."""
    content: bytes
    mode: int


def files_of(role: str, roles: Path = ROLES) -> Iterator[SystemFile]:
    """The files that a role's configure.yml lays down, with the role's defaults.

    Raises:
        BundleError: a task there is of another kind.
    """
    folder = roles / role
    variables = {**_yaml(folder / "defaults/main.yml"), "ansible_managed": _MANAGED}
    for task in _yaml(folder / "tasks/configure.yml"):
        if set(task) - _KEYS:
            raise _unknown(role, task)
        for item in task.get("loop", [None]):
            values = {**variables, "item": item}
            if given := task.get(_A + "template"):
                source = folder / "templates" / _rendered(given["src"], values)
                content = _rendered(source.read_text(), values).encode()
            elif given := task.get(_A + "copy"):
                content = (folder / "files" / _rendered(given["src"], values)).read_bytes()
            elif task.get(_A + "file", {}).get("state") == "directory":
                continue  # the folder of a file that follows
            else:
                raise _unknown(role, task)
            yield SystemFile(_rendered(given["dest"], values), content, int(given["mode"], 8))


def units_of(role: str) -> Iterator[str]:
    """The units that a role's enable.yml has started at every boot.

    Raises:
        BundleError: a task there is of another kind.
    """
    for task in _yaml(ROLES / role / "tasks/enable.yml"):
        given = task.get(_A + "systemd_service", {})
        if set(task) - _KEYS or given.get("enabled") is not True:
            raise _unknown(role, task)
        yield from (_rendered(given["name"], {"item": item}) for item in task.get("loop", [None]))


def _rendered(text: str, variables: dict[str, Any]) -> str:
    # as Ansible's template module does
    environment = jinja2.Environment(  # noqa: S701 - units, not web pages
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(text).render(variables)


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def _unknown(role: str, task: dict[str, Any]) -> BundleError:
    return BundleError(
        f"The role {role} has a task that the agent bundle cannot carry along: {task.get('name')!r}. "
        "Teach bundle/roles.py what it does, or move it to the role's install.yml"
    )
