"""What integration tests share: one S3 and Logs service a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.s3_server import S3Server, s3_server


@pytest.fixture(scope="session")
def aws() -> Iterator[S3Server]:
    """moto's server: S3, Logs, SSM."""
    with s3_server() as server:
        yield server
