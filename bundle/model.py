"""What all parts of the build agree on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[1]
HOME: Final = "/opt/solorun"
"""Where the bundle is unpacked: as on the machine image, the agent is in HOME/venv."""
PYTHON: Final = "3.12"


class BundleError(Exception):
    """The bundle cannot be made; says why, and what to do."""
