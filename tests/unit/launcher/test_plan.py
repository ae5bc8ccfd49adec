"""Requests and plans: pure, so tried with everything that hypothesis makes up."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import contract
from agent.contract import PipelineSource, RunPointer, RunSpec, SecretRef, SecretStore
from launcher.compute_envs import ComputeEnv
from launcher.errors import UserError
from launcher.machines import run_instances_parameters
from launcher.plan import Identity, LaunchPlan, plan_launch
from launcher.request import (
    RunArguments,
    RunRequest,
    merge,
    parse_params,
    parse_params_file,
    parse_secret_ref,
    read_request,
)

CE = ComputeEnv(name="main", region="eu-west-1", work_dir="s3://bucket/work")
IDENTITY = Identity(
    run_id="20260401t120000-abc123",
    name="nimble_mendel",
    owner="arn:aws:iam::1:user/ada",
    session_id="01234567-89ab-4cde-8f01-23456789abcd",
    submitted_at=datetime(2026, 4, 1, 12, tzinfo=UTC),
)
SOURCE = PipelineSource(repository="https://example.org/x.git", revision="v1")
names = st.from_regex(contract.RUN_NAME_PATTERN, fullmatch=True).filter(lambda name: len(name) <= 80)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
requests = st.builds(
    RunRequest,
    source=st.just(SOURCE),
    pipeline=texts,
    name=st.none() | names,
    profiles=st.lists(st.from_regex(r"[A-Za-z_][\w.-]*", fullmatch=True), max_size=3).map(tuple),
    params=st.dictionaries(texts, values, max_size=4),
    config=st.none() | texts,
    stub_run=st.booleans(),
    work_dir=st.none() | st.just("s3://other-bucket"),
    time_limit_s=st.none() | st.integers(1, 30 * 86400),
    spot=st.booleans(),
    resumable=st.booleans(),
    instance_type=st.sampled_from([None, "m5d.xlarge", "c5.metal"]),
    boot_disk_gb=st.none() | st.integers(50, 16384),
    platform_token=st.none() | st.just(SecretRef(env="TOWER_ACCESS_TOKEN", store=SecretStore.SSM, id="/t")),
    secrets=st.just(()),
    session_id=st.none(),
    resume_from=st.none(),
)


def plan(request: RunRequest | None = None, ce: ComputeEnv = CE, **more: Any) -> LaunchPlan:
    """The plan for a request."""
    return plan_launch(
        request or RunRequest(source=SOURCE, pipeline="x"), ce, IDENTITY, image_id="ami-12345678", **more
    )


@given(requests)
def test_a_request_survives_json(request: RunRequest) -> None:
    """What is asked can be kept and read again."""
    assert RunRequest.model_validate_json(request.model_dump_json()) == request


@given(requests)
def test_every_request_becomes_a_plan_whose_files_can_be_read(request: RunRequest) -> None:
    """The spec that is written is the one that was planned; its plan is JSON; user data is the pointer alone."""
    planned = plan(request)
    bodies = {write.key.rsplit("/", 1)[-1]: write.body for write in planned.writes}
    assert contract.parse(RunSpec, bodies[contract.SPEC] or b"") == planned.spec
    pointer = contract.parse(RunPointer, planned.machine.user_data)
    assert pointer == planned.pointer
    assert len(planned.machine.user_data) < 16 * 1024
    json.dumps(planned.as_json())
    assert all(isinstance(value, str) for _, value in planned.as_fields())


def test_the_compute_environment_fills_what_the_request_leaves() -> None:
    """Machine, disk, limit and work dir come from it; the request's own win."""
    ce = CE.model_copy(update={"instance_type": "r5.large", "time_limit": "2h", "boot_disk_gb": 80})
    filled = plan(ce=ce)
    assert (filled.machine.instance_type, filled.machine.boot_disk_gb) == ("r5.large", 80)
    assert (filled.spec.time_limit_s, filled.spec.work_dir) == (7200, "s3://bucket/work")
    own = plan(
        RunRequest(
            source=SOURCE,
            pipeline="x",
            instance_type="m5.large",
            boot_disk_gb=60,
            time_limit_s=60,
            work_dir="s3://mine",
        ),
        ce,
    )
    assert (own.machine.instance_type, own.machine.boot_disk_gb) == ("m5.large", 60)
    assert (own.spec.time_limit_s, own.spec.work_dir) == (60, "s3://mine")


def test_the_spec_is_written_before_the_status_and_only_once() -> None:
    """The order in which things are written, and which of them must not exist before."""
    planned = plan(bundle=b"packed")
    writes = (planned.reserve, *planned.writes)
    ends = [write.key.rsplit("/", 1)[-1] for write in writes]
    assert ends[:4] == ["nimble_mendel", contract.BUNDLE, contract.SPEC, contract.STATUS]
    assert [write.once for write in writes] == [True, False, True, False, False]


