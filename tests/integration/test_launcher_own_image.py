"""`launcher run` on a machine image of a person's own: what is brought, what is sent, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import contract
from agent.contract import BOOT_REPORT, find_pointer, program_key
from launcher.catalog import NEXTFLOW_IMAGE
from launcher.programs import agent_sources
from launcher.user_data import LIMIT_S
from tests.fakes.s3_server import S3Server
from tests.integration.launcher_kit import Kit, operator

AGENT = b"the agent with its Python"
NEXTFLOW = b"a container image"


@pytest.fixture
def kit(aws: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    with operator(aws.url, tmp_path, monkeypatch) as kit:
        yield kit


def build(kit: Kit, *, arch: str = "x86_64", image: str = NEXTFLOW_IMAGE) -> None:
    """What `make bundle` would leave."""
    kit.bundles.mkdir(exist_ok=True)
    for name, body, more in (
        ("agent", AGENT, {"agent_sources": agent_sources()}),
        ("nextflow", NEXTFLOW, {"image": image}),
    ):
        note = {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body), **more}
        (kit.bundles / f"{name}-{arch}.tar.gz").write_bytes(body)
        (kit.bundles / f"{name}-{arch}.json").write_text(json.dumps(note))


def own_image(kit: Kit, *options: str, name: str = "debian", **attributes: Any) -> str:
    """An AMI of somebody else's, and a compute environment that uses it."""
    given = {"Architecture": "x86_64", "RootDeviceName": "/dev/sda1", **attributes}
    image_id = kit.register_image(name, **given)
    kit.add_compute_env("own", "--image-id", image_id, *options)
    return image_id


def key_of(kit: Kit, body: bytes) -> str:
    return program_key(kit.work_dir, hashlib.sha256(body).hexdigest())


def user_data(kit: Kit, run: dict[str, Any]) -> bytes:
    answer = kit.ec2.describe_instance_attribute(InstanceId=run["instance_id"], Attribute="userData")
    return base64.b64decode(answer["UserData"]["Value"])


def links(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)='?(.*?)'?$", text, re.MULTILINE))


def test_the_agent_is_sent_once_and_fetched_by_link(kit: Kit) -> None:
    """The machine's links read the agent, and write one report; a second run sends nothing."""
    own_image(kit)
    build(kit)
    first = kit("run", str(kit.pipeline()), "--json")
    assert first.code == 0, first.err
    assert first.err.count("this is done once") == 2
    assert kit.body(key_of(kit, AGENT)) == AGENT
    assert kit.body(key_of(kit, NEXTFLOW)) == NEXTFLOW

    run = first.json()
    text = user_data(kit, run).decode()
    assert text.startswith("#!/bin/sh\n")
    pointer = find_pointer(text.encode())
    assert pointer is not None
    assert pointer.prefix == contract.run_prefix(kit.work_dir, run["run_id"])
    values = links(text)
    assert values["AGENT_SHA256"] == hashlib.sha256(AGENT).hexdigest()
    assert (values["MACHINE"], values["LIMIT_S"]) == ("x86_64", str(LIMIT_S))
    with urllib.request.urlopen(values["AGENT_URL"]) as answer:  # noqa: S310 - moto's
        assert answer.read() == AGENT
    plain = {"Content-Type": "text/plain"}
    report = urllib.request.Request(values["REPORT_URL"], b"no way to S3", plain, method="PUT")  # noqa: S310 - moto's
    urllib.request.urlopen(report).close()  # noqa: S310 - moto's
    assert kit.body(contract.run_key(kit.work_dir, run["run_id"]) + BOOT_REPORT) == b"no way to S3"

    assert kit.spec(run["run_id"]).container_archive_sha256 == hashlib.sha256(NEXTFLOW).hexdigest()
    second = kit("run", str(kit.pipeline()), "--json")
    assert second.code == 0, second.err
    assert "this is done once" not in second.err


