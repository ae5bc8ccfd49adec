"""Compute environments as files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import launcher
from launcher import catalog
from launcher.compute_envs import ComputeEnv, ComputeEnvs, build
from launcher.errors import NotThere, UserError

GOOD: dict[str, Any] = {"name": "main", "region": "eu-west-1", "work_dir": "s3://bucket/work"}


def test_defaults_are_those_of_the_catalog() -> None:
    """Region and work dir are enough; a Graviton environment gets a Graviton machine."""
    ce = build(GOOD, "test")
    assert (ce.machine_type, ce.boot_disk_gb, ce.log_group) == ("m5d.large", 50, "/solorun")
    assert ce.time_limit_s == 24 * 3600
    assert build({**GOOD, "arm64": True}, "test").machine_type == "m6gd.large"


def test_all_problems_come_at_once_with_their_field_paths(tmp_path: Path) -> None:
    """Every wrong field of a file is named, beside the file itself."""
    envs = ComputeEnvs(tmp_path)
    envs.folder.mkdir()
    envs.path("bad").write_text(
        "region: eu-wets-1\nwork_dir: /tmp\nboot_disk_gb: 5\nimage_id: latest\nsubnets: [x]\ncolour: red\n"
        "instance_type: m6gd.large\nboot_disk_kms_key: k\ntime_limit: soon\nenvironment: [{name: 1A, value: b}]\n"
        f"pre_run_script: {'x' * 1025}\n"
    )
    with pytest.raises(UserError) as caught:
        envs.get("bad")
    assert str(envs.path("bad")) in caught.value.message
    problems = "\n".join(caught.value.problems)
    for field in (
        "region: 'eu-wets-1' is not supported. Did you mean eu-west-1",
        "work_dir: '/tmp' must be written like s3://",
        "boot_disk_gb:",
        "image_id: 'latest' must be written like ami-",
        "subnets.0: 'x' must be written like subnet-",
        "colour:",
        "instance_type: m6gd.large is arm64, but arm64 is false",
        "boot_disk_kms_key: a key needs",
        "time_limit: 'soon' is not a duration",
        "environment.0.name:",
        "pre_run_script:",
    ):
        assert field in problems


@pytest.mark.parametrize("field", ComputeEnv.model_fields)
def test_every_field_is_read_somewhere(field: str) -> None:
    """What a person can set has an effect: a field that nothing reads would be a promise not kept."""
    sources = [path.read_text() for path in Path(launcher.__path__[0]).rglob("*.py")]
    assert any(re.search(rf"\b(?:ce|self)\.{field}\b", text) for text in sources)


@pytest.mark.parametrize("region", catalog.REGIONS)
def test_every_region_of_the_catalog_is_taken(region: str) -> None:
    """The 22 of them; others only in the local cloud."""
    assert build({**GOOD, "region": region}, "test").region == region


def test_other_regions_are_for_the_local_cloud_only() -> None:
    """There is no machine image in them."""
    assert len(catalog.REGIONS) == 22
    with pytest.raises(UserError, match="not valid"):
        build({**GOOD, "region": "mars-1"}, "test")
    assert build({**GOOD, "region": "mars-1", "local": True}, "test").local


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """A file holds what differs from the defaults, and gives the same values back."""
    envs = ComputeEnvs(tmp_path)
    ce = build(
        {**GOOD, "nextflow_config": "a {\n  b = 'ü'\n}\n", "subnets": ("subnet-1", "subnet-2")}, "test"
    )
    path = envs.add(ce)
    assert "boot_disk_gb" not in path.read_text()
    assert envs.get("main") == ce
    with pytest.raises(UserError, match="exists already"):
        envs.add(ce)


def test_a_file_that_is_no_yaml_is_named_with_the_line(tmp_path: Path) -> None:
    """A person edits these files by hand."""
    envs = ComputeEnvs(tmp_path)
    envs.folder.mkdir()
    envs.path("bad").write_text("region: [eu-west-1\nwork_dir: x\n")
    with pytest.raises(UserError) as caught:
        envs.get("bad")
    assert "line 2" in caught.value.problems[0]
    envs.path("bad").write_text("just text")
    with pytest.raises(UserError, match="field: value"):
        envs.get("bad")


def test_which_one_is_used_when_none_is_named(tmp_path: Path) -> None:
    """The only one; of several the default; else the person is asked, with their names."""
    envs = ComputeEnvs(tmp_path)
    with pytest.raises(UserError, match="no compute environment yet"):
        envs.choose(None)
    envs.add(build(GOOD, "test"))
    assert envs.choose(None).name == "main"
    envs.add(build({**GOOD, "name": "gpu"}, "test"))
    with pytest.raises(UserError, match="gpu, main"):
        envs.choose(None)
    envs.set_default("gpu")
    assert envs.choose(None).name == "gpu"
    envs.delete("gpu")
    assert envs.default() is None
    assert envs.choose(None).name == "main"


@pytest.mark.parametrize("name", ["mian", "../main", "", "main.yaml"])
def test_an_unknown_name_is_refused(tmp_path: Path, name: str) -> None:
    """A name is looked up among those there are, never taken as a path."""
    envs = ComputeEnvs(tmp_path)
    envs.add(build(GOOD, "test"))
    for act in (envs.get, envs.delete, envs.set_default):
        with pytest.raises(NotThere, match="no compute environment"):
            act(name)


def test_work_dirs_that_runs_chose_are_remembered_once(tmp_path: Path) -> None:
    """Its own comes first; deleting the environment forgets the others."""
    envs = ComputeEnvs(tmp_path)
    ce = build(GOOD, "test")
    envs.add(ce)
    for _ in range(2):
        envs.remember_work_dir(ce, "s3://other/x")
    assert envs.work_dirs(ce) == ("s3://bucket/work", "s3://other/x")
    envs.delete("main")
    assert envs.work_dirs(ce) == ("s3://bucket/work",)
