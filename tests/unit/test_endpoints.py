"""Where AWS's services answer."""

from __future__ import annotations

import pytest

from agent.endpoints import service_endpoint


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("eu-west-1", "https://logs.eu-west-1.amazonaws.com"),
        ("us-gov-west-1", "https://logs.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "https://logs.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_each_partition_has_its_domain(region: str, url: str) -> None:
    """China's services are under a domain of their own."""
    assert service_endpoint("logs", region) == url
