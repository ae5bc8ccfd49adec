"""The agent's own environment: the doctor looks at the world as run-agent.service would, whoever calls it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Final

_OF_THE_PERSON: Final = re.compile(r"AWS_\w+|(https?|all|no)_proxy|(HTTPS?|ALL|NO)_PROXY")
"""What would answer for the person who calls, not for the machine."""
_MEANT: Final = frozenset({"AWS_ENDPOINT_URL", "AWS_EC2_METADATA_SERVICE_ENDPOINT"})
"""What a person sets when another cloud is meant."""


def agents_environment(mine: Mapping[str, str], units: Mapping[str, str] | None) -> dict[str, str]:
    """The environment in which the machine is looked at.

    Args:
        mine: of the person who calls. Settings of the agent in it win; credentials and proxies in it do not count.
        units: of run-agent.service; None where there is no such unit, and everything of the person counts.
    """
    if units is None:
        return dict(mine)
    kept = {
        name: value for name, value in mine.items() if name in _MEANT or not _OF_THE_PERSON.fullmatch(name)
    }
    return {**units, **kept}


def parse_assignments(text: str) -> dict[str, str]:
    """`NAME=VALUE` words, quoted as systemd prints them (`Environment=` of `systemctl show`)."""
    try:
        words = shlex.split(text)
    except ValueError:
        return {}
    return {name: value for name, sign, value in (word.partition("=") for word in words) if sign}


def parse_environment_file(text: str) -> dict[str, str]:
    """The lines of an EnvironmentFile; comments and what is no assignment are passed over."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, sign, value = line.strip().partition("=")
        if not sign or name.startswith(("#", ";")):
            continue
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        # Only a value in quotes may have spaces that count; systemd takes the rest as it is.
        found[name.strip()] = words[0] if value.strip()[:1] in ("'", '"') and words else value.strip()
    return found
