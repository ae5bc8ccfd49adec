"""Starting the machine, and what becomes of a run whose machine does not start."""

from __future__ import annotations

from typing import Any, cast

import pytest
from botocore.exceptions import EndpointConnectionError

from agent import contract
from agent.contract import Claim, RunState, RunStatus, StopReason
from launcher.aws import Aws
from launcher.aws_errors import CAPACITY_CODES
from launcher.compute_envs import ComputeEnv
from launcher.errors import (
    CapacityUnavailable,
    CloudError,
    ExitCode,
    Interrupted,
    LauncherError,
    UserError,
)
from launcher.machines import Machines
from launcher.run_book import RunBook
from launcher.submit import NameTaken, submit
from tests.fakes.aws_clients import FakeAws, FakeEc2, FakeS3, SleepyClock, client_error
from tests.unit.launcher.test_plan import CE, IDENTITY, plan

FULL = client_error("InsufficientInstanceCapacity", "RunInstances", "no m5d.large here", 500)
NO_PROFILE = client_error(
    "InvalidParameterValue",
    "RunInstances",
    "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
)
SUBNETS = CE.model_copy(update={"subnets": ("subnet-1", "subnet-2")})


class Stage:
    """A plan, and fakes to carry it out on."""

    def __init__(
        self, *answers: str | BaseException, ce: ComputeEnv = CE, subnets: tuple[str, ...] = ()
    ) -> None:
        self.s3 = FakeS3()
        self.ec2 = FakeEc2(*answers, default_subnets=subnets)
        self.clock = SleepyClock()
        aws = cast(Aws, FakeAws(ce, s3=self.s3, ec2=self.ec2))
        self.book = RunBook(aws, ce.work_dir)
        self.machines = Machines(aws, self.clock)
        self.plan = plan(ce=ce, bundle=b"packed")

    def submit(self) -> str:
        return submit(self.plan, self.book, self.machines, self.clock).instance_id

    def status(self) -> RunStatus:
        return self.book.status(IDENTITY.run_id)

    def asked(self, name: str) -> list[Any]:
        return [parameters.get(name) for parameters in self.ec2.asked]


def test_a_new_instance_profile_is_waited_for() -> None:
    """IAM takes a while to tell EC2: the same request is repeated until it is known."""
    stage = Stage(NO_PROFILE, NO_PROFILE, NO_PROFILE, "i-1")
    assert stage.submit() == "i-1"
    assert set(stage.asked("ClientToken")) == {IDENTITY.run_id}
    assert 0 < stage.clock.seconds <= 120


def test_an_instance_profile_that_never_comes_is_given_up_after_two_minutes() -> None:
    """Then it is the person's to mend, and nothing is left behind."""
    stage = Stage(*[NO_PROFILE] * 100)
    with pytest.raises(UserError, match="Invalid IAM Instance Profile"):
        stage.submit()
    assert 120 <= stage.clock.seconds <= 135
    assert stage.s3.objects == {}


def test_another_wrong_parameter_is_not_repeated() -> None:
    """Only the profile may become right by waiting."""
    stage = Stage(client_error("InvalidParameterValue", "RunInstances", "Invalid user data"))
    with pytest.raises(UserError, match="Invalid user data"):
        stage.submit()
    assert stage.clock.seconds == 0
    assert stage.s3.objects == {}


@pytest.mark.parametrize("code", sorted(CAPACITY_CODES))
def test_where_one_zone_is_full_the_next_is_tried(code: str) -> None:
    """Each subnet of the compute environment in its order, with a token of its own."""
    stage = Stage(client_error(code, "RunInstances"), "i-2", ce=SUBNETS)
    assert stage.submit() == "i-2"
    assert stage.asked("SubnetId") == ["subnet-1", "subnet-2"]
    assert len(set(stage.asked("ClientToken"))) == 2


def test_without_subnets_those_of_the_default_vpc_are_tried() -> None:
    """EC2 chooses first; then each zone is asked."""
    stage = Stage(FULL, FULL, "i-3", subnets=("subnet-a", "subnet-b"))
    assert stage.submit() == "i-3"
    assert stage.asked("SubnetId") == [None, "subnet-a", "subnet-b"]


def test_a_run_without_capacity_is_kept_as_failed() -> None:
    """Exit code 6; the run can be relaunched, and no machine can take it up any more."""
    stage = Stage(FULL, FULL, ce=SUBNETS)
    with pytest.raises(CloudError) as caught:
        stage.submit()
    assert caught.value.exit_code is ExitCode.CLOUD
    assert "launcher runs relaunch nimble_mendel" in caught.value.hint
    assert len(caught.value.problems) == 2
    status = stage.status()
    assert (status.state, status.stop_reason) == (RunState.FAILED, StopReason.CAPACITY_UNAVAILABLE)
    assert "subnet-2" in status.message
    claim = stage.book.claim(IDENTITY.run_id)
    assert claim is not None
    assert claim.claimed_by == "launcher"


def test_without_an_answer_no_machine_may_take_up_the_run() -> None:
    """A machine may have been started: the launcher's claim makes sure that it ends itself."""
    stage = Stage(EndpointConnectionError(endpoint_url="https://ec2"))
    with pytest.raises(CloudError):
        stage.submit()
    assert stage.status().state is RunState.FAILED


