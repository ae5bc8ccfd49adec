"""The run pointer in an instance's user data: alone on an image that has the agent, in a script on another.

A script begins with `#!`, so that cloud-init runs it, and carries the pointer in a comment: `# solorun-pointer: {…}`.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from agent.contract.reading import ContractError, parse
from agent.contract.status import RunPointer

_VERSION: Final = 1
_MARK: Final = "# solorun-pointer: "
_MARKED: Final = re.compile(rb"^" + re.escape(_MARK.encode()) + rb"(.*)$", re.MULTILINE)


def pointer_line(pointer: RunPointer) -> str:
    """The comment by which a script carries the pointer; one line, without its end."""
    return _MARK + pointer.model_dump_json()


def find_pointer(user_data: bytes | None) -> RunPointer | None:
    """The run that a machine with these user data was started for; None when it was started by hand.

    User data that are absent, or neither a JSON object with a `solorun` key nor a script with the comment, are
    somebody else's.

    Raises:
        ContractError: they are meant to be ours, but malformed or of a newer schema version.
    """
    if user_data is None:
        return None
    is_script = user_data.startswith(b"#!")
    marked = _MARKED.search(user_data) if is_script else None
    data = marked[1] if marked else user_data
    try:
        raw: Any = json.loads(data)
    except ValueError:
        raw = None
    if marked is None and (is_script or not isinstance(raw, dict) or "solorun" not in raw):
        return None
    version = raw.get("solorun") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > _VERSION:
        raise ContractError(
            "user data",
            (
                f"solorun: written by a newer solorun (schema {version}; this one reads up to {_VERSION}): "
                "start the run on a newer machine image",
            ),
        )
    return parse(RunPointer, data)
