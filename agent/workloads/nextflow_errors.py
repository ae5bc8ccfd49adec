"""What Nextflow's error texts mean, as sentences that a person can act on.

Two vocabularies: `explain_task` for a task that failed, `explain_run` for all that ends a run otherwise.
The texts are those of Nextflow 23.10 to 24.10 and of Docker 20 to 29.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.container_errors import pull_advice
from agent.contract import StopReason


@dataclass(frozen=True)
class TaskFailure:
    """The block that Nextflow writes when a task ends a run."""

    name: str
    caused_by: str
    exit: int | None
    error: str
    """The end of the task's stderr; of its stdout where that is empty."""
    work_dir: str
    container: str
    memory: int | None = None
    """Bytes that the task had asked for, where it had."""
    oom_killed: bool = False
    """Docker reported that the kernel killed a process of the task for want of memory."""


@dataclass(frozen=True)
class Explained:
    """A reason and a sentence or two."""

    reason: StopReason
    message: str


_FAILED: Final = StopReason.WORKLOAD_FAILED


# --- a task failed ---


def explain_task(task: TaskFailure) -> Explained:
    """Which process failed, how, and what to do about it."""
    who = f"Process {task.name}"
    for look in (_requirement, _no_space, _image, _docker, _memory, _missing_command):
        explained = look(who, task)
        if explained is not None:
            return explained
    where = f" Its work dir was {task.work_dir}." if task.work_dir else ""
    missing = re.search(r"Missing output file\(s\) `(.+?)` expected", task.caused_by)
    if missing:
        return Explained(
            _FAILED,
            f"{who} ended without an error but did not write {missing[1]}, which it declares as output."
            f"{_said(task)}{where}",
        )
    limit = re.search(r"exceeded running time limit \((.+?)\)", task.caused_by)
    if limit:
        return Explained(
            _FAILED,
            f"{who} ran into its own time limit of {limit[1]}. Raise the process's `time`, or give it more cpus.",
        )
    if task.exit:
        return Explained(_FAILED, f"{who} failed with exit code {task.exit}.{_said(task)}{where}")
    return Explained(_FAILED, f"{who} failed: {first_line(task.caused_by)}{where}")


def _requirement(who: str, task: TaskFailure) -> Explained | None:
    match = re.search(r"requirement exceeds? available (\w+) -- req: (.+?); avail: (.+)", task.caused_by)
    if match is None:
        return None
    what = match[1].lower()
    unit = " cpus" if what == "cpus" else f" of {what}"
    return Explained(
        _FAILED,
        f"{who} asks for {match[2]}{unit}, and tasks on this machine can have {match[3].strip()}. Relaunch with a "
        "larger instance type, or ask for less in the pipeline's configuration.",
    )


def _no_space(who: str, task: TaskFailure) -> Explained | None:
    if not _NO_SPACE.search(f"{task.caused_by}\n{task.error}"):
        return None
    return Explained(
        StopReason.DISK_FULL,
        f"{who} failed because the machine's disk is full. Relaunch with a larger boot disk or on an "
        "instance type with local disks.",
    )


def _image(who: str, task: TaskFailure) -> Explained | None:
    if task.exit != 125 or not re.search(
        r"Unable to find image|pull access denied|manifest (for|unknown)|repository does not exist|"
        r"no basic auth|toomanyrequests|failed to resolve reference",
        task.error,
    ):
        return None
    words = re.search(
        r"(?:Error response from daemon|docker): (?:Error response from daemon: )?(.+)", task.error
    )
    said = words[1].strip().rstrip(".") if words else "the pull failed"
    return Explained(
        StopReason.IMAGE_UNAVAILABLE,
        f"{who} needs the container image {task.container}, which is not on the machine and could not be "
        f"pulled: {said}. {pull_advice(said)}",
    )


def _docker(who: str, task: TaskFailure) -> Explained | None:
    if "Cannot connect to the Docker daemon" in task.error:
        return Explained(
            _FAILED,
            f"{who} could not be started, as the machine's Docker daemon did not answer. Relaunch; if it "
            "happens again, look at `launcher runs logs --agent`.",
        )
    if task.exit != 125:
        return None
    return Explained(
        _FAILED, f"Docker could not start the container of {who} ({task.container}).{_said(task)}"
    )


def _memory(who: str, task: TaskFailure) -> Explained | None:
    """137 is SIGKILL. Docker's own report is proof; so is a shell in the task that saw its child killed."""
    asked = f" It had asked for {_size(task.memory)}." if task.memory else ""
    more = "Give the process more `memory`, or relaunch on an instance type with more."
    seen = re.search(r"\bKilled\b", task.error)
    if task.oom_killed or (task.exit == 137 and (seen or "oom" in task.error.lower())):
        proof = "Docker reports it" if task.oom_killed else "a command in it was killed"
        return Explained(
            StopReason.OUT_OF_MEMORY,
            f"{who} ran out of memory: the kernel killed it (exit code {task.exit}; {proof}).{asked} {more}",
        )
    if task.exit == 137:
        return Explained(
            _FAILED,
            f"{who} was killed (exit code 137), most often for want of memory; nothing here proves it.{asked} {more}",
        )
    if re.search(
        r"std::bad_alloc|MemoryError|[Cc]annot allocate memory|OutOfMemoryError|Out of memory", task.error
    ):
        return Explained(
            _FAILED, f"{who} failed with exit code {task.exit} for want of memory.{_said(task)}{asked} {more}"
        )
    return None


