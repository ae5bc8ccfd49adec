"""obstore's S3 clients: how they are set up for small objects that decide something, and for bulk."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from obstore.store import S3Store

from agent.endpoints import service_endpoint
from agent.metadata import ENDPOINT

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential, S3CredentialProvider

_CONNECT_TIMEOUT: Final = timedelta(seconds=5)
_SMALL_TIMEOUT: Final = timedelta(seconds=10)
_PART_TIMEOUT: Final = timedelta(seconds=120)
"""Of one part of 8 MiB or more, sent or received whole."""


@dataclass(frozen=True)
class AccessKeys:
    """Credentials that do not change while the process lives."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Clients:
    """Two clients of one bucket."""

    careful: S3Store
    """Signs payloads and never retries: its user sees every attempt."""
    bulk: S3Store
    """Retries each request by itself; uploads carry a CRC-64/NVME instead of a signed SHA-256."""


def open_clients(
    bucket: str,
    region: str,
    endpoint_url: str | None,
    metadata_endpoint: str | None,
    keys: AccessKeys | None,
) -> Clients:
    """Both clients. Endpoints are always given to obstore, so that no AWS_ENDPOINT_URL of the environment wins.

    Raises:
        obstore.exceptions.BaseError: obstore refuses the settings.
        ValueError: likewise.
    """
    endpoint = endpoint_url or service_endpoint("s3", region)
    config: S3Config = {
        "region": region,
        "endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
        "metadata_endpoint": metadata_endpoint or ENDPOINT,
        "imdsv1_fallback": False,
        "skip_signature": False,
        "virtual_hosted_style_request": False,
    }
    provider = _provider(keys) if keys else None

    def client(config: S3Config, retries: RetryConfig, timeout: timedelta) -> S3Store:
        options: ClientConfig = {
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": _CONNECT_TIMEOUT,
            "timeout": timeout,
        }
        return S3Store(
            bucket, config=config, client_options=options, retry_config=retries, credential_provider=provider
        )

    bulk_retries: RetryConfig = {
        "max_retries": 10,
        "retry_timeout": timedelta(minutes=3),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=5),
            "base": 2,
        },
    }
    return Clients(
        careful=client(config, {"max_retries": 0}, _SMALL_TIMEOUT),
        bulk=client(
            {**config, "checksum_algorithm": "CRC64NVME", "unsigned_payload": True},
            bulk_retries,
            _PART_TIMEOUT,
        ),
    )


def _provider(keys: AccessKeys) -> S3CredentialProvider:
    # A provider, not three settings: a session token of the environment would be mixed with these keys.
    def provide() -> S3Credential:
        return {
            "access_key_id": keys.access_key_id,
            "secret_access_key": keys.secret_access_key,
            "token": keys.session_token,
            "expires_at": None,
        }

    return provide
