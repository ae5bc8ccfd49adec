"""The commands on runs that change something: cancel, relaunch, delete."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from agent.contract import RunStatus
from launcher import console
from launcher.cancelling import Cancellation, How, wait_until_over
from launcher.cancelling import cancel as cancel_run
from launcher.commands.launching import After, launch
from launcher.commands.shared import (
    ComputeEnvOption,
    DryRunOption,
    FollowOption,
    JsonOption,
    RunArgument,
    WaitOption,
    locate,
    settings_of,
    status_json,
    watch_of,
)
from launcher.compute_envs import ComputeEnv, ComputeEnvs
from launcher.errors import NotThere, UserError
from launcher.following import Watch
from launcher.observing import status_now
from launcher.places import FoundRun
from launcher.relaunching import (
    Changes,
    Resume,
    bundle_key,
    check_over,
    check_session_free,
    choose_resume,
    compute_env_again,
    request_again,
)
from launcher.request import check_boot_disk, check_instance_type, check_name, check_time_limit
from launcher.run_book import is_live
from launcher.settings import Settings
from launcher.text import parse_duration, plural


def cancel(
    ctx: typer.Context,
    run: RunArgument,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Terminate the machine; results are not collected. Default: stop in order."
        ),
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the run's end. Default: wait.")
    ] = True,
    timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="How long to wait at most. Default: 5m.")
    ] = "5m",
    compute_env: ComputeEnvOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a run. Its logs and results so far are still collected, unless it is forced.

    \b
    Examples:
      launcher runs cancel nimble_mendel
      launcher runs cancel nimble_mendel --force
    """
    try:
        patience = parse_duration(timeout)
    except ValueError as error:
        raise UserError(f"--timeout: {error}") from None
    found = locate(ctx, run, compute_env)
    watch = watch_of(ctx, found)
    done = cancel_run(watch, settings_of(ctx).user, force=force)
    status = done.status
    if done.warning:
        console.say(f"Warning: {done.warning}")
    console.say(_said(done))
    if done.how is How.REQUESTED and wait:
        status = _await_end(watch, patience, run)
    if as_json:
        prefix = found.book.store.uri(found.book.key(found.run_id)).rstrip("/")
        console.emit_json({**status_json(status, prefix), "cancelled": str(done.how)})


def relaunch(
    ctx: typer.Context,
    run: RunArgument,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Start from scratch. Default: resume where possible.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="The new run's name. Default: one is made up.")
    ] = None,
    time_limit: Annotated[str | None, typer.Option(metavar="DURATION", help="Default: as before.")] = None,
    instance_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="The machine. Default: as before.")
    ] = None,
    boot_disk_gb: Annotated[
        int | None, typer.Option(metavar="GB", help="Size of the boot disk. Default: as before.")
    ] = None,
    spot: Annotated[
        bool | None,
        typer.Option("--spot/--on-demand", help="Spot or not. Default: as before.", show_default=False),
    ] = None,
    resumable: Annotated[
        bool, typer.Option("--resumable", help="Keep finished tasks in S3. Default: as before.")
    ] = False,
    dry_run: DryRunOption = False,
    follow: FollowOption = False,
    wait: WaitOption = None,
    compute_env: ComputeEnvOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a run again under a new id, with the same spec; it resumes when the earlier one was resumable.

    \b
    Examples:
      launcher runs relaunch nimble_mendel --follow
      launcher runs relaunch nimble_mendel --instance-type m5d.2xlarge --time-limit 8h
    """
    settings = settings_of(ctx)
    changes = Changes(
        name=check_name(name),
        time_limit_s=check_time_limit(time_limit),
        instance_type=check_instance_type(instance_type),
        boot_disk_gb=check_boot_disk(boot_disk_gb),
        spot=spot,
        resumable=resumable,
    )
    found = locate(ctx, run, compute_env)
    book = found.book
    status = watch_of(ctx, found).status()
    check_over(status)
    spec = book.spec(found.run_id)
    resume: Resume = choose_resume(book, spec, wanted=not no_resume)
    if resume.run_id is not None:
        check_session_free(book, spec, found.place.machines, settings.clock)
    console.say(resume.remark)
    ce = _compute_env_of(settings, found, spec.compute_env)
    launch(
        settings,
        compute_env_again(ce, spec),
        request_again(spec, status, resume, changes),
        After(dry_run=dry_run, follow=follow, wait=wait, as_json=as_json),
        bundle_from=bundle_key(book, spec),
    )


def delete(
    ctx: typer.Context,
    run: RunArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Default: ask.")] = False,
    compute_env: ComputeEnvOption = None,
) -> None:
    """Remove a run that is over: its results, logs and all else under its prefix in S3. Cannot be undone.

    Its log streams in CloudWatch Logs stay for as long as the log group keeps them.

    \b
    Example:
      launcher runs delete nimble_mendel --yes
    """
    found = locate(ctx, run, compute_env)
    book = found.book
    status = _status_if_any(found, settings_of(ctx))
    if status is not None and is_live(status.state):
        raise UserError(
            f"The run {status.name} is {status.state}; only a run that is over can be deleted",
            hint=f"launcher runs cancel {status.name}",
        )
    prefix = book.store.uri(book.key(found.run_id))
    name = status.name if status is not None else (run if run != found.run_id else None)
    if not yes and not _confirmed(f"Delete the run {name or found.run_id} and everything under {prefix}?"):
        console.say("Nothing was deleted")
        return
    count = book.erase(found.run_id, name)
    console.say(f"Deleted the run {name or found.run_id}: {plural(count, 'object')} under {prefix}")


def _said(done: Cancellation) -> str:
    name = done.status.name
    return {
        How.OVER_ALREADY: f"The run {name} is over already: {done.status.state}. {done.status.message}".rstrip(),
        How.BEFORE_CLAIM: f"The run {name} is cancelled; no machine had claimed it.",
        How.REQUESTED: f"The machine of {name} was asked to stop; it collects logs and results first.",
        How.FORCED: f"The machine of {name} was terminated; the run is {done.status.state}.",
    }[done.how]


def _await_end(watch: Watch, patience: int, word: str) -> RunStatus:
    status = wait_until_over(watch, patience)
    if is_live(status.state):
        console.say(
            f"The run is still stopping ({status.phase}). Look again with launcher runs view {word}; "
            f"to terminate its machine: launcher runs cancel {word} --force"
        )
    else:
        console.say(f"The run {status.name} is {status.state}. {status.message}".rstrip())
    return status


def _compute_env_of(settings: Settings, found: FoundRun, name: str) -> ComputeEnv:
    """The run's own compute environment; the one it was found through where that is no longer there."""
    try:
        return ComputeEnvs(settings.config_dir).get(name)
    except NotThere:
        console.say(f"The compute environment {name} is gone; {found.place.ce.name} is used instead")
        return found.place.ce


def _status_if_any(found: FoundRun, settings: Settings) -> RunStatus | None:
    """None where the status is missing or destroyed; such a run can be deleted when no machine is left."""
    try:
        return status_now(found.book, found.run_id, found.place.machines, settings.clock)
    except UserError:
        left = found.place.machines.of_runs([found.run_id])[found.run_id]
        if any(not machine.gone for machine in left):
            raise
        return None


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UserError("Nobody is there to confirm the deletion", hint="Say --yes")
    return typer.confirm(question, err=True)
