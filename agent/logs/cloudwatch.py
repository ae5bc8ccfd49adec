"""CloudWatch Logs as a sink: one signed POST a batch, on connections that stay open.

botocore gives credentials (refreshed by itself) and signatures; its client is left out, as it spends four
times the processor time on a batch that everything here does together. Nothing of botocore is imported before
the first request: the agent's start does not wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from agent.endpoints import service_endpoint
from agent.logs.sink import Denied, Receipt, Refused, SinkError, Unacceptable, Unsure

if TYPE_CHECKING:
    import urllib3
    from botocore.credentials import Credentials

_THROTTLED: Final = frozenset(
    {
        "ThrottlingException",
        "Throttling",
        "ThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "LimitExceededException",
        "OperationAbortedException",
    }
)
_CREDENTIALS: Final = frozenset(
    {
        "ExpiredTokenException",
        "ExpiredToken",
        "RequestExpired",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "MissingAuthenticationTokenException",
        "IncompleteSignatureException",
    }
)
_DENIED: Final = frozenset({"AccessDeniedException", "AccessDenied", "NotAuthorized", "OptInRequired"})
_PAGES: Final = 5
"""GetLogEvents may answer with empty pages before one that is not; so many are asked for."""


class CloudWatchSink:
    """One log stream of CloudWatch Logs."""

    def __init__(
        self,
        region: str,
        log_group: str,
        log_stream: str,
        *,
        endpoint_url: str | None = None,
        credentials: Callable[[], Credentials | None] | None = None,
        connections: int = 4,
    ) -> None:
        """`credentials` finds them; called again when they ran out. botocore's usual places where None."""
        self._region = region
        self._group = log_group
        self._stream = log_stream
        self._url = (endpoint_url or service_endpoint("logs", region)).rstrip("/") + "/"
        self._find_credentials = credentials or _usual_credentials
        self._connections = connections
        self._lock = threading.Lock()
        self._pool: urllib3.PoolManager | None = None
        self._credentials: Credentials | None = None

    def create(self) -> None:
        """Make the stream, and the log group where it is missing and may be made.

        Raises:
            SinkError: neither there nor to be made.
        """
        stream = {"logGroupName": self._group, "logStreamName": self._stream}
        try:
            self._make("CreateLogStream", stream)
        except _Missing:
            try:
                self._make("CreateLogGroup", {"logGroupName": self._group})
            except Denied as error:
                raise Denied(
                    f"the log group {self._group} does not exist in {self._region}, and the machine may not "
                    f"make it ({error}): create it, or allow logs:CreateLogGroup to the instance role"
                ) from None
            self._make("CreateLogStream", stream)

    def put(self, timestamp: int, events: Sequence[str]) -> Receipt:
        """Put a batch into the stream, whose missing is mended.

        Raises:
            SinkError: see LogSink.
        """
        body = orjson.dumps(
            {
                "logGroupName": self._group,
                "logStreamName": self._stream,
                "logEvents": [{"timestamp": timestamp, "message": message} for message in events],
            }
        )
        try:
            answer = self._call("PutLogEvents", body)
        except _Missing:
            self.create()
            answer = self._call("PutLogEvents", body)
        except _AlreadyThere:
            return Receipt()
        rejected = answer.get("rejectedLogEventsInfo")
        return _rejection(rejected, len(events)) if rejected else Receipt()

    def contains(self, timestamp: int) -> bool:
        """Ask the stream for an event of this timestamp; needs logs:GetLogEvents.

        Raises:
            SinkError: no answer.
        """
        request: dict[str, object] = {
            "logGroupName": self._group,
            "logStreamName": self._stream,
            "startTime": timestamp,
            "endTime": timestamp + 1,
            "startFromHead": True,
            "limit": 1,
        }
        for _ in range(_PAGES):
            try:
                answer = self._call("GetLogEvents", orjson.dumps(request))
            except _Missing:
                return False
            if answer.get("events"):
                return any(event["timestamp"] == timestamp for event in answer["events"])
            token = answer.get("nextForwardToken")
            if token is None or token == request.get("nextToken"):
                return False
            request["nextToken"] = token
        return False

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            if self._pool is not None:
                self._pool.clear()

    def _make(self, operation: str, request: dict[str, str]) -> None:
        try:
            self._call(operation, orjson.dumps(request))
        except _AlreadyThere:
            return

    def _call(self, operation: str, body: bytes) -> dict[str, Any]:
        """One request.

        Raises:
            SinkError: no answer, or an error.
        """
        import urllib3.exceptions as http

        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"Logs_20140328.{operation}"}
        try:
            response = self._connected().request(
                "POST", self._url, body=body, headers=self._signed(headers, body)
            )
            data = response.data
        except (http.NewConnectionError, http.ConnectTimeoutError, http.LocationValueError) as error:
            raise Refused(f"no connection to {self._url}: {error}") from None
        except http.HTTPError as error:
            raise Unsure(f"{operation}: no answer from {self._url}: {error}") from None
        if response.status == 200:
            return orjson.loads(data) if data else {}
        raise self._error(operation, response.status, data)

    def _error(self, operation: str, status: int, data: bytes) -> SinkError:
        try:
            answer = orjson.loads(data)
            code = str(answer.get("__type", "")).rpartition("#")[2]
            text = f"{operation}: {code or status}: {answer.get('message') or answer.get('Message') or ''}"
        except (ValueError, AttributeError):
            code, text = "", f"{operation}: HTTP status {status}: {data[:200].decode(errors='replace')}"
        if code == "ResourceNotFoundException":
            return _Missing(text)
        if code in ("ResourceAlreadyExistsException", "DataAlreadyAcceptedException"):
            return _AlreadyThere(text)
        if code in _THROTTLED or status == 429:
            return Refused(text)
        denied = code in _DENIED or status in (401, 403)
        if code in _CREDENTIALS or denied:
            with self._lock:
                self._credentials = None
        if code in _CREDENTIALS:
            return Refused(text)
        if denied:
            return Denied(f"{text} (the instance role needs logs:{operation} on {self._group})")
        return Unsure(text) if status >= 500 else Unacceptable(text)

    def _connected(self) -> urllib3.PoolManager:
        with self._lock:
            if self._pool is None:
                import urllib3

                self._pool = urllib3.PoolManager(
                    maxsize=self._connections,
                    retries=False,
                    timeout=urllib3.Timeout(connect=5, read=30),
                )
            return self._pool

    def _signed(self, headers: dict[str, str], body: bytes) -> dict[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        try:
            with self._lock:
                if self._credentials is None:
                    self._credentials = self._find_credentials()
                credentials = self._credentials
            if credentials is None:
                raise Refused("no AWS credentials yet: the metadata service gives none, nor the environment")
            request = AWSRequest(method="POST", url=self._url, data=body, headers=headers)
            SigV4Auth(credentials.get_frozen_credentials(), "logs", self._region).add_auth(request)
        except BotoCoreError as error:
            raise Refused(f"no AWS credentials: {error}") from None
        return dict(request.headers.items())


class _Missing(Refused):
    """The log group or the stream is not there."""


class _AlreadyThere(SinkError):
    """What was to be made, or put, is there already."""


def _usual_credentials() -> Credentials | None:
    import botocore.session

    return botocore.session.Session().get_credentials()


def _rejection(info: dict[str, int], total: int) -> Receipt:
    """What `rejectedLogEventsInfo` says. All events of a batch have one timestamp: all are refused, or none."""
    cause = (
        "more than 2 hours in the future"
        if "tooNewLogEventStartIndex" in info
        else "older than 14 days or than the log group's retention"
    )
    return Receipt(rejected=total, why=f"by the machine's clock they are {cause}")