def test_run_instances_gets_what_the_compute_environment_says() -> None:
    """Everything optional appears when it is set, and not otherwise."""
    bare = run_instances_parameters(plan().machine, None)
    assert not {
        "SubnetId",
        "SecurityGroupIds",
        "KeyName",
        "IamInstanceProfile",
        "InstanceMarketOptions",
    } & set(bare)
    assert bare["BlockDeviceMappings"][0]["Ebs"] == {
        "VolumeSize": 50,
        "VolumeType": "gp3",
        "DeleteOnTermination": True,
    }
    assert bare["ClientToken"] == IDENTITY.run_id
    assert bare["InstanceInitiatedShutdownBehavior"] == "terminate"
    ce = CE.model_copy(
        update={
            "key_pair": "k",
            "security_groups": ("sg-1",),
            "instance_profile": "arn:aws:iam::1:instance-profile/p",
            "boot_disk_encrypted": True,
            "boot_disk_kms_key": "key",
        }
    )
    full = run_instances_parameters(
        plan(RunRequest(source=SOURCE, pipeline="x", spot=True), ce).machine, "subnet-1", attempt=2
    )
    assert full["SubnetId"] == "subnet-1"
    assert full["SecurityGroupIds"] == ["sg-1"]
    assert full["KeyName"] == "k"
    assert full["IamInstanceProfile"] == {"Arn": "arn:aws:iam::1:instance-profile/p"}
    assert full["InstanceMarketOptions"] == {
        "MarketType": "spot",
        "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
    }
    assert full["BlockDeviceMappings"][0]["Ebs"]["KmsKeyId"] == "key"
    assert full["ClientToken"] == f"{IDENTITY.run_id}-2"
    assert len(full["ClientToken"]) <= 64


def test_an_instance_type_of_the_other_architecture_is_refused() -> None:
    """The machine image would not boot on it."""
    with pytest.raises(UserError, match="arm64"):
        plan(RunRequest(source=SOURCE, pipeline="x", instance_type="m6gd.large"))


@given(st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True), values, max_size=5))
def test_params_survive_the_command_line_and_the_file(params: dict[str, Any]) -> None:
    """JSON is YAML: a value written as JSON comes back as it was, by either way."""
    typed = parse_params(tuple(f"{key}={json.dumps(value)}" for key, value in params.items()))
    assert typed == params
    assert parse_params_file(json.dumps(params), "params.json") == params


@given(st.lists(texts | texts.map("a={}".format), max_size=5))
def test_any_text_as_a_param_is_taken_or_refused_clearly(items: list[str]) -> None:
    """Never anything but values that JSON can carry, or a UserError that names the option."""

    def outcome() -> str:
        try:
            json.dumps(parse_params(tuple(items)), allow_nan=False).encode()
        except UserError as error:
            return error.message
        return "--param"

    assert "--param" in outcome()


def test_dotted_params_are_nested_and_merged() -> None:
    """`--param a.b=1` sets b within a, beside what the file has there."""
    typed = parse_params(("a.b=1", "a.c=x"))
    assert typed == {"a": {"b": 1, "c": "x"}}
    assert merge({"a": {"b": 0, "d": 2}, "e": 3}, typed) == {"a": {"b": 1, "c": "x", "d": 2}, "e": 3}
    with pytest.raises(UserError, match="value of its own"):
        parse_params(("a=1", "a.b=2"))


@pytest.mark.parametrize("text", ["hunter2", "ssm:", "vault:x", "", "ssm"])
def test_a_secret_that_is_no_reference_is_not_repeated(text: str) -> None:
    """It may be the secret itself, typed by mistake."""
    with pytest.raises(UserError) as caught:
        parse_secret_ref(text, "KEY")
    assert "hunter2" not in str(caught.value)
    assert "ssm:NAME" in caught.value.message


def test_a_secrets_arn_may_hold_colons() -> None:
    """Only the first colon divides."""
    ref = parse_secret_ref("secretsmanager:arn:aws:secretsmanager:eu-west-1:1:secret:x", "KEY")
    assert ref.id == "arn:aws:secretsmanager:eu-west-1:1:secret:x"


def test_a_single_problem_keeps_its_hint_and_several_are_listed(tmp_path: Path) -> None:
    """One problem is the error itself; more become a list."""
    (tmp_path / "main.nf").touch()

    def read(**arguments: Any) -> UserError:
        with pytest.raises(UserError) as caught:
            read_request(RunArguments(str(tmp_path), **arguments), lambda: "")
        return caught.value

    assert read(work_dir="x").hint.startswith("Write it like")
    assert len(read(work_dir="x", name="X", params=("a", "b=1", "b=2")).problems) >= 4