def _missing_command(who: str, task: TaskFailure) -> Explained | None:
    match = re.search(r"(?:line \d+: )(\S+): (command not found|Permission denied|not found)", task.error)
    if task.exit not in (126, 127) or match is None:
        return None
    where = (
        f"the container image {task.container}"
        if task.container
        else "Nextflow's own container, as the process names no `container`"
    )
    can_not = "is not in" if task.exit == 127 else "may not be executed in"
    return Explained(
        _FAILED, f"{who} failed: the command `{match[1]}` {can_not} {where}. Use an image that has it."
    )


def _said(task: TaskFailure) -> str:
    """The last line that the task wrote: most programs say there what was wrong."""
    lines = [line.strip() for line in task.error.splitlines() if line.strip() and line.strip() != "(empty)"]
    return (
        f" Its last words: {shorten(lines[-1])}" + ("" if lines[-1].endswith((".", "!")) else ".")
        if lines
        else ""
    )


# --- the run failed otherwise ---

_NO_SPACE: Final = re.compile(r"No space left on device|ENOSPC|disk quota exceeded", re.IGNORECASE)
_Words = Callable[[re.Match[str]], str]

_RUN_RULES: Final[tuple[tuple[str, StopReason, _Words], ...]] = (
    (
        r"Script compilation error\s+- file : (?P<file>.+)\s+- cause: (?P<cause>.+?) @ line (?P<line>\d+), "
        r"column (?P<column>\d+)",
        _FAILED,
        lambda m: (
            f"The pipeline's script has a syntax error: {m['file'].strip()}, line {m['line']}, column "
            f"{m['column']}: {m['cause']}."
            + (
                " It may be anywhere in the block that begins there."
                if m["cause"].startswith("Unexpected input: '{'")
                else ""
            )
        ),
    ),
    (
        r"Script compilation error\s+(?:- file : (?P<file>.+)\s+)?- cause: (?P<cause>.+)",
        _FAILED,
        lambda m: (
            f"The pipeline's script cannot be compiled: {m['cause'].strip().rstrip('.')}"
            + (f" ({m['file'].strip()})." if m["file"] else ".")
        ),
    ),
    (
        r"(?:Unable to parse config file: '(?P<file>[^']+)'|(?P<project>Project config file is malformed))"
        r"(?:[\s\S]*?_nf_config_\w+: \d+: (?P<cause>.+?) @ line (?P<line>\d+), column (?P<column>\d+))?",
        _FAILED,
        lambda m: (
            f"{_config_name(m['file'])} cannot be understood"
            + (f": line {m['line']}, column {m['column']}: {m['cause']}." if m["line"] else ".")
        ),
    ),
    (
        r"Missing project main script: (?P<file>.+)",
        _FAILED,
        lambda m: (
            f"The pipeline has no main script {m['file'].strip()}. Name it with --main-script, or as "
            "manifest.mainScript in its nextflow.config."
        ),
    ),
    (
        r"Cannot find script file: (?P<file>.+)",
        _FAILED,
        lambda _: (
            "The script that --main-script names is not in the pipeline. Check its path, which begins at the "
            "pipeline's folder."
        ),
    ),
    (
        r"Can't find a matching module file for include: (?P<module>\S+)(?:[\s\S]*?Check script '(?P<file>[^']+)' "
        r"at line: (?P<line>\d+))?",
        _FAILED,
        lambda m: (
            f"The pipeline includes {m['module']}, which is not there"
            + (f" ({m['file']}, line {m['line']})" if m["file"] else "")
            + ". Check the path, and that the file was sent along."
        ),
    ),
    (
        r"Unknown configuration profile: '?(?P<name>[^'\n]+)'?",
        _FAILED,
        lambda m: (
            f"The pipeline has no profile {m['name']}. Check --profile against the profiles in its "
            "nextflow.config."
        ),
    ),
    (
        r"Cannot find revision `(?P<name>[^`]+)`.*?repository `(?P<repo>[^`]+)`|Revision (?P<name2>\S+) not found",
        _FAILED,
        lambda m: (
            f"The repository has no branch, tag or commit {m['name'] or m['name2']}"
            + (f" ({m['repo']})" if m["repo"] else "")
            + ". Check --revision."
        ),
    ),
    (
        r"(?:Cannot find|Unknown project|Unable to find|Remote resource not found:?) `?(?P<name>[^`\s]+)`?.*"
        r"(?:Make sure exists|NOTE: automatic download|repository)|Not a valid project name: (?P<name2>\S+)",
        _FAILED,
        lambda m: (
            f"The pipeline's repository {m['name'] or m['name2']} could not be had: it does not exist, is "
            "private, or cannot be reached from this machine. Check its name, or send the pipeline along as a folder."
        ),
    ),
    (
        r"Missing plugin '(?P<plugin>[\w-]+)' required to (?:read|write)? ?(?:file)?:? ?(?P<path>\S+)?",
        _FAILED,
        lambda m: (
            f"Nextflow needs its plugin {m['plugin']} for {m['path']}, and the container image of this run has no "
            "plugins. Use a Nextflow image with them, or put the file into the pipeline's folder."
        ),
    ),
    (
        r"Plugin with id (?P<plugin>[\w-]+) not found in any repository|Cannot find plugin '?(?P<plugin2>[\w@.-]+)",
        _FAILED,
        lambda m: (
            f"The pipeline needs the Nextflow plugin {m['plugin'] or m['plugin2']}, which is neither in the container "
            "image of this run nor to be downloaded from this machine. Use a Nextflow image that has it."
        ),
    ),
    (
        r"Java heap space|java\.lang\.OutOfMemoryError|GC overhead limit exceeded",
        StopReason.OUT_OF_MEMORY,
        lambda _: (
            "Nextflow itself ran out of memory (its Java heap was full). Relaunch on an instance type with "
            "more memory, or set NXF_JVM_ARGS=-Xmx… in the environment of the head."
        ),
    ),
    (
        r"insufficient memory for the Java Runtime|Could not reserve enough space|Cannot allocate memory",
        StopReason.OUT_OF_MEMORY,
        lambda _: (
            "Nextflow could not get the memory that it needs from the machine. Relaunch on an instance type with "
            "more memory."
        ),
    ),
    (
        _NO_SPACE.pattern,
        StopReason.DISK_FULL,
        lambda _: (
            "Nextflow could not go on because the machine's disk is full. Relaunch with a larger boot disk "
            "or on an instance type with local disks."
        ),
    ),
    (
        r"Validation of pipeline parameters failed[\s\S]*?(?P<list>(?:^\s*\*.*\n?)+)",
        _FAILED,
        lambda m: (
            "The pipeline does not accept its params: "
            + "; ".join(line.strip(" *") for line in m["list"].splitlines() if line.strip(" *"))
            + "."
        ),
    ),
    (
        r"No such file or directory: (?P<file>(?:https?|s3|gs|az)://\S+|/\S+)|"
        r"No files match pattern `(?P<name>[^`]+)` at path: (?P<at>\S+)",
        _FAILED,
        lambda m: (
            f"The pipeline reads a file that is not there: {m['file'] or m['at'] + m['name']}. Files of your own "
            "computer are not on the machine: put them into the pipeline's folder or on S3."
        ),
    ),
    (
        r"Unable to acquire lock on session",
        _FAILED,
        lambda _: (
            "Another Nextflow uses the same session's cache. Wait until the other run has ended, then relaunch."
        ),
    ),
    (
        r"^SIG(?:TERM|INT|HUP)\s*$",
        _FAILED,
        lambda _: "Nextflow was told to end by something outside of this run (a signal).",
    ),
)


