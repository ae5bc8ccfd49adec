"""Which tasks of a pipeline have ended well (from Nextflow's trace as it grows), and which of them are in S3."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_DONE: Final = frozenset({"COMPLETED", "CACHED"})


class FinishedTasks:
    """Reads the new lines of a trace each time; a trace that was begun anew is read from its start."""

    def __init__(self, trace: Path, work: Path) -> None:
        self._trace = trace
        self._work = work
        self._offset = 0
        self._columns: dict[str, int] = {}

    def new(self) -> list[Path]:
        """The work folders of the tasks that ended well since the last call.

        Needs the columns `status` and `workdir`, or `hash` (its folder is then searched for). Folders elsewhere, as
        those of an S3 work dir, are left out.
        """
        try:
            size = self._trace.stat().st_size
        except FileNotFoundError:
            return []
        if size < self._offset:
            self._offset, self._columns = 0, {}
        with self._trace.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        found: list[Path] = []
        for line in whole.decode(errors="replace").splitlines():
            cells = line.split("\t")
            if not self._columns:
                self._columns = {name: index for index, name in enumerate(cells)}
            elif self._cell(cells, "status") in _DONE:
                folder = self._folder(cells)
                if folder is not None:
                    found.append(folder)
        return found

    def _folder(self, cells: list[str]) -> Path | None:
        workdir = self._cell(cells, "workdir")
        if workdir.startswith("/"):
            path = Path(workdir)
        else:
            start, _, rest = self._cell(cells, "hash").partition("/")
            matches = (
                list((self._work / start).glob(f"{rest}*")) if start.isalnum() and rest.isalnum() else []
            )
            if len(matches) != 1:
                return None
            path = matches[0]
        is_task = path.parent.parent == self._work and ".." not in path.parts
        return path if is_task and path.is_dir() and not path.is_symlink() else None

    def _cell(self, cells: list[str], column: str) -> str:
        index = self._columns.get(column, -1)
        return cells[index] if 0 <= index < len(cells) else ""


class CarriedTasks:
    """The tasks whose folders are in S3, by name (`ab/cdef…`): one a line in a file that outlives the agent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            text = path.read_text()
        except FileNotFoundError:
            text = ""
        # A line without its end was being written when the agent was killed.
        self._names = {line for line in text.split("\n")[:-1] if line}
        self._torn = bool(text) and not text.endswith("\n")

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        """Note a task.

        Raises:
            OSError: the disk is full.
        """
        if name in self._names:
            return
        with self._path.open("a") as file:
            file.write(f"\n{name}\n" if self._torn else f"{name}\n")
        self._torn = False
        self._names.add(name)
