"""A launch plan, done: reserve the name, write the files, start the machine. What fails leaves nothing behind,
or says what is left."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.contract import STATUS, RunStatus, StopReason, run_key
from launcher.clock import Clock
from launcher.errors import AlreadyThere, CloudError, Interrupted, LauncherError, UserError
from launcher.machines import Machines
from launcher.plan import LaunchPlan, Write
from launcher.run_book import RunBook
from launcher.store import Store


@dataclass(frozen=True)
class Submission:
    """A run whose machine is on its way."""

    run_id: str
    name: str
    instance_id: str


class NameTaken(UserError):
    """Another run under this work dir has the name."""


def submit(plan: LaunchPlan, book: RunBook, machines: Machines, clock: Clock) -> Submission:
    """Do what the plan says, in its order: the machine comes last, so it always finds its run spec.

    Raises:
        NameTaken: another run has the name; nothing was written.
        UserError: AWS refused something; nothing is left, or the hint says what is.
        CloudError: EC2 gave no machine; the run is kept as FAILED, to be relaunched. Where it was cancelled
            meanwhile, it stays so.
        Interrupted: Ctrl-C at a moment when something is left; the message says what.
    """
    _reserve(plan, book)
    _write_all(plan, book.store, clock)
    run_id, name = plan.spec.run_id, plan.spec.name
    try:
        instance_id = machines.start(plan.machine)
    except CloudError as error:
        instance_id = _without_machine(plan, book, clock, error)
    except LauncherError as error:
        # where another command has ended the run meanwhile, its final status is never taken back
        if _final_status(book, run_id) is None:
            _roll_back(plan, book.store, error)
        raise
    except KeyboardInterrupt:
        raise Interrupted(
            f"Interrupted while the machine of {name} ({run_id}) was being started; it may be running",
            hint=f"To end it: launcher runs cancel {name}. To see it: launcher runs view {name}",
        ) from None
    return Submission(run_id, name, instance_id)


def _reserve(plan: LaunchPlan, book: RunBook) -> None:
    name = plan.spec.name
    try:
        _write(plan.reserve, book.store)
    except KeyboardInterrupt:
        # whether the write went through is not known; only our own may be taken back
        if book.id_of_name(name) == plan.spec.run_id:
            book.store.delete([plan.reserve.key])
        raise
    except AlreadyThere:
        holder = book.id_of_name(name)
        raise NameTaken(
            f"There is a run named {name} already: {holder}",
            hint=f"Choose another name with -n, or remove that run: launcher runs delete {name}",
        ) from None


def _write_all(plan: LaunchPlan, store: Store, clock: Clock) -> None:
    try:
        for write in plan.writes:
            _write(_stamped(write, plan, clock), store)
    except BaseException as error:
        # Ctrl-C as well: no machine was started, so nothing may stay
        _roll_back(plan, store, error)
        raise


def _stamped(write: Write, plan: LaunchPlan, clock: Clock) -> Write:
    """The first status says when it was written, not when it was planned: a large pipeline takes minutes to send."""
    if write.key != run_key(plan.spec.work_dir, plan.spec.run_id) + STATUS:
        return write
    status = plan.status.model_copy(update={"heartbeat_at": clock.now()})
    return replace(write, body=status.model_dump_json(indent=2).encode())


def _write(write: Write, store: Store) -> None:
    if write.body is not None:
        try:
            store.put(write.key, write.body, content_type=write.content_type, once=write.once)
        except AlreadyThere:
            # the answer to our own write may have been lost, and the retry finds what it wrote
            if store.find(write.key) != write.body:
                raise
    elif write.copy_from is not None:
        store.copy(write.copy_from, write.key)


def _roll_back(plan: LaunchPlan, store: Store, error: BaseException) -> None:
    """Take back what was written because of `error`; where S3 refuses that too, the error says what is left.

    Raises:
        Interrupted: something is left after Ctrl-C.
    """
    spec = plan.spec
    try:
        store.delete(write.key for write in (*plan.writes, plan.reserve))
    except LauncherError as refused:
        left = f"files of the run are left under {store.uri(run_key(spec.work_dir, spec.run_id))}"
        hint = f"S3 did not remove them ({refused.message}). To remove them: launcher runs delete {spec.name}"
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"Interrupted before a machine was started; {left}", hint=hint) from None
        if isinstance(error, LauncherError):
            error.message = f"{error.message}. No machine was started; {left}"
            error.hint = f"{error.hint.rstrip('.')}. {hint}" if error.hint else hint


def _final_status(book: RunBook, run_id: str) -> RunStatus | None:
    """The final status that another command has written meanwhile (`runs cancel`); None where there is none."""
    try:
        status = book.find_status(run_id)
    except LauncherError:
        return None
    return status if status is not None and status.state.final else None


def _without_machine(plan: LaunchPlan, book: RunBook, clock: Clock, error: CloudError) -> str:
    """EC2 gave no machine, or no answer. To be sure that none runs later, the launcher claims the run.

    Returns the id of the machine that has claimed the run nevertheless; else ends the run and raises `error`.
    """
    run_id = plan.spec.run_id
    try:
        if not book.claim_for_launcher(run_id, clock):
            claim = book.claim(run_id)
            return claim.claimed_by if claim else ""
        ended = _final_status(book, run_id)
        if ended is None:
            details = "; ".join((error.message, *error.problems))
            book.finish(plan.status, StopReason.CAPACITY_UNAVAILABLE, details, clock)
    except LauncherError:
        raise CloudError(
            f"{error.message}. The run {plan.spec.name} is written, and S3 does not answer either",
            hint=f"Look at it later: launcher runs view {plan.spec.name}",
            problems=error.problems,
        ) from error
    if ended is not None:
        raise CloudError(
            f"{error.message}. The run {plan.spec.name} is {ended.state} already: {ended.message}",
            hint=f"To start it again: launcher runs relaunch {plan.spec.name}",
            problems=error.problems,
        ) from error
    hint = f"{error.hint}. The run is kept as FAILED: launcher runs relaunch {plan.spec.name}"
    raise CloudError(error.message, hint=hint.lstrip(". "), problems=error.problems) from error