def explain_run(text: str) -> Explained:
    """What ended the run, from the error text that Nextflow showed."""
    for pattern, reason, words in _RUN_RULES:
        match = re.search(pattern, text, re.MULTILINE)
        if match is not None:
            return Explained(reason, words(match))
    at = re.search(r"Check script '(?P<file>[^']+)' at line: (?P<line>\d+)", text)
    said = first_line(text)
    where = f" ({at['file']}, line {at['line']})" if at else ""
    return Explained(_FAILED, f"The pipeline ended with an error{where}: {said}")


def _config_name(path: str | None) -> str:
    if path is None:
        return "The pipeline's nextflow.config"
    names = {
        "user.config": "The configuration given with --config",
        "compute-env.config": "The compute environment's Nextflow configuration",
        "base.config": "solorun's own Nextflow configuration",
    }
    return names.get(path.rsplit("/", 1)[-1], f"The configuration {path}")


def first_line(text: str) -> str:
    """The first line with anything in it, as a sentence."""
    for line in text.splitlines():
        if line.strip():
            line = shorten(line.strip())
            return line if line.endswith((".", "!", "?", "…")) else line + "."
    return "it gave no reason."


def shorten(line: str, limit: int = 300) -> str:
    """At most `limit` characters, with a sign where something was left out."""
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _size(memory: int) -> str:
    for unit, size in (("GB", 1024**3), ("MB", 1024**2)):
        if memory >= size:
            return f"{memory / size:.3g} {unit}"
    return f"{memory} bytes"
