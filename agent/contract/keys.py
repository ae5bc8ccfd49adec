"""Where everything of a run is: keys in S3, and names of log streams."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

SPEC: Final = "spec.json"
STATUS: Final = "status.json"
CLAIM: Final = "claim.json"
STOP: Final = "stop.json"
BUNDLE: Final = "pipeline.tar.gz"
WORKLOAD_LOG: Final = "logs/workload.log"
AGENT_LOG: Final = "logs/agent.log"
NEXTFLOW_LOG: Final = "logs/nextflow.log"
TRACE: Final = "logs/trace.txt"
METRICS: Final = "logs/metrics.jsonl"
ARTIFACTS: Final = "artifacts/"
MANIFEST: Final = "artifacts.sha256"
"""SHA-256 of every artifact, for `sha256sum --check` in a copy of `artifacts/`."""
LOGS: Final = "logs/"
CACHE: Final = "cache/"
BOOT_REPORT: Final = "boot.txt"
"""Why a machine whose image has no agent could not be given one, in plain text; else it is not there."""

_ROOT: Final = ".solorun"


def split_s3_uri(uri: str) -> tuple[str, str]:
    """`s3://bucket/a/b` as ("bucket", "a/b"); the key has no slash at either end.

    Raises:
        ValueError: `uri` is not an S3 URI.
    """
    match = re.fullmatch(r"s3://([^/]+)/*(.*?)/*", uri)
    if match is None:
        raise ValueError(f"not an S3 URI: {uri!r}")
    return match[1], match[2]


def _under(work_dir: str, *parts: str) -> str:
    _, key = split_s3_uri(work_dir)
    return str(PurePosixPath(key, _ROOT, *parts))


def runs_key(work_dir: str) -> str:
    """The key prefix that holds all runs of a work dir, with a slash at its end."""
    return _under(work_dir, "runs") + "/"


def run_key(work_dir: str, run_id: str) -> str:
    """The key prefix of one run, with a slash at its end."""
    return _under(work_dir, "runs", run_id) + "/"


def run_prefix(work_dir: str, run_id: str) -> str:
    """The S3 URI of a run's prefix, without a slash at its end."""
    bucket, _ = split_s3_uri(work_dir)
    return f"s3://{bucket}/{run_key(work_dir, run_id)[:-1]}"


def program_key(work_dir: str, sha256: str) -> str:
    """The key of an archive of programs that machines fetch: the agent with its Python, or a container image."""
    return _under(work_dir, "programs", f"{sha256}.tar.gz")


def name_key(work_dir: str, name: str) -> str:
    """The key of the marker that reserves a run name; its body is the run id."""
    return _under(work_dir, "names", name)


def index_prefix(work_dir: str) -> str:
    """The key prefix of the index of runs, newest first."""
    return _under(work_dir, "index") + "/"


_TIME_DIGITS: Final = 14


def index_key(work_dir: str, run_id: str) -> str:
    """A run's key in the index: S3 lists in ascending order only, so each digit of the time is inverted."""
    stamp = run_id[:8] + run_id[9:15]
    inverted = "".join(str(9 - int(digit)) for digit in stamp)
    return f"{index_prefix(work_dir)}{inverted}-{run_id}"


def run_id_of_index_key(key: str) -> str:
    """The run id that an index key stands for."""
    return key.rsplit("/", 1)[-1][_TIME_DIGITS + 1 :]


def log_stream(run_id: str, *, agent: bool = False) -> str:
    """The CloudWatch log stream of a run: the workload's, or the agent's own."""
    return f"{run_id}/{'agent' if agent else 'workload'}"
