"""Why a pipeline ended: Nextflow exits with 1 for everything, so its log, its output and the trace are read."""

from __future__ import annotations

import mmap
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent.contract import StopReason
from agent.folder import RunFolder
from agent.workloads.nextflow_config import LIMIT_MARK
from agent.workloads.nextflow_errors import (
    Explained,
    TaskFailure,
    explain_run,
    explain_task,
    first_line,
    shorten,
)
from agent.workloads.nextflow_launch import PRE_RUN_FAILED
from agent.workloads.nextflow_trace import TaskRow, read_rows

_TAIL: Final = 64 * 1024
_BLOCK: Final = 256 * 1024
"""The longest error block that is read; a command of a megabyte is repeated in it."""
_MAX_WARNINGS: Final = 20

_TASK_ERROR: Final = b"Error executing process > '"
_ABORTED: Final = b"Session aborted -- Cause: "
_GOODBYE: Final = b"Execution complete -- Goodbye"
_STAMP: Final = re.compile(r"^[A-Z][a-z]{2}-\d\d \d\d:\d\d:\d\d\.\d{3} \[", re.MULTILINE)
_BANNER: Final = re.compile(
    r"^(\s*N E X T F L O W|Launching |Pulling |Downloading plugin |WARN: |executor >| downloaded from)|"
    r"^\[[0-9a-f]{2}/[0-9a-f]{6}\]"
)


@dataclass(frozen=True)
class Diagnosis:
    """Why a run ended, in words for a person; `warnings` is what went wrong without ending it."""

    reason: StopReason
    message: str
    warnings: tuple[str, ...] = ()


def diagnose(
    code: int, folder: RunFolder, *, out_of_memory: Collection[str] = (), disk_full: bool = False
) -> Diagnosis:
    """Why the head container ended with `code`.

    `out_of_memory` are the work dirs of tasks in which the kernel killed a process, as Docker reported.
    `disk_full` says that the disk was full when it ended: a task on it could not even write its error down.
    """
    output = _tail(folder.spool)
    warnings = warnings_of(folder)
    if code == 0:
        return Diagnosis(StopReason.COMPLETED, "The pipeline ended well.", warnings)
    explained = (
        _pre_run(folder, output)
        or _head(code, folder, output)
        or _task(folder, out_of_memory)
        or explain_run(_error_text(folder, output))
    )
    message = explained.message.replace(f"{folder.pipeline}/./", "").replace(f"{folder.pipeline}/", "")
    if disk_full and explained.reason is StopReason.WORKLOAD_FAILED:
        return Diagnosis(
            StopReason.DISK_FULL,
            f"The machine's disk was full. {message} Relaunch with a larger boot disk or on an instance type with "
            "local disks.",
            warnings,
        )
    return Diagnosis(explained.reason, message, warnings)


def warnings_of(folder: RunFolder) -> tuple[str, ...]:
    """What a person should know of a run, however it ended: requests that were lowered, errors that the
    pipeline ignored. At most twenty sentences.
    """
    found: dict[str, None] = {}
    ignored: dict[str, int] = {}
    with _mapped(folder.nextflow_log) as log:
        for line in _lines_with(log, LIMIT_MARK.encode()):
            found[line.partition(" - ")[2]] = None
        for line in _lines_with(log, b" -- Error is ignored"):
            name = re.search(r"Process `([^`]+)`", line)
            if name:
                process = name[1].split(" (", 1)[0]
                ignored[process] = ignored.get(process, 0) + 1
    for process, times in ignored.items():
        many = "A task" if times == 1 else f"{times} tasks"
        found[f"{many} of process {process} failed; the pipeline ignores its errors and went on."] = None
    sentences = list(found)
    if len(sentences) > _MAX_WARNINGS:
        rest = len(sentences) - _MAX_WARNINGS + 1
        sentences = [*sentences[: _MAX_WARNINGS - 1], f"{rest} more warnings are in Nextflow's log."]
    return tuple(sentences)


def finished_but_hanging(nextflow_log: Path) -> bool:
    """Whether Nextflow's log says that it is done, so that its process should be gone within seconds."""
    return _GOODBYE in _tail(nextflow_log).encode()


def session_failed(nextflow_log: Path) -> bool:
    """Whether Nextflow's log says that the session was aborted, for whatever cause."""
    with _mapped(nextflow_log) as log:
        return log.rfind(_ABORTED) >= 0


# --- before and around Nextflow ---


def _pre_run(folder: RunFolder, output: str) -> Explained | None:
    try:
        code = (folder.config / PRE_RUN_FAILED).read_text().strip()
    except OSError:
        return None
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith("solorun: ")]
    said = f" Its last words: {shorten(lines[-1].strip())}" if lines else ""
    hint = " A pre-run script must not call `exit`." if code == "0" else ""
    return Explained(
        StopReason.WORKLOAD_FAILED,
        f"The pre-run script ended with exit code {code}, so Nextflow was not started.{hint}{said}",
    )


