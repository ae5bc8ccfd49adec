"""The instances of the local cloud, as the supervisor sees them: moto's EC2, looked at from inside."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum, unique
from typing import Any, Final, Protocol, TypeVar

from launcher.localcloud.metadata_values import InstanceMetadata

T = TypeVar("T")


@unique
class End(StrEnum):
    """Why a machine ends."""

    POWERED_OFF = "powered off"
    """The machine shut itself down."""
    TERMINATED = "terminated"
    """TerminateInstances was called, or the local cloud goes down."""
    STOPPED = "stopped"
    """StopInstances was called."""
    SPOT = "interrupted"
    """EC2 took a Spot instance back."""

    @property
    def code(self) -> str:
        """EC2's state reason code."""
        return _REASONS[self][0]

    @property
    def words(self) -> str:
        """EC2's state reason."""
        return ": ".join(_REASONS[self])


_REASONS: Final = {
    End.POWERED_OFF: ("Client.InstanceInitiatedShutdown", "Instance initiated shutdown"),
    End.TERMINATED: ("Client.UserInitiatedShutdown", "User initiated shutdown"),
    End.STOPPED: ("Client.UserInitiatedShutdown", "User initiated shutdown"),
    End.SPOT: ("Server.SpotInstanceTermination", "Spot instance termination"),
}


@dataclass(frozen=True)
class Instance:
    """An instance at one moment."""

    id: str
    type: str
    region: str
    state: str
    """EC2's word: pending, running, shutting-down, terminated, stopping, stopped."""
    stays_on_shutdown: bool
    """True when its own shutdown stops it, and only a call terminates it."""
    cpus: int
    memory_bytes: int
    launched_at: datetime
    spot: bool = False


class Fleet(Protocol):
    """What the supervisor needs of EC2."""

    def instances(self) -> list[Instance]:
        """Every instance of every region that still has a state to follow, terminated ones included."""

    def metadata(self, instance_id: str) -> InstanceMetadata | None:
        """What the metadata service says of an instance, without credentials and notices."""

    def tags(self, instance_id: str) -> dict[str, str]:
        """An instance's tags; empty where there is no such instance."""

    def ending(self, instance_id: str, *, stays: bool) -> None:
        """The machine shuts down: `shutting-down`, or `stopping` where it stays."""

    def ended(self, instance_id: str, end: End, *, stays: bool) -> None:
        """The machine is off: `terminated`, or `stopped` where it stays."""


_CODES: Final = {"shutting-down": 32, "stopping": 64}


class MotoFleet:
    """The instances in moto's memory, of all accounts and regions. Only in moto's own process."""

    def __init__(self) -> None:
        # imported here: only the server's process has moto in it
        from moto.ec2.models import ec2_backends
        from moto.ec2.models.instance_types import INSTANCE_TYPES
        from moto.ec2.models.instances import StateReason

        self._accounts: Any = ec2_backends
        self._types: dict[str, Any] = INSTANCE_TYPES
        self._state_reason = StateReason

    def set_architecture(self, image_id: str, architecture: str) -> None:
        """Note the processor that an image is for: RegisterImage of moto forgets it."""
        for account in list(dict.values(self._accounts)):
            for backend in list(dict.values(account)):
                if image_id in backend.amis:
                    backend.amis[image_id].architecture = architecture

    def instances(self) -> list[Instance]:
        """Every instance of every region, terminated ones included."""
        return _steady(lambda: [self._instance(item) for _, item in self._all()])

    def metadata(self, instance_id: str) -> InstanceMetadata | None:
        """What the metadata service says of an instance, without credentials and notices."""
        return _steady(lambda: self._metadata(instance_id))

    def tags(self, instance_id: str) -> dict[str, str]:
        """An instance's tags; empty where there is no such instance."""
        _, item = self._find(instance_id)
        return _steady(lambda: _tags(item)) if item is not None else {}

    def ending(self, instance_id: str, *, stays: bool) -> None:
        """The machine shuts down: `shutting-down`, or `stopping` where it stays."""
        _, item = self._find(instance_id)
        if item is not None and item.state == "running":
            item._state.name = "stopping" if stays else "shutting-down"
            item._state.code = _CODES[item._state.name]

    def ended(self, instance_id: str, end: End, *, stays: bool) -> None:
        """The machine is off: `terminated`, or `stopped` where it stays."""
        _, item = self._find(instance_id)
        if item is None or item.state in ("terminated", "stopped" if stays else "terminated"):
            return
        if stays:
            item.stop()
        else:
            item.terminate()
        item.state_reason = self._state_reason(end.words, end.code)

    def _all(self) -> Iterator[tuple[Any, Any]]:
        # dict's own methods: moto's make a backend for every region there is.
        for account in list(dict.values(self._accounts)):
            for backend in list(dict.values(account)):
                for reservation in list(backend.reservations.values()):
                    for item in list(reservation.instances):
                        yield backend, item

    def _find(self, instance_id: str) -> tuple[Any, Any]:
        return next(
            (pair for pair in _steady(lambda: list(self._all())) if pair[1].id == instance_id), (None, None)
        )

    def _instance(self, item: Any) -> Instance:
        size = self._types.get(item.instance_type, {})
        launched_at = item.launch_time
        return Instance(
            id=item.id,
            type=item.instance_type,
            region=item.region_name,
            state=item.state,
            stays_on_shutdown=item.instance_initiated_shutdown_behavior == "stop",
            cpus=int(size.get("VCpuInfo", {}).get("DefaultVCpus", 2)),
            memory_bytes=int(size.get("MemoryInfo", {}).get("SizeInMiB", 8192)) * 1024**2,
            launched_at=launched_at if launched_at.tzinfo else launched_at.replace(tzinfo=UTC),
            spot=item.lifecycle == "spot",
        )

    def _metadata(self, instance_id: str) -> InstanceMetadata | None:
        backend, item = self._find(instance_id)
        if item is None:
            return None
        tags_on = item.metadata_options.instance_metadata_tags == "enabled"
        profile = backend.iam_instance_profile_associations.get(item.id)
        roles = profile.iam_instance_profile.roles if profile else []
        return InstanceMetadata(
            instance_id=item.id,
            instance_type=item.instance_type,
            image_id=item.image_id or "",
            architecture=item.architecture or "x86_64",
            account_id=item.owner_id,
            region=item.region_name,
            availability_zone=item.availability_zone or "",
            private_ip=item.private_ip or "",
            pending_time=self._instance(item).launched_at,
            user_data=base64.b64decode(item.user_data.as_bytes()) if item.user_data else None,
            tags=_tags(item) if tags_on else None,
            role=roles[0].name if roles else None,
            hop_limit=int(item.metadata_options.http_put_response_hop_limit),
        )


def _tags(item: Any) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in item.get_tags()}


def _steady(look: Callable[[], T]) -> T:
    """Look again where another thread changed moto's tables meanwhile: moto has no locks."""
    for _ in range(20):
        try:
            return look()
        except RuntimeError:
            continue
    return look()
