"""A run as it goes, in the terminal: log lines above, one line of progress below. Without a terminal, plain lines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from agent.contract import Phase, RunState, RunStatus
from launcher import console
from launcher.clock import Clock
from launcher.commands.shared import tasks_text
from launcher.following import Remark
from launcher.logs import LogLine
from launcher.text import between

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status
    from rich.text import Text


def progress_text(status: RunStatus, clock: Clock) -> str:
    """One line: state, what it does, for how long, tasks, how far the upload is."""
    parts = [f"{status.name}: {status.state}"]
    if not status.state.final and status.state is not RunState.UNKNOWN:
        parts.append(str(status.phase))
        parts.append(between(status.submitted_at, clock.now()))
    parts.append(tasks_text(status))
    if status.phase is Phase.COLLECT and not status.state.final:
        parts.append(status.message)
    return " · ".join(part for part in parts if part)


class _Ticking:
    """A progress line that rich draws anew, so that the time in it goes on between two statuses."""

    def __init__(self, status: RunStatus, clock: Clock) -> None:
        self._status = status
        self._clock = clock

    def __rich__(self) -> Text:
        from rich.text import Text

        return Text(progress_text(self._status, self._clock))


class Screen:
    """Prints what follow() yields. Progress goes to stderr; log lines to `lines`, as text or as JSON."""

    def __init__(self, lines: IO[str], clock: Clock, *, as_json: bool = False, progress: bool = True) -> None:
        self._lines = lines
        self._clock = clock
        self._as_json = as_json
        self._progress = progress
        self._console: Console | None = None
        self._spinner: Status | None = None
        self._said = ""

    @contextmanager
    def open(self) -> Iterator[Screen]:
        """A spinner while this is open, where stderr is a terminal and progress is wanted."""
        if not (self._progress and sys.stderr.isatty()):
            yield self
            return
        self._console = console.console_for(sys.stderr)
        with self._console.status("starting") as spinner:
            self._spinner = spinner
            yield self
        self._spinner = None

    def show(self, events: Iterable[LogLine | RunStatus | Remark]) -> RunStatus | None:
        """Print events until they end; returns the last status."""
        last = None
        for event in events:
            if isinstance(event, RunStatus):
                last = event
                self.show_status(event)
            elif isinstance(event, LogLine):
                self._show_line(event)
            else:
                self._talk(event.text)
        return last

    def show_status(self, status: RunStatus) -> None:
        """Refresh the progress line; without a terminal, print it when something but the time has changed."""
        text = progress_text(status, self._clock)
        if self._spinner is not None:
            self._spinner.update(_Ticking(status, self._clock))
            return
        essence = f"{status.state}{status.phase}{tasks_text(status)}"
        if self._progress and essence != self._said:
            self._said = essence
            console.say(text)

    def _show_line(self, line: LogLine) -> None:
        if self._as_json:
            console.emit_json_line(line.as_json())
        elif self._console is not None and self._lines.isatty():
            # above the spinner, which shares the terminal
            self._console.print(line.text, soft_wrap=True)
        else:
            print(line.text, file=self._lines, flush=True)

    def _talk(self, text: str) -> None:
        if self._console is not None:
            self._console.print(text, soft_wrap=True)
        else:
            console.say(text)
