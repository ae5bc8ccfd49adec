"""AWS clients for many regions, made once each and shared by threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from botocore.config import Config

if TYPE_CHECKING:
    from boto3.session import Session


class Aws:
    """Where clients come from. Made from a boto3 session, whose event hooks see every call."""

    def __init__(self, session: Session, *, endpoint_url: str | None = None) -> None:
        self._session = session
        self._endpoint_url = endpoint_url
        self._clients: dict[tuple[str, str], Any] = {}
        # A session is not safe for threads; the clients that it makes are.
        self._lock = threading.Lock()

    def client(self, service: str, region: str) -> Any:
        """The client of a service in a region. Throttled calls are made again, with growing pauses."""
        with self._lock:
            if (service, region) not in self._clients:
                make: Any = self._session.client
                self._clients[service, region] = make(
                    service,
                    region_name=region,
                    endpoint_url=self._endpoint_url,
                    config=Config(
                        retries={"mode": "standard", "total_max_attempts": 8}, max_pool_connections=4
                    ),
                )
            return self._clients[service, region]
