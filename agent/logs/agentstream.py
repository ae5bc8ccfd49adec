"""watchtower's handler for the agent's log, on a client that does not give up. Imported late: it takes long.

watchtower drops a batch after five tries in a row, and what is logged while it makes its stream. So its client
comes back only with an answer that trying again would not change, and the stream is made before.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import boto3
import watchtower
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from agent.logs.events import EVENT_BYTES
from agent.logs.waiting import Waiting

_SEND_INTERVAL_S: Final = 1
_FINAL_ANSWERS: Final = frozenset(
    {
        "ResourceNotFoundException",  # watchtower makes the stream anew
        "ResourceAlreadyExistsException",
        "DataAlreadyAcceptedException",
        "InvalidParameterException",
        "InvalidSequenceTokenException",
    }
)

log = logging.getLogger(__name__)


def open_handler(
    region: str, log_group: str, log_stream: str, endpoint_url: str | None, waiting: Waiting
) -> logging.Handler | None:
    """Make the stream and a handler that sends to it; None where `waiting` was over before that worked."""
    client = PatientClient(
        boto3.session.Session().client(
            "logs",
            region_name=region,
            endpoint_url=endpoint_url,
            config=Config(
                retries={"mode": "adaptive", "total_max_attempts": 5}, connect_timeout=5, read_timeout=20
            ),
        ),
        waiting,
    )
    try:
        _make_stream(client, log_group, log_stream)
    except (BotoCoreError, ClientError) as error:
        if not waiting.over:
            raise
        log.warning("the agent's log stream could not be made in time: %s", error)
        return None
    handler: logging.Handler = watchtower.CloudWatchLogHandler(
        log_group_name=log_group,
        log_stream_name=log_stream,
        send_interval=_SEND_INTERVAL_S,
        boto3_client=client,  # type: ignore[arg-type]  # it has what watchtower calls, and passes the rest on
        create_log_group=False,
        max_message_size=EVENT_BYTES,
    )
    return handler


def _make_stream(client: PatientClient, log_group: str, log_stream: str) -> None:
    for request in ("stream", "group", "stream"):
        try:
            if request == "group":
                client.create_log_group(logGroupName=log_group)
            else:
                client.create_log_stream(logGroupName=log_group, logStreamName=log_stream)
                return
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ResourceAlreadyExistsException":
                if request == "stream":
                    return
            elif code != "ResourceNotFoundException" or request == "group":
                raise


class PatientClient:
    """A logs client whose calls are tried again until they are answered, or `waiting` is over."""

    def __init__(self, client: Any, waiting: Waiting) -> None:
        self._client = client
        self._waiting = waiting

    def __getattr__(self, name: str) -> Any:
        """Everything else is the client's own."""
        return getattr(self._client, name)

    def create_log_group(self, **request: Any) -> Any:
        """As the client's."""
        return self._retrying()(self._client.create_log_group, **request)

    def create_log_stream(self, **request: Any) -> Any:
        """As the client's."""
        return self._retrying()(self._client.create_log_stream, **request)

    def put_log_events(self, **request: Any) -> Any:
        """As the client's."""
        return self._retrying()(self._client.put_log_events, **request)

    def _retrying(self) -> Retrying:
        return Retrying(
            retry=retry_if_exception(_may_change),
            wait=wait_random_exponential(multiplier=0.5, max=30),
            stop=lambda _state: self._waiting.over,
            sleep=self._waiting.sleep,
            before_sleep=_note,
            reraise=True,
        )


def _may_change(error: BaseException) -> bool:
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"] not in _FINAL_ANSWERS
    return isinstance(error, BotoCoreError)


def _note(state: RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome is not None:
        log.warning("the agent's log waits for CloudWatch Logs: %s", state.outcome.exception())
