"""A run's log: from CloudWatch Logs while it is there, with GetLogEvents alone, else from S3."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.contract import AGENT_LOG, WORKLOAD_LOG, log_stream
from launcher.aws import Aws
from launcher.aws_errors import translated
from launcher.errors import AccessDenied, NotThere, UserError
from launcher.run_book import RunBook

if TYPE_CHECKING:
    from mypy_boto3_logs.type_defs import OutputLogEventTypeDef


@dataclass(frozen=True)
class LogLine:
    """One line of a log."""

    text: str
    timestamp_ms: int | None = None
    """Milliseconds since 1970; None where the line comes from S3, which keeps the bytes alone."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"timestamp": self.timestamp_ms, "message": self.text}


class LogStream:
    """A log stream of CloudWatch Logs, read forward; it remembers how far."""

    def __init__(self, aws: Aws, group: str, run_id: str, *, agent: bool = False) -> None:
        self._aws = aws
        self._group = group
        self._name = log_stream(run_id, agent=agent)
        self._token: str | None = None

    def new_lines(self) -> Iterator[LogLine]:
        """All lines since the last call. Pages may be empty; the end is where the token repeats.

        Raises:
            NotThere: the group or the stream does not exist (any more, or yet).
            AccessDenied: logs:GetLogEvents is not allowed.
        """
        while True:
            at: dict[str, Any] = {"nextToken": self._token} if self._token else {}
            with translated(
                "logs", f"the log stream {self._name} in {self._group}", endpoint=self._aws.endpoint
            ):
                page = self._aws.logs.get_log_events(
                    logGroupName=self._group, logStreamName=self._name, startFromHead=True, **at
                )
            token = page["nextForwardToken"]
            yield from map(_line, page["events"])
            if token == self._token:
                return
            self._token = token


def stored_lines(book: RunBook, run_id: str, *, agent: bool = False) -> Iterator[LogLine]:
    """The whole log as the agent brought it to S3 at the end of the run.

    Raises:
        NotThere: it is not there.
    """
    rest = b""
    for chunk in book.store.chunks(book.key(run_id, AGENT_LOG if agent else WORKLOAD_LOG)):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield LogLine(_text(line))
    if rest:
        yield LogLine(_text(rest))


def whole_log(stream: LogStream, book: RunBook, run_id: str, *, agent: bool = False) -> Iterator[LogLine]:
    """All lines there are now: from CloudWatch Logs, or from S3 where it has none or may not be asked.

    Raises:
        NotThere: the log is in neither place.
        AccessDenied: CloudWatch Logs may not be read, and S3 has no log (yet).
    """
    shown = 0
    cause: UserError | None = None
    try:
        for line in stream.new_lines():
            shown += 1
            yield line
    except (NotThere, AccessDenied) as error:
        if shown:
            raise
        cause = error
    if shown:
        return
    try:
        yield from stored_lines(book, run_id, agent=agent)
    except NotThere:
        if isinstance(cause, AccessDenied):
            raise cause from None
        if cause is not None:
            raise _no_log(run_id, agent=agent) from None


def _no_log(run_id: str, *, agent: bool) -> NotThere:
    whose = "the agent of run" if agent else "run"
    return NotThere(
        f"There is no log of {whose} {run_id}, neither in CloudWatch Logs nor in S3",
        hint="The machine may not have come so far yet: launcher runs view tells",
    )


def _line(event: OutputLogEventTypeDef) -> LogLine:
    text = event.get("message", "")
    # CloudWatch takes no empty message: a blank line travels as one space
    return LogLine("" if text == " " else text, event.get("timestamp"))


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode(errors="replace")
