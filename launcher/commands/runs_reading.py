"""The commands on runs that only read: list, view, logs, tasks, download."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from agent.contract import RunState, RunStatus
from launcher import console
from launcher.commands.live import Screen
from launcher.commands.shared import (
    ComputeEnvOption,
    JsonOption,
    RunArgument,
    locate,
    settings_of,
    status_fields,
    status_json,
    tasks_text,
    watch_of,
)
from launcher.downloading import RemoteFile, remote_files, select
from launcher.downloading import download as fetch
from launcher.errors import ExitCode, NotThere, UserError
from launcher.following import follow as follow_run
from launcher.logs import LogStream, whole_log
from launcher.observing import observe
from launcher.places import FoundRun, Place, Places, merged_newest, newest, status_of
from launcher.text import between, plural, size, when
from launcher.trace import parse_trace


def list_(
    ctx: typer.Context,
    compute_env: ComputeEnvOption = None,
    state: Annotated[
        list[RunState] | None,
        typer.Option(case_sensitive=False, help="Only runs in this state; may be repeated. Default: all."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1000, help="At most so many. Default: 20.")
    ] = 20,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first.

    \b
    Examples:
      launcher runs list
      launcher runs list -c main --state RUNNING --state SUBMITTED --json
    """
    settings = settings_of(ctx)
    lists: list[list[RunStatus]] = []
    wanted = set(state or ())

    def visit(place: Place) -> None:
        def accept(status: RunStatus) -> bool:
            return _may_be_shown(status, compute_env, wanted)

        stored = newest(place.book, accept, limit, console.say)
        seen = observe(stored, place.machines, settings.clock)
        lists.append([status for status in seen if not wanted or status.state in wanted])

    Places(settings, compute_env, console.say).each(visit)
    shown = merged_newest(lists, limit)
    if as_json:
        console.emit_json([status.model_dump(mode="json") for status in shown])
    elif not shown:
        console.say("There are no such runs" if wanted else "There are no runs yet")
    else:
        now = settings.clock.now()
        console.table(
            ("ID", "NAME", "STATE", "REASON", "SUBMITTED", ">TOOK", "TASKS", "PIPELINE", "COMPUTE ENV"),
            [
                (
                    status.run_id,
                    status.name,
                    str(status.state),
                    str(status.stop_reason or ""),
                    when(status.submitted_at),
                    between(status.submitted_at, status.finished_at or now),
                    tasks_text(status),
                    status.pipeline,
                    status.compute_env,
                )
                for status in shown
            ],
        )


def _may_be_shown(status: RunStatus, compute_env: str | None, wanted: set[RunState]) -> bool:
    """Before EC2 is asked: a run that is not over may turn out to be UNKNOWN."""
    if compute_env is not None and status.compute_env != compute_env:
        return False
    return not wanted or status.state in wanted or (RunState.UNKNOWN in wanted and not status.state.final)


def view(
    ctx: typer.Context, run: RunArgument, compute_env: ComputeEnvOption = None, as_json: JsonOption = False
) -> None:
    """Show how a run is doing: state, reason and advice, times, tasks, results, warnings.

    \b
    Examples:
      launcher runs view nimble_mendel
      launcher runs view 20260401t --json
    """
    found = locate(ctx, run, compute_env)
    settings = settings_of(ctx)
    status = status_of(found, settings)
    prefix = found.book.store.uri(found.book.key(found.run_id))
    if as_json:
        console.emit_json(status_json(status, prefix.rstrip("/")))
        return
    console.fields([*status_fields(status, settings), ("files", prefix)])
    if status.state is RunState.UNKNOWN and status.instance_id:
        output = found.place.machines.console_output(status.instance_id)
        if output:
            console.say(f"\nThe last lines of the machine's console:\n{output}")


