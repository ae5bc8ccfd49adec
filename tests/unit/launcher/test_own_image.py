"""Machine images of a person's own: which of them a machine can be started from, and what is sent to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.bringing import SHOWN_LINKS, what_to_bring
from launcher.catalog import NEXTFLOW_IMAGE, Arch
from launcher.compute_envs import build
from launcher.errors import UserError
from launcher.machines import MachineImage, unfit
from launcher.preflight import check_boot_disk_fits
from launcher.programs import agent_for, agent_sources, container_image_for
from tests.unit.launcher.test_plan import CE, plan

SHA = "5f" * 32


def put(folder: Path, name: str, body: bytes = b"body", **note: Any) -> Path:
    path = folder / f"{name}.tar.gz"
    path.write_bytes(body)
    (folder / f"{name}.json").write_text(json.dumps({"sha256": SHA, "bytes": len(body), **note}))
    return path


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"Architecture": "arm64"}, "it is arm64; the compute environment asks for x86_64"),
        ({"State": "pending"}, "it is pending"),
        ({"State": "failed"}, "it is failed"),
        ({"Platform": "windows"}, "Windows"),
        ({"RootDeviceType": "instance-store"}, "not an EBS volume"),
        ({"VirtualizationType": "paravirtual"}, "paravirtual"),
    ],
)
def test_an_image_that_no_machine_can_be_started_from_is_known(described: dict[str, str], said: str) -> None:
    """What EC2 says of it is enough to refuse before anything is started."""
    [problem] = unfit(described, CE)
    assert said in problem


def test_all_that_is_wrong_with_an_image_is_said_at_once() -> None:
    """A good image has no problem; a bad one has all of its."""
    good = {
        "Architecture": "x86_64",
        "State": "available",
        "RootDeviceType": "ebs",
        "VirtualizationType": "hvm",
    }
    assert unfit(good, CE) == ()
    assert len(unfit({**good, "Architecture": "arm64", "State": "failed", "Platform": "Windows"}, CE)) == 3


def test_a_boot_disk_smaller_than_the_image_is_refused() -> None:
    """EC2 would refuse it later; the size that works is named."""
    check_boot_disk_fits(MachineImage("ami-1", disk_gb=50), 50)
    with pytest.raises(UserError, match="needs a boot disk of 120 GB") as caught:
        check_boot_disk_fits(MachineImage("ami-1", disk_gb=120), 50)
    assert "--boot-disk-gb 120" in caught.value.hint


def test_only_a_named_image_can_be_without_the_agent() -> None:
    """The published image has it: to say otherwise is a mistake in the file."""
    values = {"name": "a", "region": "eu-west-1", "work_dir": "s3://bucket/a", "image_has_agent": False}
    with pytest.raises(UserError) as caught:
        build(values, "a")
    assert caught.value.problems == (
        "image_has_agent: the published machine image has the agent; another one is named by image_id",
    )
    assert build({**values, "image_id": "ami-12345678"}, "a").image_has_agent is False


def test_what_was_not_built_is_said_with_what_to_do(tmp_path: Path) -> None:
    """No archive, a broken note, or an archive that was cut off: `make bundle`."""
    with pytest.raises(UserError) as caught:
        agent_for(tmp_path, Arch.X86_64)
    assert "make bundle" in caught.value.hint
    path = put(tmp_path, "agent-x86_64", agent_sources=agent_sources())
    assert agent_for(tmp_path, Arch.X86_64).sha256 == SHA
    path.write_bytes(b"bo")
    with pytest.raises(UserError):
        agent_for(tmp_path, Arch.X86_64)
    put(tmp_path, "agent-x86_64", sha256="short", agent_sources=agent_sources())
    with pytest.raises(UserError):
        agent_for(tmp_path, Arch.X86_64)


def test_an_agent_of_another_version_is_not_sent(tmp_path: Path) -> None:
    """A bundle from before an update would be noticed only on a machine that costs money."""
    put(tmp_path, "agent-x86_64", agent_sources="0" * 64)
    with pytest.raises(UserError, match="not of this version") as caught:
        agent_for(tmp_path, Arch.X86_64)
    assert "make bundle" in caught.value.hint


def test_a_container_image_is_sent_where_no_registry_has_it(tmp_path: Path) -> None:
    """Nextflow's own must be there; another one is sent where there is an archive of it, and else pulled."""
    with pytest.raises(UserError, match=NEXTFLOW_IMAGE):
        container_image_for(tmp_path, Arch.ARM64, NEXTFLOW_IMAGE)
    assert container_image_for(tmp_path, Arch.ARM64, "registry.example/a:1") is None
    put(tmp_path, "nextflow-arm64", image="registry.example/a:1")
    found = container_image_for(tmp_path, Arch.ARM64, "registry.example/a:1")
    assert found is not None
    assert found.what == "the container image registry.example/a:1 for arm64"
    with pytest.raises(UserError):
        container_image_for(tmp_path, Arch.ARM64, NEXTFLOW_IMAGE)


def test_nothing_is_brought_to_an_image_that_has_the_agent(tmp_path: Path) -> None:
    """Then nothing need have been built either."""
    assert what_to_bring(tmp_path, CE, MachineImage("ami-1")) is None


def test_the_plan_has_the_script_and_the_archive(tmp_path: Path) -> None:
    """User data become a script, the spec names the container image's archive; without it both are as ever."""
    put(tmp_path, "agent-x86_64", agent_sources=agent_sources())
    put(tmp_path, "nextflow-x86_64", image=NEXTFLOW_IMAGE)
    bringing = what_to_bring(tmp_path, CE, MachineImage("ami-1", has_agent=False))
    assert bringing is not None
    planned = plan(brought=bringing.brought(SHOWN_LINKS))
    assert planned.machine.user_data.startswith("#!/bin/sh\n")
    assert planned.spec.container_archive_sha256 == SHA
    assert plan().machine.user_data.startswith("{")
    assert plan().spec.container_archive_sha256 is None
    fields = dict(planned.as_fields())
    assert "the agent for x86_64 (4 B)" in fields["brought to it"]
    assert fields["user data"] == planned.machine.user_data
    assert "user data" not in {name for name, value in plan().as_fields() if value}
    json.dumps(planned.as_json())
