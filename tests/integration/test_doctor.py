"""`run-agent doctor` as a process: on this computer as it is, and as a machine of a run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.contract import SPEC
from agent.doctor.examination import LONGEST_S
from agent.run import AgentExit
from tests.fakes.s3_server import KEYS, S3Server
from tests.integration.lone_machine import lone_machine, submit

_START_S = 60.0
"""To start Python, on a busy computer."""


def doctor(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """The doctor's answer, within what it promises."""
    return subprocess.run(
        [sys.executable, "-m", "agent", "doctor", *options],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_S + _START_S,
    )


def heard(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The doctor's answer where everybody answers him; on a busy computer one may do so too late once."""
    for _ in range(3):
        done = doctor(environment, "--json")
        if "no answer within" not in done.stdout:
            break
    return done


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The findings by name."""
    return {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}


@pytest.fixture
def tarpit(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two addresses that take every connection and never say a word: a URL, and a socket of Docker's kind."""
    with ExitStack() as stack:
        web = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(tmp_path / "s"))
        unix.listen(64)
        yield f"http://127.0.0.1:{web.getsockname()[1]}", f"unix://{tmp_path}/s"


def test_a_computer_that_is_no_instance_is_told_so() -> None:
    """Docker answers, no metadata service does: not ready, and the table says why."""
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9",
        "COLUMNS": "100",
    }
    done = heard(environment)
    assert done.returncode == AgentExit.NOT_READY
    assert json.loads(done.stdout)["instance_id"] is None
    found = findings(done)
    assert found["docker"]["state"] == "met"
    assert found["metadata"]["state"] == "not met"
    assert "no instance" in found["metadata"]["advice"]
    shown = doctor(environment)
    assert shown.returncode == AgentExit.NOT_READY
    assert "This machine is not ready" in shown.stdout
    assert shown.stderr == ""


def test_the_run_of_a_machine_is_looked_at_and_left_as_it_is(aws: S3Server, tmp_path: Path) -> None:
    """Its objects are read with the instance's own credentials, nothing is written, and no secret is told."""
    run = submit(aws, "hello")
    with lone_machine(tmp_path, run) as machine:
        before = run.names()
        done = heard(machine.environment)
        found = findings(done)
        for name in ("metadata", "hop-limit", "user-data", "instance-profile", "s3", "logs", "clock"):
            assert found[name]["state"] == "met", found[name]
        assert found["run-in-s3"]["state"] == "met", found["run-in-s3"]
        assert found["nextflow-image"]["state"] == "met"
        assert run.names() == before
        assert not Path(machine.environment["RUN_AGENT_SCRATCH"]).exists()
        assert KEYS.secret_access_key not in done.stdout + done.stderr
        aws.client.delete_object(Bucket=aws.bucket, Key=run.key(SPEC))
        lost = findings(heard(machine.environment))["run-in-s3"]
        assert lost["state"] == "not met"
        assert SPEC in lost["found"]


def test_whatever_hangs_the_answer_comes(aws: S3Server, tmp_path: Path, tarpit: tuple[str, str]) -> None:
    """AWS and Docker, then the metadata service too, take every question and never answer: that is the answer."""
    url, docker_socket = tarpit
    with lone_machine(tmp_path, submit(aws, "hello"), endpoint_url=url) as machine:
        environment = {**machine.environment, "DOCKER_HOST": docker_socket}
        found = findings(doctor(environment, "--json"))
        for name in ("docker", "s3", "run-in-s3", "logs"):
            assert found[name]["state"] == "not met", found[name]
        deaf = findings(doctor({**environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT": url}, "--json"))
        assert deaf["metadata"]["state"] == "not met"


def test_an_unknown_word_does_not_start_the_agent() -> None:
    """A slip of the pen is refused: nothing is executed and no machine turned off."""
    words = [sys.executable, "-m", "agent", "doctr"]
    done = subprocess.run(words, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "doctor" in done.stderr