def logs(
    ctx: typer.Context,
    run: RunArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run is over. Default: no.")
    ] = False,
    agent: Annotated[
        bool, typer.Option("--agent", help="The run-agent's own log. Default: the workload's.")
    ] = False,
    compute_env: ComputeEnvOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", "-o", help="One JSON object a line. Default: text.")
    ] = False,
) -> None:
    """Print a run's log: from CloudWatch Logs, or from S3 where it is no longer there.

    \b
    Examples:
      launcher runs logs nimble_mendel --follow
      launcher runs logs nimble_mendel --agent
    """
    found = locate(ctx, run, compute_env)
    stream = LogStream(found.place.aws, _log_group(found), found.run_id, agent=agent)
    screen = Screen(sys.stdout, settings_of(ctx).clock, as_json=as_json, progress=False)
    if not follow:
        screen.show(whole_log(stream, found.book, found.run_id, agent=agent))
        return
    try:
        screen.show(follow_run(watch_of(ctx, found), stream, agent=agent))
    except KeyboardInterrupt:
        console.say("\nNo longer following; the run is not touched by that.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def tasks(
    ctx: typer.Context, run: RunArgument, compute_env: ComputeEnvOption = None, as_json: JsonOption = False
) -> None:
    """Show the tasks of a run, from Nextflow's trace.

    \b
    Example:
      launcher runs tasks nimble_mendel
    """
    found = locate(ctx, run, compute_env)
    text = found.book.trace(found.run_id)
    trace = parse_trace(text or "")
    if as_json:
        console.emit_json(list(trace.tasks))
    elif text is None:
        status = status_of(found, settings_of(ctx))
        counts = tasks_text(status) or "none reported"
        console.say(f"There is no trace in S3 yet: it comes at the end of the run ({status.state}; {counts})")
    elif not trace.tasks:
        console.say("The run had no tasks")
    else:
        console.table([name.upper() for name in trace.columns()], trace.rows())


def download(
    ctx: typer.Context,
    run: RunArgument,
    path: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH]...", help="Files, folders or globs below the artifacts. Default: everything."
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="Where to. Default: a folder named like the run."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that differ. Default: refuse.")
    ] = False,
    list_only: Annotated[
        bool, typer.Option("--list", help="Print the paths instead of fetching. Default: fetch.")
    ] = False,
    compute_env: ComputeEnvOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a run's artifacts and logs to this computer. Files that are there already are not fetched again.

    \b
    Examples:
      launcher runs download nimble_mendel
      launcher runs download nimble_mendel '*.html' results/table.tsv --to ~/results
    """
    found = locate(ctx, run, compute_env)
    status = found.book.status(found.run_id)
    files = select(remote_files(found.book, status), path or [])
    if list_only:
        _print_paths(files, as_json=as_json)
        return
    if not files:
        raise NotThere(
            f"The run {status.name} has nothing to download",
            hint=f"It is {status.state}; launcher runs view {run}",
        )
    folder = to.expanduser() if to is not None else Path(status.name)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder", hint="Choose one with --to")
    total = sum(file.stored.size for file in files)
    with console.byte_progress(f"Fetching {plural(len(files), 'file')}", total) as advance:
        done = fetch(files, folder, overwrite=overwrite, on_bytes=advance)
    if as_json:
        console.emit_json(
            {
                "folder": str(done.folder),
                "files": done.files,
                "bytes": done.bytes,
                "unchanged": done.unchanged,
            }
        )
    else:
        rest = f"; {done.unchanged} were there already" if done.unchanged else ""
        console.say(f"{plural(done.files, 'file')} ({size(done.bytes)}) fetched to {done.folder}{rest}")


def _log_group(found: FoundRun) -> str:
    try:
        return found.book.spec(found.run_id).log_group
    except UserError:
        # a spec that somebody destroyed: its run has a log all the same
        return found.place.ce.log_group


def _print_paths(files: list[RemoteFile], *, as_json: bool) -> None:
    if as_json:
        console.emit_json([{"path": file.path, "bytes": file.stored.size} for file in files])
    else:
        for file in files:
            console.data(file.path)
