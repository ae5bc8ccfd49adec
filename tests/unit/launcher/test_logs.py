"""Reading a log stream."""

from __future__ import annotations

from typing import cast

import pytest
from botocore.exceptions import ClientError

from launcher.aws import Aws
from launcher.errors import AccessDenied, NotThere
from launcher.logs import LogStream, whole_log
from launcher.run_book import RunBook
from tests.fakes.aws_clients import FakeAws, FakeLogs, FakeS3, client_error
from tests.unit.launcher.test_plan import CE, IDENTITY

RUN = IDENTITY.run_id
GONE = client_error("ResourceNotFoundException", "GetLogEvents")
DENIED = client_error("AccessDeniedException", "GetLogEvents")


def stream_of(logs: FakeLogs) -> LogStream:
    """The stream under test."""
    return LogStream(cast(Aws, FakeAws(CE, logs=logs)), "/solorun", RUN)


def test_empty_pages_are_not_the_end() -> None:
    """Only a repeated token is; blank lines come back blank."""
    logs = FakeLogs((["a"], "1"), ([], "2"), (["b", " "], "3"), ([], "3"))
    assert [line.text for line in stream_of(logs).new_lines()] == ["a", "b", ""]
    assert logs.tokens == [None, "1", "2", "3"]


def test_what_was_read_is_not_read_again() -> None:
    """The next look goes on where the last one ended."""
    logs = FakeLogs((["a"], "1"), ([], "1"), ([], "1"), (["b"], "2"), ([], "2"))
    stream = stream_of(logs)
    looks = [[line.text for line in stream.new_lines()] for _ in range(3)]
    assert looks == [["a"], [], ["b"]]


@pytest.mark.parametrize("refusal", [GONE, DENIED])
def test_a_log_that_is_nowhere_is_an_error(refusal: Exception) -> None:
    """S3 is asked next; where the log is not there either, the cause is told."""
    s3 = FakeS3()
    book = RunBook(cast(Aws, FakeAws(CE, s3=s3)), CE.work_dir)
    expected = NotThere if refusal is GONE else AccessDenied
    with pytest.raises(expected):
        list(whole_log(stream_of(FakeLogs(cast(ClientError, refusal))), book, RUN))
