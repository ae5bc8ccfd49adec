"""What every file of the contract is made of."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints

SCHEMA_VERSION: Final = 1
"""Raised by one whenever an older reader would misunderstand a newer file."""


class Model(BaseModel):
    """Frozen, and strict about fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


RUN_ID_PATTERN: Final = r"^[0-9]{8}t[0-9]{6}-[0-9a-z]{6}$"
RUN_NAME_PATTERN: Final = r"^[a-z](?:[-_]?[a-z0-9])*$"
"""What Nextflow takes as a run name; at most 80 characters."""

RunId = Annotated[str, StringConstraints(pattern=RUN_ID_PATTERN)]
"""Sorts by time: `YYYYMMDD` `t` `HHMMSS` (UTC) `-` six random characters."""
RunName = Annotated[str, StringConstraints(pattern=RUN_NAME_PATTERN, max_length=80)]
S3_URI_PATTERN: Final = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$"
S3Uri = Annotated[str, StringConstraints(pattern=S3_URI_PATTERN)]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""In hexadecimal digits."""
