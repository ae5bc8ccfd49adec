"""The agent's own log, as far as its file."""

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.clock import Deadline, SystemClock
from agent.logs.agentlog import AgentLog
from agent.logs.redact import Redactor

log = logging.getLogger("agent.test")


@pytest.fixture
def agent_log(tmp_path: Path) -> Iterator[AgentLog]:
    """A log in a folder that is not there yet; the root logger is as before afterwards."""
    level = logging.getLogger().level
    with AgentLog(tmp_path / "logs" / "agent.log") as made:
        yield made
    logging.getLogger().setLevel(level)


def test_a_line(agent_log: AgentLog) -> None:
    """Time in UTC, level, logger, message, then the fields as key=value."""
    log.info("started %s", "container", extra={"image": "demo:1"})

    line = agent_log.path.read_text()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO agent\.test: started container image=demo:1\n", line
    )


def test_at_once_and_whole(agent_log: AgentLog) -> None:
    """A line is in the file when the call comes back; an error has its traceback."""
    try:
        int("what happened")
    except ValueError:
        log.exception("failed")

    assert "failed\nTraceback" in agent_log.path.read_text()
    assert "ValueError: invalid literal" in agent_log.path.read_text()


def test_secrets(agent_log: AgentLog) -> None:
    """Once they are known, secrets are masked, in tracebacks too."""
    agent_log.redact_with(Redactor(["hunter2!"]))
    try:
        int("login with hunter2!")
    except ValueError:
        log.exception("hunter2!")

    text = agent_log.path.read_text()
    assert "hunter2!" not in text
    assert text.count("[redacted]") >= 2


def test_libraries_are_quiet(agent_log: AgentLog) -> None:
    """The AWS libraries' small talk is left out, their warnings are not."""
    logging.getLogger("botocore.credentials").info("found credentials")
    logging.getLogger("botocore.credentials").warning("found none")

    assert "found credentials" not in agent_log.path.read_text()
    assert "found none" in agent_log.path.read_text()


def test_it_is_appended_to(tmp_path: Path) -> None:
    """An agent that is started again goes on with the same file."""
    path = tmp_path / "agent.log"
    for _ in range(2):
        with AgentLog(path):
            log.info("started")

    assert path.read_text().count("started") == 2


def test_it_lets_go(agent_log: AgentLog) -> None:
    """After its end nothing is written to the file, and the root logger has none of its handlers."""
    handlers = len(logging.getLogger().handlers)
    agent_log.close(Deadline.after(5, SystemClock()))
    log.info("too late")

    assert len(logging.getLogger().handlers) == handlers - 2
    assert "too late" not in agent_log.path.read_text()


def test_imports_stay_light() -> None:
    """No module of the log shipping that the agent imports at its start imports an AWS library."""
    program = (
        "import sys, agent.logs.shipper, agent.logs.agentlog, agent.logs.cloudwatch, agent.logs.redact\n"
        "print([name for name in ('boto3', 'botocore', 'watchtower', 'urllib3') if name in sys.modules])"
    )

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "[]"