def test_the_machine_that_never_got_its_agent_tells_why(kit: Kit) -> None:
    """The machine is gone, and no status was ever written by it: `runs view` has the machine's own words."""
    own_image(kit)
    build(kit)
    run = kit.submit()
    kit.put(run["run_id"], BOOT_REPORT, "The agent could not be brought:\n\x1b[31m no docker")
    kit.ec2.terminate_instances(InstanceIds=[run["instance_id"]])
    kit.clock.sleep(600)
    view = kit.ok("runs", "view", run["run_id"])
    assert "UNKNOWN" in view.out
    assert "The agent could not be brought: [31m no docker" in view.out


def test_a_dry_run_shows_what_would_be_brought_and_makes_no_link(kit: Kit) -> None:
    """The script, the archives and where they would go are shown; nothing that anybody could use."""
    own_image(kit)
    build(kit)
    text = kit.ok("run", str(kit.pipeline()), "--dry-run").out
    for word in ("the agent for x86_64", NEXTFLOW_IMAGE, "#!/bin/sh", "bring-limit"):
        assert word in text
    assert "Signature" not in text
    plan = kit.ok("run", str(kit.pipeline()), "--dry-run", "--json").json()
    assert [item["bytes"] for item in plan["brought"]] == [len(AGENT), len(NEXTFLOW)]
    assert plan["machine"]["user_data"].startswith("#!/bin/sh")
    assert kit.keys() == []


@pytest.mark.parametrize(
    ("name", "options", "brings"),
    [
        ("solorun-2023.0.20230101-1-x86_64", (), False),
        ("debian", ("--image-has-agent",), False),
        ("debian", (), True),
        ("solorun-base", (), True),
        ("solorun-2023.0.20230101-1-x86_64", ("--image-without-agent",), True),
    ],
)
def test_an_image_with_the_agent_gets_the_pointer_alone(
    kit: Kit, name: str, options: tuple[str, ...], brings: bool
) -> None:
    """Our own releases are known by their name, others by what the compute environment says."""
    own_image(kit, *options, name=name)
    build(kit)
    data = user_data(kit, kit.submit())
    assert data.startswith(b"#!/bin/sh") is brings
    assert find_pointer(data) is not None


def test_a_container_image_of_a_registry_is_not_sent(kit: Kit) -> None:
    """The machine pulls it; only Nextflow's own image is in no registry."""
    own_image(kit)
    build(kit)
    config = kit.folder / "config/compute-envs/own.yaml"
    config.write_text(config.read_text() + "container_image: registry.example/nextflow:1\n")
    run = kit.submit()
    assert kit.spec(run["run_id"]).container_archive_sha256 is None
    assert key_of(kit, NEXTFLOW) not in set(kit.keys())


def test_what_cannot_work_is_refused_before_a_machine_is_started(kit: Kit) -> None:
    """Nothing was built, or not all of it: exit code 2 and what to do; S3 is as it was."""
    own_image(kit)
    result = kit("run", str(kit.pipeline()))
    assert result.code == 2
    assert "make bundle" in result.err
    assert "image_has_agent: true" in result.err
    build(kit)
    (kit.bundles / "nextflow-x86_64.json").unlink()
    result = kit("run", str(kit.pipeline()))
    assert result.code == 2
    assert f"the container image {NEXTFLOW_IMAGE}" in result.err
    assert "REGISTRY/NAME:TAG" in result.err
    assert kit.keys() == []


def test_an_archive_that_was_altered_is_not_sent(kit: Kit) -> None:
    """Another content of the same size: the checksum tells, and nothing is started."""
    own_image(kit)
    build(kit)
    (kit.bundles / "agent-x86_64.tar.gz").write_bytes(AGENT[::-1])
    result = kit("run", str(kit.pipeline()))
    assert result.code == 2
    assert "was changed after it was built" in result.err
    assert kit.keys() == []


def test_a_relaunch_brings_the_agent_as_well(kit: Kit) -> None:
    """The new run's machine gets links of its own."""
    own_image(kit)
    build(kit)
    run_id = kit.ended("first", contract.RunState.FAILED)
    again = kit.ok("runs", "relaunch", run_id, "--json").json()
    data = user_data(kit, again)
    pointer = find_pointer(data)
    assert pointer is not None
    assert pointer.run_id == again["run_id"] != run_id
    assert f"{again['run_id']}/{BOOT_REPORT}" in links(data.decode())["REPORT_URL"]