def test_a_machine_that_started_in_spite_of_no_answer_keeps_its_run() -> None:
    """Its claim came first, so the run goes on, and that is what is told."""
    stage = Stage(EndpointConnectionError(endpoint_url="https://ec2"))
    claim = Claim(run_id=IDENTITY.run_id, claimed_by="i-9", claimed_at=stage.clock.now())
    key = contract.run_key(CE.work_dir, IDENTITY.run_id) + contract.CLAIM
    stage.s3.objects[key] = claim.model_dump_json().encode()
    assert stage.submit() == "i-9"
    assert stage.status().state is RunState.SUBMITTED


def test_ctrl_c_while_the_machine_starts_says_what_is_left() -> None:
    """The run stays, and how to end it is told; exit code 130."""
    stage = Stage(KeyboardInterrupt())
    with pytest.raises(Interrupted) as caught:
        stage.submit()
    assert caught.value.exit_code is ExitCode.INTERRUPTED
    assert "launcher runs cancel nimble_mendel" in caught.value.hint
    assert stage.status().state is RunState.SUBMITTED


@pytest.mark.parametrize(
    "name", ["names/nimble_mendel", contract.BUNDLE, contract.SPEC, contract.STATUS, "index/"]
)
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), client_error("AccessDenied", "PutObject", status=403)]
)
def test_whatever_breaks_before_the_machine_leaves_nothing(name: str, error: BaseException) -> None:
    """Ctrl-C or a refusal at any write: S3 is as before, and no machine was asked for."""
    stage = Stage()

    def fail(key: str) -> None:
        if name in key:
            raise error

    stage.s3.before_put = fail
    with pytest.raises((KeyboardInterrupt, UserError)):
        stage.submit()
    assert stage.s3.objects == {}
    assert stage.ec2.asked == []


def test_the_first_status_is_as_old_as_its_writing() -> None:
    """Sending a large pipeline takes a while, which must not make the run look silent."""
    stage = Stage("i-1")

    def send_slowly(key: str) -> None:
        if contract.BUNDLE in key:
            stage.clock.sleep(300)

    stage.s3.before_put = send_slowly
    stage.submit()
    assert stage.status().heartbeat_at == stage.clock.now()
    assert stage.clock.seconds == 300


def test_another_runs_name_is_not_taken_from_it() -> None:
    """The marker of the run that has the name stays, and its id is told."""
    stage = Stage()
    stage.s3.objects[contract.name_key(CE.work_dir, "nimble_mendel")] = b"20260101t000000-zzzzzz"
    with pytest.raises(NameTaken, match="20260101t000000-zzzzzz"):
        stage.submit()
    assert list(stage.s3.objects.values()) == [b"20260101t000000-zzzzzz"]


NO_DELETE = client_error("AccessDenied", "DeleteObjects", status=403)


@pytest.mark.parametrize(
    ("error", "raised"),
    [(KeyboardInterrupt(), Interrupted), (client_error("AccessDenied", "PutObject", status=403), UserError)],
)
def test_what_cannot_be_taken_back_is_told(error: BaseException, raised: type[Exception]) -> None:
    """Where S3 refuses to delete too: what is left and where, and how to remove it."""
    stage = Stage()

    def fail(key: str) -> None:
        if key.endswith(contract.STATUS):
            raise error

    stage.s3.before_put = fail
    stage.s3.delete_failure = NO_DELETE
    with pytest.raises(raised) as caught:
        stage.submit()
    assert isinstance(caught.value, LauncherError)
    assert f"s3://bucket/{contract.run_key(CE.work_dir, IDENTITY.run_id)}" in caught.value.message
    assert "launcher runs delete nimble_mendel" in caught.value.hint


@pytest.mark.parametrize("error", [FULL, client_error("InvalidParameterValue", "RunInstances", "no")])
def test_a_run_that_was_cancelled_meanwhile_stays_cancelled(error: Exception) -> None:
    """From another terminal, while EC2 was asked: the final status is kept, whatever EC2 then answers."""
    stage = Stage(error)
    run_instances = stage.ec2.run_instances

    def cancel_first(**parameters: Any) -> dict[str, Any]:
        assert stage.book.claim_for_launcher(IDENTITY.run_id, stage.clock)
        stage.book.finish(stage.plan.status, StopReason.CANCELLED, "Cancelled by ada.", stage.clock)
        return run_instances(**parameters)

    stage.ec2.run_instances = cancel_first  # type: ignore[method-assign]  # what happens meanwhile
    with pytest.raises(LauncherError):
        stage.submit()
    assert (stage.status().state, stage.status().message) == (RunState.CANCELLED, "Cancelled by ada.")


@pytest.mark.parametrize("name", ["names/nimble_mendel", contract.SPEC])
def test_a_write_whose_answer_was_lost_is_our_own(name: str) -> None:
    """A retry is told that the key exists; where it holds what we wrote, the run goes on."""
    stage = Stage("i-1")
    [write] = [item for item in (stage.plan.reserve, *stage.plan.writes) if item.key.endswith(name)]
    assert write.body is not None
    stage.s3.objects[write.key] = write.body
    assert stage.submit() == "i-1"


def test_another_spec_under_the_runs_id_is_an_error() -> None:
    """Written once means by this launcher; no machine is started for what another wrote."""
    stage = Stage("i-1")
    stage.s3.objects[contract.run_key(CE.work_dir, IDENTITY.run_id) + contract.SPEC] = b"{}"
    with pytest.raises(UserError):
        stage.submit()
    assert stage.ec2.asked == []


def test_no_capacity_is_an_error_of_its_own() -> None:
    """Each zone's answer is kept."""
    stage = Stage(FULL, FULL, ce=SUBNETS)
    with pytest.raises(CapacityUnavailable) as caught:
        stage.machines.start(stage.plan.machine)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["subnet-1", "subnet-2"]
