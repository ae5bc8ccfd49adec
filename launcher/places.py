"""Where runs are: every compute environment's work dirs, and finding one run among them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.contract import RUN_NAME_PATTERN, RunStatus
from launcher.aws import Aws, connect, running_local_cloud
from launcher.compute_envs import ComputeEnv, ComputeEnvs
from launcher.errors import LauncherError, NotThere, Unreadable, UserError
from launcher.machines import Machines
from launcher.observing import status_now
from launcher.run_book import RunBook
from launcher.settings import Settings
from launcher.text import did_you_mean, plural

_ID_PREFIX: Final = re.compile(r"[0-9][0-9a-z-]*")
_MOST_CANDIDATES: Final = 10
Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """One work dir of one compute environment, and what reaches it."""

    ce: ComputeEnv
    aws: Aws
    book: RunBook
    machines: Machines


@dataclass(frozen=True)
class FoundRun:
    """A run, and where it is."""

    place: Place
    run_id: str

    @property
    def book(self) -> RunBook:
        """The runs it is among."""
        return self.place.book


def connect_to(settings: Settings, ce: ComputeEnv) -> Aws:
    """The clients for a compute environment; see launcher.aws.connect."""
    return connect(ce, lambda: running_local_cloud(settings.environ))


def open_place(settings: Settings, ce: ComputeEnv, work_dir: str | None = None) -> Place:
    """One work dir of a compute environment: its own where none is given."""
    aws = connect_to(settings, ce)
    return Place(ce, aws, RunBook(aws, work_dir or ce.work_dir), Machines(aws, settings.clock))


class Places:
    """The work dirs that a command looks in: of the compute environment named, else of all of them.

    One that cannot be looked in (its cloud is down, no credentials) is said and left out, as long as there is
    another.
    """

    def __init__(self, settings: Settings, ce_name: str | None, say: Say) -> None:
        self.settings = settings
        self._say = say
        envs = ComputeEnvs(settings.config_dir)
        chosen = (envs.get(ce_name),) if ce_name is not None else envs.all()
        if not chosen:
            # the error that says how to make one
            envs.choose(None)
        self._wanted: list[tuple[ComputeEnv, str]] = []
        for ce in chosen:
            for work_dir in envs.work_dirs(ce):
                if not any(ce.local == other.local and work_dir == known for other, known in self._wanted):
                    self._wanted.append((ce, work_dir))

    def each(self, visit: Callable[[Place], None]) -> None:
        """Visit every place.

        Raises:
            LauncherError: none of them could be visited; the first one's error.
        """
        errors: list[tuple[ComputeEnv, LauncherError]] = []
        for ce, work_dir in self._wanted:
            try:
                visit(open_place(self.settings, ce, work_dir))
            except LauncherError as error:
                errors.append((ce, error))
        if errors and len(errors) == len(self._wanted):
            raise errors[0][1]
        for ce, failure in errors:
            self._say(f"Not looked in {ce.name}: {failure.message}")

    def locate(self, word: str) -> FoundRun:
        """The run that `word` stands for: an id, a unique prefix of one, or a name.

        Raises:
            NotThere: there is none; near names are offered.
            UserError: several ids start so; they are listed.
        """
        found: dict[str, FoundRun] = {}
        known: list[str] = []

        def visit(place: Place) -> None:
            ids = _candidates(place.book, word)
            for run_id in ids:
                found.setdefault(run_id, FoundRun(place, run_id))
            if not ids:
                known.extend(_known(place.book, word))

        self.each(visit)
        if not found:
            raise NotThere(
                f"There is no run {word!r}", hint=did_you_mean(word, known) or "launcher runs list shows them"
            )
        if len(found) > 1:
            raise UserError(
                f"{word!r} stands for {len(found)} runs or more; which one?",
                problems=tuple(_introduce(run) for run in list(found.values())[:_MOST_CANDIDATES]),
                hint="Give more of the id",
            )
        return next(iter(found.values()))


def status_of(run: FoundRun, settings: Settings) -> RunStatus:
    """The run's status now; see launcher.observing.status_now."""
    return status_now(run.book, run.run_id, run.place.machines, settings.clock)


def newest(book: RunBook, accept: Callable[[RunStatus], bool], limit: int, say: Say) -> list[RunStatus]:
    """Stored statuses of the newest runs that `accept` takes: one GET for each that is looked at.

    Runs whose status cannot be read take their place among the `limit`, and are said instead of shown.
    """
    shown: list[RunStatus] = []
    left_out: list[Unreadable] = []
    for run_id in book.newest():
        if len(shown) + len(left_out) >= limit:
            break
        try:
            status = book.find_status(run_id)
        except Unreadable as error:
            left_out.append(error)
            continue
        if status is not None and accept(status):
            shown.append(status)
    if left_out:
        first = left_out[0]
        say(f"Left out: {plural(len(left_out), 'run')} that cannot be read. {first.message}. {first.hint}")
    return shown


def merged_newest(lists: Iterable[Sequence[RunStatus]], limit: int) -> list[RunStatus]:
    """The newest of several lists, newest first; ids sort by time."""
    every = {status.run_id: status for statuses in lists for status in statuses}
    return sorted(every.values(), key=lambda status: status.run_id, reverse=True)[:limit]


def _candidates(book: RunBook, word: str) -> list[str]:
    if _ID_PREFIX.fullmatch(word):
        ids = book.ids_with_prefix(word, most=_MOST_CANDIDATES)
        return [word] if word in ids else ids
    if re.fullmatch(RUN_NAME_PATTERN, word):
        run_id = book.id_of_name(word)
        return [run_id] if run_id else []
    return []


def _known(book: RunBook, word: str) -> list[str]:
    """Names or ids that `word` may have been meant to be."""
    if not _ID_PREFIX.fullmatch(word):
        return book.some_names()
    ids = []
    for run_id in book.newest():
        ids.append(run_id)
        if len(ids) == 200:
            break
    return ids


def _introduce(run: FoundRun) -> str:
    try:
        status = run.book.find_status(run.run_id)
    except Unreadable:
        return run.run_id
    return f"{run.run_id}  {status.name} {status.state}" if status else run.run_id
