"""What the unit tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.logs.agentlog import AgentLog
from tests.fakes.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A machine whose run the test submits."""
    with AgentLog(tmp_path / "agent.log") as agent_log:
        yield Stage(tmp_path / "scratch", agent_log)
