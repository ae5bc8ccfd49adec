"""The agent's own log on its way to CloudWatch Logs, by watchtower."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.clock import Deadline, SystemClock
from agent.logs.agentlog import AgentLog
from agent.logs.redact import Redactor
from tests.fakes.logs_service import Faults, LogsService, logs_service

log = logging.getLogger("agent.test")
CLOCK = SystemClock()


@pytest.fixture
def service() -> Iterator[LogsService]:
    """A service without any log group yet."""
    with logs_service() as running:
        yield running


@pytest.fixture
def agent_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentLog]:
    """A log of its own, with made-up credentials for boto3."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    level = logging.getLogger().level
    with AgentLog(tmp_path / "agent.log") as made:
        yield made
    logging.getLogger().setLevel(level)


def attach(agent_log: AgentLog, url: str) -> None:
    """To the stream of a run."""
    agent_log.attach("eu-west-1", "/solorun/test", "run/agent", endpoint_url=url)


def messages(service: LogsService) -> list[str]:
    """What this test logged, as it is in the stream."""
    return [event.rpartition(": ")[2] for event in service.look("events") if "agent.test" in event]


def test_from_the_first_record_on(service: LogsService, agent_log: AgentLog) -> None:
    """What was logged before the stream was there arrives as well, in order, and redacted."""
    log.info("before")
    agent_log.redact_with(Redactor(["hunter2!"]))
    attach(agent_log, service.url)
    log.info("during, with hunter2!")
    deadline = Deadline.after(20, CLOCK)
    while not messages(service) and not deadline.passed:
        time.sleep(0.02)
    log.info("after")
    agent_log.close(Deadline.after(20, CLOCK))

    assert messages(service) == ["before", "during, with [redacted]", "after"]
    assert service.look("problems") == []


def test_an_unreliable_service(service: LogsService, agent_log: AgentLog) -> None:
    """Though the service throttles or fails at most calls, everything arrives."""
    service.set(Faults(throttle=0.4, error=0.4))
    attach(agent_log, service.url)
    for number in range(500):
        log.info("record %d", number)
    agent_log.close(Deadline.after(60, CLOCK))

    assert messages(service) == [f"record {number}" for number in range(500)]


@pytest.mark.timeout(60, func_only=True)  # a thousand connections that are waited for take longer
def test_nobody_there(agent_log: AgentLog) -> None:
    """Without a service, logging goes on at once, the end comes at the deadline, and the file has everything."""
    attach(agent_log, "http://127.0.0.1:9")
    for number in range(1000):
        log.info("record %d", number)
    agent_log.close(Deadline.after(0.5, CLOCK))

    assert agent_log.path.read_text().count("record") == 1000


def test_denied(service: LogsService, agent_log: AgentLog) -> None:
    """Without the permission nothing is given up: what was logged arrives once it is granted."""
    service.set(Faults(deny_writing=True))
    attach(agent_log, service.url)
    log.info("patience")
    deadline = Deadline.after(20, CLOCK)
    while "AccessDenied" not in agent_log.path.read_text() and not deadline.passed:
        time.sleep(0.02)
    assert messages(service) == []
    service.set(Faults())
    agent_log.close(Deadline.after(30, CLOCK))

    assert messages(service) == ["patience"]
