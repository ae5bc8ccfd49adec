"""Who may talk to the local cloud: the keys it made up itself, and no others.

Whoever may start instances here may start containers, which on most computers means everything. The port is
open to every user of the computer, so the endpoint takes only keys that cannot be guessed.
"""

from __future__ import annotations

import secrets
import string
import threading
from typing import Final

from launcher.localcloud.metadata_values import Credentials

_ALPHABET: Final = string.ascii_uppercase + string.digits


def access_key(prefix: str) -> str:
    """An access key id as AWS makes them: 20 characters, 80 random bits after the prefix."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(16))


class KeyRing:
    """The access keys that are good. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[str] = set()

    def make_permanent(self) -> Credentials:
        """Keys for the operator."""
        return self._remember(Credentials(access_key("AKIA"), secrets.token_urlsafe(30), ""))

    def make_temporary(self) -> Credentials:
        """Keys for an instance."""
        return self._remember(
            Credentials(access_key("ASIA"), secrets.token_urlsafe(30), secrets.token_urlsafe(60))
        )

    def knows(self, key: str) -> bool:
        """Whether a request with this access key id is let in."""
        with self._lock:
            return key in self._known

    def _remember(self, credentials: Credentials) -> Credentials:
        with self._lock:
            self._known.add(credentials.access_key)
        return credentials
