"""Nextflow configuration as text: what solorun sets beneath the compute environment's and the user's own.

Nextflow reads, each over the one before: the pipeline's `nextflow.config`, then every `-c` in its order. So ours
wins over the pipeline's, and only what must hold on this machine stands here: the executor, containers,
limits, the trace. Params given with `-params-file` win over all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.machine import Machine

TRACE_FIELDS: Final = (
    "task_id,hash,native_id,process,tag,name,status,exit,submit,start,complete,duration,realtime,%cpu,"
    "peak_rss,peak_vmem,rchar,wchar,workdir,container,cpus,memory,attempt"
)

LIMIT_LOGGER: Final = "nextflow.solorun"
LIMIT_MARK: Final = "asks for more than this machine has"
"""Stands in the line by which Nextflow's log tells of a request that was lowered."""

_MIB: Final = 1024**2
_RESERVE_MIN: Final = 1024 * _MIB
_RESERVE_SHARE: Final = 0.10
_HEAP_SHARE: Final = 0.75
_HEAP_MIN_MIB: Final = 256
_HEAP_MAX_MIB: Final = 16 * 1024


@dataclass(frozen=True)
class Budget:
    """How the machine is divided: what tasks may use together, and Nextflow's own Java heap."""

    cpus: int
    memory_mib: int
    heap_mib: int


def budget(machine: Machine) -> Budget:
    """Divide the machine.

    All cpus go to tasks: head and agent mostly wait. Of the memory 10 %, and at least 1 GiB, is kept for
    Nextflow's JVM (a heap of three quarters of it, and as much again as Java takes beside the heap), Docker,
    the agent (under 90 MB) and the kernel; on machines of less than 2 GiB it is one half.
    """
    reserve = max(_RESERVE_MIN, int(machine.memory_bytes * _RESERVE_SHARE))
    reserve = min(reserve, machine.memory_bytes // 2)
    return Budget(
        cpus=machine.cpus,
        memory_mib=max(1, (machine.memory_bytes - reserve) // _MIB),
        heap_mib=min(_HEAP_MAX_MIB, max(_HEAP_MIN_MIB, int(reserve * _HEAP_SHARE) // _MIB)),
    )


@dataclass(frozen=True)
class S3WorkDir:
    """What Wave and Fusion need to know."""

    region: str
    temp: str
    """The folder of the machine that tasks have as /tmp: Fusion's cache is there."""


def base_config(run_id: str, room: Budget, outdir: str, fusion: S3WorkDir | None) -> str:
    """Our configuration for one machine; with Wave and Fusion where `fusion` is set."""
    parts = [
        f"// Written by solorun for run {comment(run_id)}. The compute environment's and the user's own\n"
        "// configuration are read after it and win.\n",
        f"params.outdir = {quote(outdir)}\noutputDir = {quote(outdir)}\n",
        _DOCKER if fusion is None else _fusion(fusion),
        _process(room),
        # `$local` is more exact than `executor.cpus`, so a pipeline made for a cluster cannot exceed the machine.
        "executor {\n    $local {\n"
        f"        cpus = {room.cpus}\n        memory = '{room.memory_mib} MB'\n    }}\n}}\n",
        f"trace {{\n    fields = {quote(TRACE_FIELDS)}\n    raw = true\n    overwrite = true\n}}\n"
        "report.overwrite = true\ntimeline.overwrite = true\n",
    ]
    return "\n".join(parts)


_DOCKER: Final = "docker.enabled = true\n"


def _fusion(fusion: S3WorkDir) -> str:
    return (
        "docker {\n    enabled = true\n"
        f"    temp = {quote(fusion.temp)}\n}}\n"
        "wave.enabled = true\n"
        "fusion {\n    enabled = true\n"
        "    exportStorageCredentials = false\n}\n"
        f"aws.region = {quote(fusion.region)}\n"
        "process.scratch = false\n"
    )


def _process(room: Budget) -> str:
    """The limits as a closure, which Nextflow evaluates once a task: it lowers a request without a word, so
    the closure says it, once for each process and amount, on the console and in Nextflow's log.
    """
    limit = f"{room.memory_mib} MB"
    return f"""process {{
    executor = 'local'
    resourceLimits = {{
        def askedCpus = (task.get('cpus') ?: 1) as int
        def askedMemory = task.get('memory')
        def memory = askedMemory ? new nextflow.util.MemoryUnit(askedMemory.toString()) : null
        if( askedCpus > {room.cpus} || (memory && memory > new nextflow.util.MemoryUnit('{limit}')) ) {{
            def asked = "${{askedCpus}} cpus" + (memory ? " and ${{memory}} of memory" : '')
            def note = "Process ${{task.process}} {LIMIT_MARK}: ${{asked}}. " +
                'It runs with at most {room.cpus} cpus and {limit}.'
            if( System.setProperty(note, 'said') == null )
                org.slf4j.LoggerFactory.getLogger('{LIMIT_LOGGER}').warn(note.toString())
        }}
        [cpus: {room.cpus}, memory: '{limit}']
    }}
}}
"""


_ESCAPES: Final = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def quote(value: str) -> str:
    r"""`value` as a Groovy string that means just this: in single quotes nothing is ever evaluated.

    All that is not plain ASCII is written as `\uXXXX`, so that no file encoding can change it.
    """
    return "'" + "".join(_escape(character) for character in value) + "'"


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if " " <= character <= "~":
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def comment(value: str) -> str:
    """`value` as it can stand in a line of comment."""
    return "".join(character if character.isprintable() else "?" for character in value)
