"""Where AWS's services answer."""

from __future__ import annotations


def service_endpoint(service: str, region: str) -> str:
    """The URL of a service (`s3`, `logs`) in a region; China has a domain of its own."""
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{service}.{region}.{suffix}"
