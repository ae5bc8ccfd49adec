"""The instance metadata service: who this machine is, what its user data say, whether EC2 takes it back.

IMDSv2 with the standard library alone, for start-up counts: one connection that is kept, a token that is
renewed before it runs out, time-outs of a second or two, few retries.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, Self
from urllib.parse import quote, urlsplit

from agent.clock import Clock, SystemClock
from agent.contract import RunPointer, find_pointer
from agent.errors import AgentError

ENDPOINT: Final = "http://169.254.169.254"
"""Where every EC2 instance finds its metadata service."""
TOKEN_TTL_S: Final = 21_600
"""Six hours, the longest that IMDSv2 gives."""
_RENEW_BEFORE_S: Final = 300.0
_DATA: Final = "/latest/meta-data/"


class MetadataUnavailable(AgentError):
    """The metadata service did not answer as one does, after all retries."""


@dataclass(frozen=True)
class SpotNotice:
    """EC2 takes the machine back."""

    action: str
    """What happens to it: `terminate`, `stop` or `hibernate`."""
    time: datetime
    """When, in UTC."""


class MetadataService:
    """The metadata of the machine that asks. Safe to share between threads; cheap to poll.

    Args:
        endpoint: the service's URL; may have a path, under which all of it is.
        clock: times the token's renewal.
        timeout: seconds for a connection, and for each answer.
        attempts: how often a request is sent before MetadataUnavailable.
        pause: waits between two attempts.
    """

    def __init__(
        self,
        endpoint: str = ENDPOINT,
        *,
        clock: Clock | None = None,
        timeout: float = 1.5,
        attempts: int = 3,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme != "http" or not parts.hostname:
            raise MetadataUnavailable(
                f"The metadata service's endpoint {endpoint!r} is not an http:// URL. "
                "Unset AWS_EC2_METADATA_SERVICE_ENDPOINT or give it one."
            )
        self._endpoint = endpoint
        self._base = parts.path.rstrip("/")
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)
        self._clock = clock or SystemClock()
        self._attempts = attempts
        self._pause = pause
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        with self._lock:
            self._connection.close()

    def user_data(self) -> bytes | None:
        """The user data as given at the start; None where there are none."""
        return self._get("/latest/user-data")

    def instance_id(self) -> str:
        """`i-…`."""
        return self._text("instance-id")

    def instance_type(self) -> str:
        """As in `m5d.large`."""
        return self._text("instance-type")

    def region(self) -> str:
        """As in `eu-central-1`."""
        return self._text("placement/region")

    def role(self) -> str | None:
        """The role of the instance profile, whose credentials the machine has; None where it has none."""
        body = self._get(_DATA + "iam/security-credentials/")
        return body.decode().strip() or None if body is not None else None

    def tags(self) -> dict[str, str]:
        """The instance's tags; empty where the machine was started without tags in its metadata."""
        keys = self._get(_DATA + "tags/instance")
        if keys is None:
            return {}
        found = {key: self._get(f"{_DATA}tags/instance/{quote(key)}") for key in keys.decode().splitlines()}
        return {key: value.decode() for key, value in found.items() if value is not None}

    def spot_action(self) -> SpotNotice | None:
        """EC2's notice that it takes the machine back; None while there is none."""
        body = self._get(_DATA + "spot/instance-action")
        if body is None:
            return None
        try:
            notice = json.loads(body)
            return SpotNotice(action=str(notice["action"]), time=_utc(notice["time"]))
        except (ValueError, KeyError, TypeError) as error:
            raise self._nonsense("spot/instance-action", body, error) from error

    def pending_time(self) -> datetime:
        """When the machine was started, in UTC; from the identity document."""
        path = "/latest/dynamic/instance-identity/document"
        body = self._get(path)
        try:
            return _utc(json.loads(body or b"")["pendingTime"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._nonsense(path, body or b"", error) from error

    # --- requests

    def _text(self, name: str) -> str:
        body = self._get(_DATA + name)
        if body is None:
            raise MetadataUnavailable(
                f"The metadata service at {self._endpoint} does not know {name}. "
                "Is this an EC2 instance, and is the endpoint its own?"
            )
        return body.decode()

    def _get(self, path: str) -> bytes | None:
        """The body of `path`; None where the service answers 404."""
        trouble: object = None
        with self._lock:
            for attempt in range(self._attempts):
                # The first repetition comes at once: a kept connection that was closed is no trouble.
                if attempt > 1:
                    self._pause(0.1 * 2**attempt)
                try:
                    status, body = self._ask(path)
                except (OSError, http.client.HTTPException) as error:
                    self._connection.close()
                    trouble = error or type(error).__name__
                    continue
                if status == http.HTTPStatus.OK:
                    return body
                if status == http.HTTPStatus.NOT_FOUND:
                    return None
                trouble = f"HTTP {status}"
                if status == http.HTTPStatus.UNAUTHORIZED:
                    self._renew_at = float("-inf")
                elif status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                    break
        raise MetadataUnavailable(
            f"The metadata service at {self._endpoint} does not give {path}: {trouble}. "
            "Is this an EC2 instance with its metadata service enabled? "
            "Elsewhere, set AWS_EC2_METADATA_SERVICE_ENDPOINT."
        )

    def _ask(self, path: str) -> tuple[int, bytes]:
        if self._clock.monotonic() >= self._renew_at:
            asked_at = self._clock.monotonic()
            ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
            status, body = self._send("PUT", "/latest/api/token", ttl)
            if status != http.HTTPStatus.OK:
                # Never a 404 that the caller would take for "there is no such value".
                raise http.client.HTTPException(f"HTTP {status} to the request for a token")
            self._token, self._renew_at = body.decode(), asked_at + TOKEN_TTL_S - _RENEW_BEFORE_S
        return self._send("GET", path, {"X-aws-ec2-metadata-token": self._token})

    def _send(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        self._connection.request(method, self._base + path, headers=headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def _nonsense(self, path: str, body: bytes, error: Exception) -> MetadataUnavailable:
        return MetadataUnavailable(
            f"The metadata service at {self._endpoint} answers {path} with what cannot be understood: "
            f"{body[:200]!r} ({error!r})"
        )


def _utc(stamp: str) -> datetime:
    """A moment as the metadata service writes it, `2026-01-31T12:00:00Z`."""
    moment = datetime.fromisoformat(stamp)
    if moment.tzinfo is None:
        raise ValueError(f"no time zone in {stamp!r}")
    return moment


class HasUserData(Protocol):
    """What read_pointer needs of a metadata service."""

    def user_data(self) -> bytes | None:
        """The user data as given at the start; None where there are none."""


def read_pointer(metadata: HasUserData) -> RunPointer | None:
    """The run that this machine was started for; None when it was started by hand.

    Raises:
        ContractError: the user data are meant to be ours, but malformed or of a newer schema version.
        MetadataUnavailable: the metadata service cannot be reached.
    """
    return find_pointer(metadata.user_data())