def _head(code: int, folder: RunFolder, output: str) -> Explained | None:
    """The head's own process could not run, or was killed."""
    if code in (126, 127) and not folder.nextflow_log.exists():
        line = first_line("\n".join(output.splitlines()[-3:]))
        return Explained(
            StopReason.WORKLOAD_FAILED,
            f"The run's own container image cannot run Nextflow: {line} It needs bash, docker and nextflow.",
        )
    if code in (137, 139) and not session_failed(folder.nextflow_log):
        what = (
            "killed (exit code 137), most often for want of memory"
            if code == 137
            else "crashed (exit code 139)"
        )
        return Explained(
            StopReason.WORKLOAD_FAILED,
            f"Nextflow itself was {what}. Relaunch; if it happens again, use an instance type with more memory.",
        )
    return None


# --- a task ---


def _task(folder: RunFolder, out_of_memory: Collection[str]) -> Explained | None:
    with _mapped(folder.nextflow_log) as log:
        start = log.find(b"ERROR nextflow.processor.TaskProcessor - " + _TASK_ERROR)
        if start < 0:
            return None
        start = log.find(_TASK_ERROR, start)
        block = log[start : start + _BLOCK].decode("utf-8", "replace")
    stamp = _STAMP.search(block)
    failure = parse_task_error(block[: stamp.start()] if stamp else block)
    failed = [row for row in read_rows(folder.trace) if row.status == "FAILED"]
    row = next((row for row in failed if row.workdir and row.workdir == failure.work_dir), None)
    failure = replace(
        failure,
        memory=row.memory if row else None,
        oom_killed=failure.work_dir in out_of_memory,
    )
    explained = explain_task(failure)
    others = _others(failed, failure)
    return replace(explained, message=explained.message + others)


def parse_task_error(block: str) -> TaskFailure:
    """The sections of the block that begins with `Error executing process`."""
    name = re.match(r"Error executing process > '(.*)'", block)
    sections = dict(_sections(block))
    error = sections.get("Command error", "").strip()
    if not error or error == "(empty)":
        error = sections.get("Command output", "").strip()
    code = sections.get("Command exit status", "").strip()
    return TaskFailure(
        name=name[1] if name else "?",
        caused_by=sections.get("Caused by", "").strip(),
        exit=int(code) if code.isdigit() else None,
        error=error,
        work_dir=sections.get("Work dir", "").strip(),
        container=sections.get("Container", "").strip(),
    )


_SECTIONS: Final = (
    "Caused by",
    "Command executed",
    "Source block",
    "Command exit status",
    "Command output",
    "Command error",
    "Command wrapper",
    "Work dir",
    "Container",
)


def _sections(block: str) -> Iterator[tuple[str, str]]:
    """Name and text of each section; their texts are indented, so no output can pass for a heading."""
    heading = "|".join(_SECTIONS)
    parts = re.split(rf"^({heading})(?: \[.*\])?:[ \t]*$|^Tip: ", block, flags=re.MULTILINE)
    for at in range(1, len(parts) - 1, 2):
        if parts[at] is not None:
            yield parts[at], parts[at + 1]


def _others(failed: list[TaskRow], first: TaskFailure) -> str:
    """How many failed beside the first, not counting attempts of the same task."""
    names = {row.name for row in failed} - {first.name}
    if not names:
        return ""
    return f" {len(names)} more task{' has' if len(names) == 1 else 's have'} failed."


# --- anything else ---


def _error_text(folder: RunFolder, output: str) -> str:
    """The text by which Nextflow ended: on its console after `ERROR ~ `, in its log, or the console's end."""
    marked = output.rpartition("ERROR ~ ")[2] if "ERROR ~ " in output else ""
    cause = ""
    with _mapped(folder.nextflow_log) as log:
        at = log.rfind(_ABORTED)
        if at >= 0:
            cause = log[at + len(_ABORTED) : at + _TAIL].decode("utf-8", "replace").partition("\n")[0]
    if marked:
        return marked
    if cause and not cause.startswith("@"):
        lines = output.splitlines()
        known = [at for at, line in enumerate(lines) if cause in line]
        return "\n".join(lines[known[-1] :]) if known else cause
    return "\n".join(line for line in output.splitlines()[-60:] if line.strip() and not _BANNER.match(line))


# --- files ---


def _tail(path: Path) -> str:
    """The end of a file; nothing where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            return file.read(_TAIL).decode("utf-8", "replace")
    except OSError:
        return ""


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | bytes]:
    """A file as bytes that are not read before they are looked at; Nextflow's log can have hundreds of MB."""
    try:
        file = path.open("rb")
    except OSError:
        yield b""
        return
    with file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file cannot be mapped
            yield b""
            return
        with mapped:
            yield mapped


def _lines_with(log: mmap.mmap | bytes, mark: bytes) -> Iterator[str]:
    at = log.find(mark)
    while at >= 0:
        start = log.rfind(b"\n", 0, at) + 1
        end = log.find(b"\n", at)
        end = end if end >= 0 else len(log)
        yield log[start:end].decode("utf-8", "replace")
        at = log.find(mark, end)
