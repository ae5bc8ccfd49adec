"""One error base, exit codes as an enum: what the launcher says when something does not work."""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class ExitCode(IntEnum):
    """The launcher's exit codes."""

    OK = 0
    """What was asked is done; with --wait, the state was reached."""
    INTERNAL = 1
    """An error of solorun itself."""
    USER = 2
    """The input or the set-up needs a change; nothing was started."""
    RUN_FAILED = 3
    """The run that was followed or waited for ended as FAILED."""
    RUN_CANCELLED = 4
    """The run that was followed or waited for ended as CANCELLED."""
    RUN_UNKNOWN = 5
    """The machine of the run that was followed or waited for is gone without a final status."""
    CLOUD = 6
    """AWS could not do it now (capacity, throttling, network); trying again later may help."""
    STATE_NOT_REACHED = 7
    """The run that was waited for ended as SUCCEEDED, and another state was waited for."""
    INTERRUPTED = 130
    """Ctrl-C. A run that was being followed goes on."""


class LauncherError(Exception):
    """Says what failed, the likely cause, and the next step; `problems` lists every problem of an input."""

    exit_code: ExitCode = ExitCode.USER

    def __init__(self, message: str, *, hint: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = problems


class UserError(LauncherError):
    """The input or the set-up needs a change."""


class AccessDenied(UserError):
    """The identity may not do this; the message names the action and the resource."""


class NotThere(UserError):
    """What was asked for does not exist."""


class Unreadable(UserError):
    """A file of a run is there, and this launcher cannot read it."""


class AlreadyThere(UserError):
    """What was to be created once exists already."""


class CloudError(LauncherError):
    """AWS could not do it now."""

    exit_code = ExitCode.CLOUD


class Unreachable(CloudError):
    """No answer came: whether the request was carried out is not known."""


class CapacityUnavailable(CloudError):
    """EC2 has no machine of this type to give, here and now."""


class Interrupted(LauncherError):
    """Ctrl-C at a moment when something is left that the person should know of."""

    exit_code = ExitCode.INTERRUPTED
