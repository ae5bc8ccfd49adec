"""The runs under one work dir: the files that the contract names, read and written in S3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeVar

from pydantic import BaseModel

from agent.contract import (
    ARTIFACTS,
    BOOT_REPORT,
    CACHE,
    CLAIM,
    SPEC,
    STATUS,
    STOP,
    TRACE,
    Claim,
    ContractError,
    RunSpec,
    RunState,
    RunStatus,
    StopReason,
    StopRequest,
    index_key,
    index_prefix,
    name_key,
    parse,
    run_id_of_index_key,
    run_key,
    runs_key,
    split_s3_uri,
)
from launcher.aws import Aws
from launcher.clock import Clock
from launcher.errors import AlreadyThere, NotThere, Unreadable
from launcher.plan import JSON_TYPE
from launcher.store import Store, StoredObject

LAUNCHER: Final = "launcher"
"""Who has claimed a run that no machine will run."""
_NEWER: Final = "schema_version: written by a newer"
"""How the contract's problem with a file of a later schema version begins."""
_REPORT_MAX: Final = 2000
"""Characters."""
M = TypeVar("M", RunSpec, RunStatus, Claim)


class RunBook:
    """Reads and writes what the launcher may of the runs under a work dir."""

    def __init__(self, aws: Aws, work_dir: str) -> None:
        self.aws = aws
        self.work_dir = work_dir
        bucket, _ = split_s3_uri(work_dir)
        self.store = Store(aws, bucket)

    # --- finding ---

    def newest(self) -> Iterator[str]:
        """Run ids, newest first; one S3 call for up to a thousand, made when needed."""
        for item in self.store.objects(index_prefix(self.work_dir)):
            yield run_id_of_index_key(item.key)

    def id_of_name(self, name: str) -> str | None:
        """The id of the run that holds a name."""
        body = self.store.find(name_key(self.work_dir, name))
        return None if body is None else body.decode("ascii", errors="replace").strip()

    def ids_with_prefix(self, prefix: str, *, most: int = 20) -> list[str]:
        """Ids of runs that start so, oldest first."""
        return self.store.folders(runs_key(self.work_dir) + prefix, most=most)

    def some_names(self, *, most: int = 1000) -> list[str]:
        """Names in use, to find near ones among."""
        prefix = name_key(self.work_dir, "x")[:-1]
        names = []
        for item in self.store.objects(prefix, page_size=most):
            names.append(item.key.removeprefix(prefix))
            if len(names) >= most:
                break
        return names

    # --- reading ---

    def status(self, run_id: str) -> RunStatus:
        """The stored status.

        Raises:
            NotThere: there is none.
            Unreadable: it is not what the contract says.
        """
        return self._read(RunStatus, run_id, STATUS)

    def find_status(self, run_id: str) -> RunStatus | None:
        """The stored status; None where there is none."""
        try:
            return self.status(run_id)
        except NotThere:
            return None

    def spec(self, run_id: str) -> RunSpec:
        """The run spec.

        Raises:
            NotThere: there is none.
            Unreadable: it is not what the contract says.
        """
        return self._read(RunSpec, run_id, SPEC)

    def claim(self, run_id: str) -> Claim | None:
        """Who runs it; None while nobody does."""
        try:
            return self._read(Claim, run_id, CLAIM)
        except NotThere:
            return None

    def boot_report(self, run_id: str) -> str:
        """Why the run's machine could not be given its agent, in a line; empty where it was given, or had it."""
        text = (self.store.find(self.key(run_id, BOOT_REPORT)) or b"").decode(errors="replace")
        # whoever had the machine's link may have written it
        return " ".join("".join(char if char.isprintable() else " " for char in text[:_REPORT_MAX]).split())

    def key(self, run_id: str, name: str = "") -> str:
        """The key of a file of a run, or its prefix."""
        return run_key(self.work_dir, run_id) + name

    def trace(self, run_id: str) -> str | None:
        """Nextflow's trace; None while there is none in S3."""
        body = self.store.find(self.key(run_id, TRACE))
        return None if body is None else body.decode(errors="replace")

    def files(self, run_id: str, *folders: str) -> Iterator[StoredObject]:
        """Objects of a run: all of them, or those in the folders named."""
        for folder in folders or ("",):
            yield from self.store.objects(self.key(run_id, folder))

    def artifacts_place(self, status: RunStatus) -> tuple[Store, str]:
        """The bucket that holds a run's artifacts, and their key prefix there, with a slash at its end.

        A pipeline whose `outdir` is an S3 URI has them where its user wants them.
        """
        if status.artifacts is None:
            return self.store, self.key(status.run_id, ARTIFACTS)
        bucket, key = split_s3_uri(status.artifacts.location)
        return Store(self.store.aws, bucket), f"{key}/" if key else ""

    def has_cache(self, run_id: str) -> bool:
        """Whether a run left finished tasks that another can take up."""
        return any(True for _ in self.store.objects(self.key(run_id, CACHE), page_size=1))

    # --- writing ---

    def claim_for_launcher(self, run_id: str, clock: Clock) -> bool:
        """Claim a run so that no machine will run it. True when that came before every machine."""
        claim = Claim(run_id=run_id, claimed_by=LAUNCHER, claimed_at=clock.now())
        try:
            self._write(claim, run_id, CLAIM, once=True)
        except AlreadyThere:
            existing = self.claim(run_id)
            return existing is not None and existing.claimed_by == LAUNCHER
        return True

    def request_stop(self, run_id: str, requested_by: str, clock: Clock) -> None:
        """Ask the machine to stop the run."""
        request = StopRequest(requested_by=requested_by, requested_at=clock.now())
        self._write(request, run_id, STOP)

    def finish(self, status: RunStatus, reason: StopReason, message: str, clock: Clock) -> RunStatus:
        """Write a final status for a run that no machine will write one for."""
        now = clock.now()
        final = status.model_copy(
            update={
                "state": reason.state,
                "stop_reason": reason,
                "message": message,
                "finished_at": now,
                "heartbeat_at": now,
            }
        )
        self._write(final, status.run_id, STATUS)
        return final

    def erase(self, run_id: str, name: str | None) -> int:
        """Remove everything of a run from S3; returns the number of objects. Can be repeated after a break."""
        files = [item.key for item in self.files(run_id)]
        # what a run is found by goes last
        last = {self.key(run_id, SPEC), self.key(run_id, STATUS)}
        ordered = [key for key in files if key not in last] + [key for key in files if key in last]
        self.store.delete(ordered)
        markers = [index_key(self.work_dir, run_id)]
        if name is not None and self.id_of_name(name) == run_id:
            markers.insert(0, name_key(self.work_dir, name))
        self.store.delete(markers)
        return len(ordered)

    def _read(self, model: type[M], run_id: str, name: str) -> M:
        key = self.key(run_id, name)
        body = self.store.get(key)
        try:
            return parse(model, body)
        except ContractError as error:
            if any(problem.startswith(_NEWER) for problem in error.problems):
                raise Unreadable(
                    f"{self.store.uri(key)} was written by a newer solorun than this one",
                    hint="Update solorun on this computer",
                ) from None
            raise Unreadable(
                f"{self.store.uri(key)} is not what solorun wrote",
                hint="Somebody or something changed it; the run's other files are under the same prefix",
                problems=error.problems,
            ) from None

    def _write(self, value: BaseModel, run_id: str, name: str, *, once: bool = False) -> None:
        body = value.model_dump_json(indent=2).encode()
        self.store.put(self.key(run_id, name), body, content_type=JSON_TYPE, once=once)


def is_live(state: RunState) -> bool:
    """Whether a machine may still work on a run in this state."""
    return not state.final and state is not RunState.UNKNOWN
