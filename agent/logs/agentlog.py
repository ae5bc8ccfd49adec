"""The agent's own log: at once to a file, and by watchtower to a log stream once there is time for that.

Importing watchtower and boto3 takes longer than everything else in the agent's start, so that happens in a
thread after `attach`; what was logged until then is sent afterwards. Whatever CloudWatch Logs does, logging
neither waits nor fails.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from agent.clock import Deadline
from agent.logs.redact import Redactor
from agent.logs.waiting import Waiting

_KEPT_RECORDS: Final = 10_000
"""Records kept until the stream is there; the file has all of them."""
_CHATTY: Final = ("botocore", "boto3", "urllib3", "docker", "watchtower", "s3transfer")
"""Libraries whose word counts from WARNING on, and never goes to the stream: sending it would make more."""
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

log = logging.getLogger(__name__)


class AgentLog:
    """Takes over the root logger from its making until `close`."""

    def __init__(self, path: Path, *, level: int = logging.INFO) -> None:
        """Begin, or append to, the file at `path`.

        Raises:
            OSError: the file cannot be written.
        """
        self.path: Final = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._format = PlainFormatter()
        self._waiting = Waiting()
        self._file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
        self._relay = _Relay()
        self._attaching: threading.Thread | None = None
        for handler in self._handlers:
            handler.setFormatter(self._format)
            logging.getLogger().addHandler(handler)
        logging.getLogger().setLevel(level)
        for name in _CHATTY:
            logging.getLogger(name).setLevel(max(level, logging.WARNING))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._let_go()

    @property
    def _handlers(self) -> tuple[logging.Handler, logging.Handler]:
        return self._file, self._relay

    @property
    def formatter(self) -> logging.Formatter:
        """How lines look, without secrets; for handlers of others."""
        return self._format

    def redact_with(self, redactor: Redactor) -> None:
        """From now on, in the file as in the stream; what waits for the stream is included."""
        self._format.redactor = redactor

    def attach(
        self, region: str, log_group: str, log_stream: str, *, endpoint_url: str | None = None
    ) -> None:
        """Send everything to this stream too, from the first record on. Returns at once."""

        def work() -> None:
            try:
                from agent.logs.agentstream import open_handler

                handler = open_handler(region, log_group, log_stream, endpoint_url, self._waiting)
                if handler is not None:
                    handler.setFormatter(self._format)
                    self._relay.connect(handler)
            except Exception:
                log.exception(
                    "the agent's log does not go to CloudWatch Logs; its file goes to S3 at the end"
                )

        self._attaching = threading.Thread(target=work, name="agent log", daemon=True)
        self._attaching.start()

    def close(self, deadline: Deadline) -> None:
        """Send what is left, as far as the deadline allows, and let go of the root logger. The file stays."""
        logging.getLogger().removeHandler(self._relay)
        if self._attaching is not None:
            self._waiting.hurry()
            self._attaching.join(deadline.remaining())
            # watchtower waits up to 30 s for its queue, so it gets a thread that need not end
            closing = threading.Thread(target=self._relay.close, name="agent log end", daemon=True)
            closing.start()
            closing.join(deadline.remaining())
        self._let_go()

    def _let_go(self) -> None:
        self._waiting.give_up()
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
        self._file.close()


class PlainFormatter(logging.Formatter):
    """`2026-11-22T12:00:00.123Z INFO agent.run: message key=value`, without secrets.

    The fields of `extra=` come as key=value after the message; tracebacks follow on lines of their own.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self.redactor = Redactor()

    def formatTime(  # noqa: N802 - the name is logging's
        self, record: logging.LogRecord, datefmt: str | None = None
    ) -> str:
        """RFC 3339 in UTC, with milliseconds."""
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.strftime(datefmt) if datefmt else f"{moment:%Y-%m-%dT%H:%M:%S}.{record.msecs:03.0f}Z"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """The line, with its fields."""
        fields = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        return super().formatMessage(record) + "".join(f" {key}={value}" for key, value in fields.items())

    def format(self, record: logging.LogRecord) -> str:
        """The whole text, redacted."""
        return self.redactor.redact_text(super().format(record))


class _Relay(logging.Handler):
    """Keeps records until there is a handler that takes them, then passes them on, in order."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: deque[logging.LogRecord] = deque(maxlen=_KEPT_RECORDS)
        self._target: logging.Handler | None = None
        self.addFilter(lambda record: record.name.partition(".")[0] not in _CHATTY)

    def emit(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock held, so nothing comes between the kept ones and the new ones."""
        if self._target is None:
            self._kept.append(record)
        else:
            self._target.handle(record)

    def connect(self, target: logging.Handler) -> None:
        """Pass on what was kept, and from now on everything."""
        self.acquire()
        try:
            while self._kept:
                target.handle(self._kept.popleft())
            self._target = target
        finally:
            self.release()

    def close(self) -> None:
        """Close the target too: it sends what it still has."""
        target, self._target = self._target, None
        if target is not None:
            target.close()
        super().close()
