"""What the supervisor must know of a run: whose folder is on the machines' disk, and how long it may take."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from agent.contract import (
    CLAIM,
    SPEC,
    Claim,
    ContractError,
    RunPointer,
    RunSpec,
    find_pointer,
    parse,
    split_s3_uri,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFacts:
    """The part of a run spec that a machine's supervisor goes by."""

    session_id: str
    """Names the run's folder in the scratch folder."""
    time_limit_s: int


class Runs(Protocol):
    """What the supervisor reads of runs."""

    def facts(self, pointer: RunPointer) -> RunFacts | None:
        """Session and limit of a run; None where there is no spec that can be understood."""

    def claimed_by(self, pointer: RunPointer) -> str | None:
        """Who claimed the run; None where nobody did."""


class RunsInS3:
    """Reads them with a boto3 S3 client."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    def facts(self, pointer: RunPointer) -> RunFacts | None:
        """Session and limit of a run; None where there is no spec that can be understood."""
        data = self._read(pointer, SPEC)
        try:
            spec = parse(RunSpec, data) if data is not None else None
        except ContractError:
            return None  # the agent says what is wrong with it
        return RunFacts(spec.workload.session_id, spec.time_limit_s) if spec else None

    def claimed_by(self, pointer: RunPointer) -> str | None:
        """Who claimed the run; None where nobody did."""
        data = self._read(pointer, CLAIM)
        try:
            return parse(Claim, data).claimed_by if data is not None else None
        except ContractError:
            return None

    def _read(self, pointer: RunPointer, name: str) -> bytes | None:
        bucket, prefix = split_s3_uri(pointer.prefix)
        try:
            body = self._s3.get_object(Bucket=bucket, Key=f"{prefix}/{name}")["Body"]
            return bytes(body.read())
        except (ClientError, BotoCoreError) as error:
            log.info("run %s: %s: %s", pointer.run_id, name, error)
            return None


def pointer_of(user_data: bytes | None) -> RunPointer | None:
    """The run pointer in user data; None where there is none that can be understood."""
    try:
        return find_pointer(user_data)
    except ContractError:
        return None
