"""`run-agent doctor` on a booted machine that executes a run, and after one thing and another was taken from it."""

from __future__ import annotations

import json
from typing import Any

from agent.contract import RunState
from agent.doctor.examination import LONGEST_S
from agent.run import AgentExit
from tests.fakes.s3_server import S3Server
from tests.integration.lone_machine import submit
from tests.machine.conftest import Boot
from tests.machine.machine import Limits, Machine

DOCTOR = ("/opt/solorun/venv/bin/run-agent", "doctor", "--json")
_SLACK_S = 60.0
"""To start Python, on a busy computer."""


def examined(machine: Machine, *prefix: str) -> tuple[AgentExit, dict[str, Any]]:
    """The doctor's exit code, and its findings by name; given within what it promises."""
    done = machine.run(*prefix, *DOCTOR, within=LONGEST_S + _SLACK_S)
    assert done.returncode in set(AgentExit), done.stderr.decode()
    return AgentExit(done.returncode), {
        finding["name"]: finding for finding in json.loads(done.stdout)["findings"]
    }


def content(machine: Machine) -> dict[str, Any]:
    """What the doctor finds where nothing required is missing; on a busy computer one answer may come too late."""
    for _ in range(3):
        code, findings = examined(machine)
        if code is AgentExit.DONE:
            return findings
    wrong = [f for f in findings.values() if f["level"] == "required" and f["state"] != "met"]
    raise AssertionError(f"{code!r}: {wrong}")


def lacks(machine: Machine, name: str, advice: str) -> None:
    """The doctor finds that this is not met, and advises it."""
    code, findings = examined(machine)
    assert code is AgentExit.NOT_READY
    assert findings[name]["state"] == "not met", findings[name]
    assert advice in findings[name]["advice"]


def test_the_doctor_finds_what_is_missing_and_only_that(aws: S3Server, boot: Boot) -> None:
    """A machine with a run has all that is required; each thing that is taken away is found, in time, by its name."""
    run = submit(aws, "sleepy", time_limit_s=600, params={"seconds": 3600})
    machine = boot(run, limits=Limits(reserve=600))
    run.until(RunState.RUNNING)

    findings = content(machine)
    assert run.prefix in findings["run-in-s3"]["found"]
    assert findings["hop-limit"]["state"] == "met"
    assert findings["dead-man-armed"]["found"] == "with the limit of the run"

    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    code, findings = examined(machine, *nobody)
    assert code is AgentExit.UNSURE
    assert findings["docker"]["state"] == "unknown"
    assert "root" in findings["docker"]["advice"]

    machine.kill("docker.service", "STOP")
    lacks(machine, "docker", "systemctl restart docker")
    machine.kill("docker.service", "CONT")

    # With its socket: else the agent, which watches its run, starts it again.
    machine.exec("systemctl", "stop", "docker.socket", "docker.service")
    lacks(machine, "docker", "systemctl start docker")
    assert machine.unit("docker.service", "ActiveState") == "inactive"

    machine.cut(aws=True)
    lacks(machine, "s3", "route table")
    machine.cut(metadata=True)
    lacks(machine, "metadata", "modify-instance-metadata-options")
