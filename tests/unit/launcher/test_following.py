"""Following a run through outages, refusals and deletion."""

from __future__ import annotations

import io
from typing import Any, cast

import pytest

from agent import contract
from agent.contract import RunState, RunStatus, StopReason
from launcher.aws import Aws
from launcher.errors import CloudError, NotThere
from launcher.following import Remark, Watch, follow, wait_for
from launcher.logs import LogLine, LogStream
from launcher.machines import Machines
from launcher.run_book import RunBook
from tests.fakes.aws_clients import FakeAws, FakeLogs, FakeS3, SleepyClock, client_error
from tests.unit.launcher.test_plan import CE, IDENTITY, plan

RUN = IDENTITY.run_id
DENIED = client_error("AccessDeniedException", "GetLogEvents")
GONE = client_error("ResourceNotFoundException", "GetLogEvents")
OUTAGE = client_error("InternalError", "GetObject", status=500)


class Body(io.BytesIO):
    """What boto3 gives for an object's body."""

    def iter_chunks(self, size: int) -> Any:
        return iter(lambda: self.read(size), b"")


class StreamingS3(FakeS3):
    """Bodies that can be read in pieces."""

    def get_object(self, *, Key: str, **more: Any) -> dict[str, Any]:  # noqa: N803 - boto3's names
        return {"Body": Body(super().get_object(Key=Key, **more)["Body"].getvalue())}


class Stage:
    """A run in fakes."""

    def __init__(self, logs: FakeLogs) -> None:
        self.s3 = StreamingS3()
        self.clock = SleepyClock()
        aws = cast(Aws, FakeAws(CE, s3=self.s3, logs=logs))
        self.book = RunBook(aws, CE.work_dir)
        self.watch = Watch(self.book, Machines(aws, self.clock), RUN, self.clock)
        self.stream = LogStream(aws, "/solorun", RUN)
        self.status = plan().status.model_copy(update={"heartbeat_at": self.clock.now()})
        self.put(contract.STATUS, self.status.model_dump_json())

    def put(self, name: str, body: str) -> None:
        self.s3.objects[self.book.key(RUN, name)] = body.encode()

    def finish(self) -> None:
        done = self.status.model_copy(
            update={
                "state": RunState.SUCCEEDED,
                "stop_reason": StopReason.COMPLETED,
                "started_at": self.clock.now(),
            }
        )
        self.put(contract.STATUS, done.model_dump_json())

    def follow(self) -> list[Any]:
        return list(follow(self.watch, self.stream))


def test_a_log_that_may_not_be_read_comes_from_s3_at_the_end() -> None:
    """The person is told once, and then sees the whole log."""
    stage = Stage(FakeLogs(always=DENIED))
    stage.put(contract.WORKLOAD_LOG, "one\ntwo\n")
    stage.clock.while_asleep = [lambda: None, stage.finish]
    events = stage.follow()
    assert [event.text for event in events if isinstance(event, LogLine)] == ["one", "two"]
    remarks = [event.text for event in events if isinstance(event, Remark)]
    assert len(remarks) == 1
    assert "logs:GetLogEvents" in remarks[0]
    assert [event.state for event in events if isinstance(event, RunStatus)] == ["SUBMITTED", "SUCCEEDED"]


def test_a_run_that_is_deleted_ends_the_following() -> None:
    """There is nothing to wait for any more."""
    stage = Stage(FakeLogs(always=GONE))
    stage.clock.while_asleep = [lambda: None, stage.s3.objects.clear]
    with pytest.raises(NotThere):
        stage.follow()


def test_a_short_outage_is_waited_out() -> None:
    """Told once; afterwards it goes on, with no line lost or doubled."""
    stage = Stage(
        FakeLogs((["one"], "1"), ([], "1"), (["two"], "2"), ([], "2"), ([], "2"), ([], "2"), ([], "2"))
    )

    def break_down() -> None:
        stage.s3.failures = [OUTAGE] * 5

    stage.clock.while_asleep = [break_down, *[lambda: None] * 5, stage.finish]
    events = stage.follow()
    assert [event.text for event in events if isinstance(event, LogLine)] == ["one", "two"]
    assert sum(isinstance(event, Remark) for event in events) == 1


def test_a_long_outage_is_given_up() -> None:
    """After a minute or so AWS's own error is told; the same for waiting."""
    stage = Stage(FakeLogs(always=GONE))
    stage.s3.failures = [OUTAGE] * 1000
    with pytest.raises(CloudError):
        stage.follow()
    assert 30 <= stage.clock.seconds <= 300
    with pytest.raises(CloudError):
        wait_for(stage.watch, RunState.SUCCEEDED, lambda _status: None)


def test_waiting_slows_down_but_starts_quickly() -> None:
    """Half a second at first, a quarter of a minute later: quick here, and cheap for long runs."""
    stage = Stage(FakeLogs(always=GONE))
    slept: list[float] = []
    before = stage.clock.seconds

    def note() -> None:
        nonlocal before
        slept.append(round(stage.clock.seconds - before, 6))
        before = stage.clock.seconds
        # a machine that works sends heartbeats
        alive = stage.status.model_copy(update={"heartbeat_at": stage.clock.now()})
        stage.put(contract.STATUS, alive.model_dump_json())

    stage.clock.while_asleep = [*[note] * 30, stage.finish]
    assert wait_for(stage.watch, RunState.SUCCEEDED, lambda _status: None).state is RunState.SUCCEEDED
    assert slept[0] == 0.5
    assert slept == sorted(slept)
    assert max(slept) == 15.0
