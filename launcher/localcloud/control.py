"""The supervisor's own requests: what goes over the wire between `launcher local` and the server."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

CONTROL: Final = "/_solorun/"
"""Paths of the supervisor's own requests; no bucket's name begins with an underscore."""
TOKEN_HEADER: Final = "X-Solorun-Token"  # noqa: S105 - a header, no secret


class MachineReport(BaseModel):
    """What is known of one machine, for people."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    instance_id: str
    instance_type: str
    region: str
    state: str
    """The machine's own state (MachineState), not EC2's."""
    run_id: str | None
    run_name: str | None
    agent_pid: int | None
    agent_starts: int | None
    """None where it cannot be seen from outside of the machine."""
    launched_at: datetime
    interruption_at: datetime | None
    console: Path
    """The agent's stdout and stderr."""
    spot: bool
    """Whether it was started as a Spot instance."""
