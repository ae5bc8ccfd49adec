"""A virtual machine is made of the booted machine's image, in its network."""

from __future__ import annotations

from tests.machine.conftest import aws, image, network

__all__ = ["aws", "image", "network"]
