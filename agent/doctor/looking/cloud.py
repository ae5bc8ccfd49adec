"""AWS, as far as a run needs it: endpoints that answer, and the run's own objects. Nothing is written."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final, Protocol

from agent.clock import Clock, Deadline
from agent.contract import CLAIM, SPEC, Claim, ContractError, RunSpec, parse
from agent.doctor.facts import Reached, RunInS3
from agent.errors import KeyMissing, StoreError

_CONNECT_S: Final = 3.0
_READ_S: Final = 4.0
_PATIENCE_S: Final = 5.0


class Objects(Protocol):
    """What is needed of an object store."""

    def uri(self, key: str = "") -> str:
        """`s3://bucket/prefix/key`."""

    def get(self, key: str, *, deadline: Deadline | None = None) -> bytes:
        """The object's whole body."""


def reach(url: str, clock: Clock) -> Reached:
    """Ask an endpoint of AWS for nothing; any answer proves the way there, and tells the time.

    Raises:
        ConnectionError: no answer.
    """
    import urllib3
    from urllib3.exceptions import HTTPError

    timeout = urllib3.Timeout(connect=_CONNECT_S, read=_READ_S)
    before = clock.now()
    try:
        with urllib3.PoolManager(timeout=timeout, retries=False) as pool:
            date = pool.request("HEAD", url, redirect=False).headers.get("Date")
    except HTTPError as error:
        raise ConnectionError(f"{url} does not answer: {str(error)[:300]}") from error
    after = clock.now()
    if date is None:
        return Reached(url, None)
    try:
        # Half a second: the header has whole seconds, cut off.
        skew = (before + (after - before) / 2 - parsedate_to_datetime(date)).total_seconds() - 0.5
    except (ValueError, TypeError):
        return Reached(url, None)
    return Reached(url, skew)


def look_at_run(store: Objects, clock: Clock) -> RunInS3:
    """The run spec and the claim, read as the agent reads them."""
    by = Deadline.after(_PATIENCE_S, clock)
    problem: str | None = None
    spec: RunSpec | None = None
    claimed_by: str | None = None
    try:
        spec = parse(RunSpec, store.get(SPEC, deadline=by))
        claimed_by = parse(Claim, store.get(CLAIM, deadline=by)).claimed_by
    except KeyMissing as error:
        problem = str(error) if spec is None else None
    except (StoreError, ContractError) as error:
        problem = str(error)
    return RunInS3(
        prefix=store.uri(),
        container_image=spec.container_image if spec else None,
        problem=problem,
        has_archive=spec is not None and spec.container_archive_sha256 is not None,
        claimed_by=claimed_by,
    )
