"""What an instance's metadata service says, as a pure function of what is known of the instance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

CREDENTIALS_LAST: Final = timedelta(hours=6)
"""How long an instance's temporary credentials are good for; as on EC2 about six hours."""


@dataclass(frozen=True)
class Credentials:
    """What an instance signs its requests with, for the role of its profile."""

    access_key: str
    secret_key: str
    token: str


@dataclass(frozen=True)
class Interruption:
    """EC2's word that it takes a Spot instance back."""

    noticed_at: datetime
    ends_at: datetime
    action: str = "terminate"


@dataclass(frozen=True)
class InstanceMetadata:
    """All that the service knows of one instance at one moment."""

    instance_id: str
    instance_type: str
    image_id: str
    architecture: str
    account_id: str
    region: str
    availability_zone: str
    private_ip: str
    pending_time: datetime
    user_data: bytes | None = None
    tags: Mapping[str, str] | None = None
    """None where tags in the metadata are off."""
    role: str | None = None
    """The role of the instance profile; None where the instance has no profile."""
    credentials: Credentials | None = None
    interruption: Interruption | None = None
    hop_limit: int | None = None
    """Hops that a token's answer may make; None leaves the system's own."""


def stamp(moment: datetime) -> str:
    """A moment as the metadata service writes it, `2026-01-31T12:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def leaves(asker: InstanceMetadata, now: datetime) -> dict[str, bytes]:
    """Every value by its path below `/latest/`; what is not there has no value now."""
    document = {
        "accountId": asker.account_id,
        "architecture": asker.architecture,
        "availabilityZone": asker.availability_zone,
        "imageId": asker.image_id,
        "instanceId": asker.instance_id,
        "instanceType": asker.instance_type,
        "pendingTime": stamp(asker.pending_time),
        "privateIp": asker.private_ip,
        "region": asker.region,
        "version": "2017-09-30",
    }
    found = {
        "dynamic/instance-identity/document": json.dumps(document, indent=2),
        "meta-data/ami-id": asker.image_id,
        "meta-data/instance-id": asker.instance_id,
        "meta-data/instance-type": asker.instance_type,
        "meta-data/local-ipv4": asker.private_ip,
        "meta-data/placement/availability-zone": asker.availability_zone,
        "meta-data/placement/region": asker.region,
    }
    for key, value in (asker.tags or {}).items():
        found[f"meta-data/tags/instance/{key}"] = value
    if asker.role and asker.credentials:
        found[f"meta-data/iam/security-credentials/{asker.role}"] = json.dumps(
            {
                "Code": "Success",
                "LastUpdated": stamp(now),
                "Type": "AWS-HMAC",
                "AccessKeyId": asker.credentials.access_key,
                "SecretAccessKey": asker.credentials.secret_key,
                "Token": asker.credentials.token,
                "Expiration": stamp(now + CREDENTIALS_LAST),
            }
        )
    if notice := asker.interruption:
        ends_at = stamp(notice.ends_at)
        found["meta-data/spot/instance-action"] = json.dumps({"action": notice.action, "time": ends_at})
        found["meta-data/spot/termination-time"] = ends_at
        found["meta-data/events/recommendations/rebalance"] = json.dumps(
            {"noticeTime": stamp(notice.noticed_at)}
        )
    values = {path: value.encode() for path, value in found.items()}
    if asker.user_data is not None:
        values["user-data"] = asker.user_data
    return values


def look_up(values: Mapping[str, bytes], path: str) -> bytes | None:
    """The value at `path`, or the list of what is in it; None where there is neither."""
    path = path.strip("/")
    if path in values:
        return values[path]
    inside = f"{path}/" if path else ""
    names: dict[str, None] = {}
    for leaf in values:
        if leaf.startswith(inside):
            name, slash, _ = leaf[len(inside) :].partition("/")
            names[name + slash] = None
    return "\n".join(names).encode() if names else None
