"""What the launcher knows by heart: the container image of Nextflow, regions, instance types' defaults."""

from typing import Final

NEXTFLOW_VERSION: Final = "24.10.0"
NEXTFLOW_IMAGE: Final = f"solorun/nextflow:{NEXTFLOW_VERSION}"
"""The head's container image; built by `make images`, baked into the machine image."""
