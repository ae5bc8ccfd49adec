"""Where a run is, and why it ended."""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Final, Self

#
#     SUBMITTED ──▶ RUNNING ──▶ SUCCEEDED
#         │            ├──────▶ FAILED
#         │            └──────▶ CANCELLED
#         └───────────────────▶ FAILED | CANCELLED      (before the workload started)


@unique
class RunState(StrEnum):
    """Where a run is. A final state never changes."""

    SUBMITTED = "SUBMITTED"
    """The run spec is written; a machine is being started or prepares the run."""
    RUNNING = "RUNNING"
    """The workload's container runs."""
    SUCCEEDED = "SUCCEEDED"
    """The workload ended well and its artifacts were collected."""
    FAILED = "FAILED"
    """The run ended without doing what was asked; the stop reason says why."""
    CANCELLED = "CANCELLED"
    """A person asked for the end."""
    UNKNOWN = "UNKNOWN"
    """The machine is gone and no final status was written. Said by the launcher, never stored."""

    @property
    def final(self) -> bool:
        """True when the state never changes again."""
        return self in _FINAL


_FINAL: Final = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})
_NEXT: Final[dict[RunState, frozenset[RunState]]] = {
    RunState.SUBMITTED: frozenset({RunState.RUNNING, RunState.FAILED, RunState.CANCELLED}),
    RunState.RUNNING: _FINAL,
}


def can_become(old: RunState, new: RunState) -> bool:
    """Whether a stored status may go from `old` to `new`; a state may always be written again."""
    return old is new or new in _NEXT.get(old, frozenset())


@unique
class StopReason(StrEnum):
    """Why a run ended. The first reason that comes up wins and is the only one kept.

    Every member carries the state it leads to, its meaning, and what a person can do about it.
    """

    state: RunState
    meaning: str
    advice: str

    def __new__(cls, value: str, state: RunState, meaning: str, advice: str) -> Self:
        """Keep the three properties beside the string that is stored."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.state = state
        member.meaning = meaning
        member.advice = advice
        return member

    COMPLETED = (
        "completed",
        RunState.SUCCEEDED,
        "the workload ended by itself, without an error",
        "Nothing to do: `launcher runs download` brings the results.",
    )
    WORKLOAD_FAILED = (
        "workload_failed",
        RunState.FAILED,
        "the workload ended by itself, with an error",
        "Read the message and `launcher runs logs`; mend it, then `launcher runs relaunch`.",
    )
    CANCELLED = (
        "cancelled",
        RunState.CANCELLED,
        "a person cancelled the run",
        "Nothing to do; `launcher runs relaunch` starts it again.",
    )
    TIME_LIMIT = (
        "time_limit",
        RunState.FAILED,
        "the run reached its time limit",
        "Relaunch with a longer --time-limit or on a larger machine.",
    )
    BUDGET_REACHED = (
        "budget_reached",
        RunState.FAILED,
        "the run reached its budget",
        "Relaunch with a larger budget or on a cheaper machine.",
    )
    IDLE = (
        "idle",
        RunState.SUCCEEDED,
        "the Studio was idle for longer than allowed",
        "Start the Studio again; its checkpoint holds the work.",
    )
    LIFESPAN_REACHED = (
        "lifespan_reached",
        RunState.SUCCEEDED,
        "the Studio reached the end of its lifespan",
        "Start the Studio again, with a longer lifespan if needed.",
    )
    SPOT_INTERRUPTED = (
        "spot_interrupted",
        RunState.FAILED,
        "EC2 took the Spot machine back",
        "`launcher runs relaunch` goes on from the finished tasks on another machine.",
    )
    SPEC_INVALID = (
        "spec_invalid",
        RunState.FAILED,
        "the run spec in S3 cannot be understood",
        "The message lists every problem; submit the run again with the launcher.",
    )
    IMAGE_UNAVAILABLE = (
        "image_unavailable",
        RunState.FAILED,
        "a container image could not be had",
        "Check the image's name and that the machine may pull it.",
    )
    SECRET_UNAVAILABLE = (
        "secret_unavailable",
        RunState.FAILED,
        "a secret that the run refers to could not be read",
        "Check the secret's name and that the instance role may read it.",
    )
    OUT_OF_MEMORY = (
        "out_of_memory",
        RunState.FAILED,
        "the kernel ended the workload for want of memory",
        "Relaunch on a machine type with more memory, or ask for less in the pipeline.",
    )
    DISK_FULL = (
        "disk_full",
        RunState.FAILED,
        "the machine's disk was about to be full",
        "Relaunch with a larger boot disk or on a machine type with local disks.",
    )
    TERMINATED = (
        "terminated",
        RunState.FAILED,
        "the machine was told to shut down from outside",
        "Somebody or something ended the machine; `launcher runs relaunch` starts the run again.",
    )
    AGENT_FAILED = (
        "agent_failed",
        RunState.FAILED,
        "the run-agent could not go on",
        "Read `launcher runs logs --agent`; this may be an error of solorun.",
    )
    MACHINE_LOST = (
        "machine_lost",
        RunState.FAILED,
        "the machine went away without a word",
        "`launcher runs relaunch` starts the run again.",
    )
    CAPACITY_UNAVAILABLE = (
        "capacity_unavailable",
        RunState.FAILED,
        "EC2 had no machine of this type to give",
        "Try again later, in another zone, or with another instance type.",
    )
