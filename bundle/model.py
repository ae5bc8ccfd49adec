"""What all parts of the build agree on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[1]
HOME: Final = "/opt/solorun"
"""Where the bundle is unpacked: as on the machine image, the agent is in HOME/venv."""
PYTHON: Final = "3.12"
GLIBC: Final = (2, 31)
"""The oldest C library that everything in the bundle runs with: Debian 11, Ubuntu 20.04; Amazon Linux 2023 has 2.34."""


class BundleError(Exception):
    """The bundle cannot be made; says why, and what to do."""
