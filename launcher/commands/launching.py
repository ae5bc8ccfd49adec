"""From a request to a started run, as `launcher run` and `launcher runs relaunch` share it."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass

import typer

from agent.contract import RunState, RunStatus
from launcher import console
from launcher.bringing import SHOWN_LINKS
from launcher.commands.live import Screen
from launcher.commands.shared import status_fields, status_json
from launcher.compute_envs import ComputeEnv, ComputeEnvs
from launcher.errors import CloudError, ExitCode, LauncherError
from launcher.following import Watch, exit_code_of, follow, wait_for
from launcher.logs import LogStream
from launcher.names import new_run_id, new_run_name, new_session_id
from launcher.places import open_place
from launcher.plan import Identity, LaunchPlan, plan_launch
from launcher.preflight import check
from launcher.request import RunRequest
from launcher.run_book import RunBook
from launcher.settings import Settings
from launcher.submit import NameTaken, Submission, submit

_NAME_TRIES = 5
"""A name that was made up and is taken already is made up anew, this often."""


@dataclass(frozen=True)
class After:
    """What is done once the run is submitted."""

    dry_run: bool = False
    follow: bool = False
    wait: RunState | None = None
    as_json: bool = False


def launch(
    settings: Settings,
    ce: ComputeEnv,
    request: RunRequest,
    after: After,
    *,
    bundle: bytes | None = None,
    bundle_from: str | None = None,
) -> None:
    """Check, plan, submit, and then follow or wait as asked.

    Raises:
        typer.Exit: with the exit code of what was followed or waited for.
        LauncherError: the run was not started; see launcher.submit.
        CloudError: it was started, and could not be followed; the message says so.
    """
    place = open_place(settings, ce, request.work_dir)
    found = check(place, settings, request.boot_disk_gb)
    bringing = found.bringing
    rng = random.SystemRandom()

    def plan() -> LaunchPlan:
        now = settings.clock.now()
        run_id = new_run_id(now, rng)
        identity = Identity(
            run_id=run_id,
            name=request.name or new_run_name(rng),
            owner=found.owner,
            session_id=request.session_id or new_session_id(rng),
            submitted_at=now,
        )
        brought = None
        if bringing is not None:
            book = place.book
            links = SHOWN_LINKS if after.dry_run else bringing.links(book.store, book.work_dir, run_id)
            brought = bringing.brought(links)
        return plan_launch(
            request,
            ce,
            identity,
            image_id=found.image.image_id,
            boot_device=found.image.root_device,
            bundle=bundle,
            bundle_from=bundle_from,
            brought=brought,
        )

    if not ce.local and ce.instance_profile is None:
        console.say(
            f"Warning: the compute environment {ce.name} has no instance_profile: unless the machine image brings "
            "credentials of its own, the machine cannot read its run spec"
        )
    if after.dry_run:
        _show_plan(plan(), place.book, as_json=after.as_json)
        return
    if request.work_dir is not None:
        # before anything is written: a run that `runs` cannot find could not be ended either
        ComputeEnvs(settings.config_dir).remember_work_dir(ce, request.work_dir)
    if bringing is not None:
        bringing.send(place.book.store, place.book.work_dir)
    for tries_left in reversed(range(_NAME_TRIES)):
        planned = plan()
        try:
            submission = submit(planned, place.book, place.machines, settings.clock)
            break
        except NameTaken:
            if request.name is not None or not tries_left:
                raise
    watch = Watch(place.book, place.machines, submission.run_id, settings.clock)
    stream = LogStream(place.aws, planned.pointer.log_group, submission.run_id)
    try:
        _announce(submission, planned)
        status = _accompany(watch, stream, submission, planned.status, after)
        if after.as_json:
            instance = {"instance_id": status.instance_id or submission.instance_id}
            console.emit_json({**status_json(status, planned.pointer.prefix), **instance})
        elif after.follow or after.wait:
            console.fields(status_fields(status, settings))
    except (LauncherError, OSError) as error:
        raise _lost_sight(error, submission) from error
    if after.follow or after.wait:
        raise typer.Exit(exit_code_of(status, after.wait))


def _show_plan(plan: LaunchPlan, book: RunBook, *, as_json: bool) -> None:
    holder = book.id_of_name(plan.spec.name)
    if holder is not None:
        raise NameTaken(
            f"There is a run named {plan.spec.name} already: {holder}", hint="Choose another name with -n"
        )
    if as_json:
        console.emit_json(plan.as_json())
    else:
        console.fields(plan.as_fields())
    console.say("Dry run: nothing was written or started.")


def _lost_sight(error: LauncherError | OSError, submission: Submission) -> CloudError:
    """What is told when following fails: never exit code 2, for that says that nothing was started."""
    name = submission.name
    said, problems = (error.message, error.problems) if isinstance(error, LauncherError) else (str(error), ())
    return CloudError(
        f"The run {name} ({submission.run_id}) is started, but can no longer be followed here: {said}",
        hint=f"The run goes on. To see it: launcher runs view {name}. To follow it: launcher runs logs {name} "
        f"--follow. To end it: launcher runs cancel {name}",
        problems=problems,
    )


def _announce(submission: Submission, plan: LaunchPlan) -> None:
    machine = plan.machine
    kind = f"{machine.instance_type}{', Spot' if machine.spot else ''}"
    console.say(f"Run {submission.name} ({submission.run_id}) is submitted.")
    console.say(f"Its machine {submission.instance_id} ({kind}) is starting in {machine.region}.")


def _accompany(
    watch: Watch, stream: LogStream, submission: Submission, first: RunStatus, after: After
) -> RunStatus:
    """Follow or wait as asked; returns the last status that was seen."""
    name = submission.name
    # with --json, stdout is for the JSON alone
    screen = Screen(sys.stderr if after.as_json else sys.stdout, watch.clock)
    try:
        if after.follow:
            with screen.open():
                return screen.show(follow(watch, stream)) or first
        if after.wait is not None:
            with screen.open():
                return wait_for(watch, after.wait, screen.show_status)
    except KeyboardInterrupt:
        console.say(
            f"\nNo longer following; the run goes on. To follow it: launcher runs logs {name} --follow"
        )
        console.say(f"To end it: launcher runs cancel {name}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    console.say(f"To follow it: launcher runs logs {name} --follow")
    return first
