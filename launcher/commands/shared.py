"""What the command groups have in common: options, and a run's status in words."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agent.contract import RunState, RunStatus, StopReason
from launcher import console
from launcher.following import Watch
from launcher.places import FoundRun, Places
from launcher.settings import Settings
from launcher.text import between, plural, size, when

ComputeEnvOption = Annotated[
    str | None,
    typer.Option(
        "--compute-env",
        "-c",
        metavar="NAME",
        help="The compute environment. Default: all of them.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", "-o", help="Print JSON instead of text. Default: no.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan; write and start nothing. Default: no.")
]
FollowOption = Annotated[
    bool,
    typer.Option(
        "--follow", help="Show the log until the run is over. Ctrl-C leaves it running. Default: no."
    ),
]
WaitOption = Annotated[
    RunState | None,
    typer.Option(
        case_sensitive=False,
        help="Wait until the run was in this state; exit 0 only then. Default: do not wait.",
    ),
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or its name.")
]


def settings_of(ctx: typer.Context) -> Settings:
    """The settings that the program was started with."""
    settings = ctx.find_object(Settings)
    if settings is None:
        raise RuntimeError("the command was started without settings")
    return settings


def locate(ctx: typer.Context, word: str, ce_name: str | None) -> FoundRun:
    """The run that the operator means."""
    return Places(settings_of(ctx), ce_name, console.say).locate(word)


def watch_of(ctx: typer.Context, run: FoundRun) -> Watch:
    """What it takes to look at a run again and again."""
    return Watch(run.book, run.place.machines, run.run_id, settings_of(ctx).clock)


def status_json(status: RunStatus, prefix: str) -> dict[str, Any]:
    """A status for programs, with the place of the run's files."""
    return {**status.model_dump(mode="json"), "prefix": prefix}


def tasks_text(status: RunStatus) -> str:
    """The tasks in words: `1 running, 7 succeeded`; empty while there are none."""
    # `submitted` counts every attempt once more, under whatever became of it
    counts = status.tasks.model_dump(exclude={"submitted"})
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def reason_text(status: RunStatus) -> str:
    """The stop reason and its meaning; empty while there is none."""
    reason = status.stop_reason
    return "" if reason is None else f"{reason}: {reason.meaning}"


def advice_text(status: RunStatus) -> str:
    """What to do now, where there is something to do."""
    reason = status.stop_reason
    return "" if reason is None or reason is StopReason.COMPLETED else reason.advice


def artifacts_text(status: RunStatus) -> str:
    """Where the results are, and how much."""
    found = status.artifacts
    if found is None:
        return ""
    missing = f", {len(found.not_uploaded)} not uploaded" if found.not_uploaded else ""
    return f"{found.location} ({plural(found.files, 'file')}, {size(found.bytes)}{missing})"


def status_fields(status: RunStatus, settings: Settings) -> list[tuple[str, str]]:
    """A status for people: names and values, empty where there is nothing to say."""
    end = status.finished_at or (None if status.state is RunState.UNKNOWN else settings.clock.now())
    not_uploaded = status.artifacts.not_uploaded if status.artifacts else ()
    return [
        ("run", f"{status.name} ({status.run_id})"),
        ("pipeline", status.pipeline),
        ("compute env", status.compute_env),
        ("state", f"{status.state}" + ("" if status.state.final else f" ({status.phase})")),
        ("reason", reason_text(status)),
        ("message", status.message),
        ("problems", "\n".join(status.problems)),
        ("advice", advice_text(status)),
        ("exit code", "" if status.exit_code is None else str(status.exit_code)),
        ("machine", status.instance_id or ""),
        ("submitted", when(status.submitted_at)),
        ("started", when(status.started_at)),
        ("finished", when(status.finished_at)),
        ("took", between(status.submitted_at, end)),
        ("tasks", tasks_text(status)),
        ("artifacts", artifacts_text(status)),
        ("not uploaded", "\n".join(not_uploaded)),
        ("warnings", "\n".join(status.warnings)),
    ]
