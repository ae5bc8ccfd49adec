"""What runs inside Nextflow's head container: the launch script, and the docker client that tasks go through.

Tasks get their labels and environment from a wrapper around `docker run` rather than from Nextflow's
configuration: `docker.runOptions` of a pipeline's profile would replace ours, and Nextflow's `env` scope hands
values to a shell that evaluates `$`, quotes and backticks in them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.container_plan import WORK_DIR_LABEL

BASE_CONFIG = "base.config"
COMPUTE_ENV_CONFIG = "compute-env.config"
USER_CONFIG = "user.config"
PARAMS = "params.json"
LAUNCH = "launch.sh"
PRE_RUN = "pre-run.sh"
POST_RUN = "post-run.sh"
PRE_RUN_FAILED = "pre-run.failed"
"""Made by the launch script: the exit code of a pre-run script that failed."""
NEXTFLOW_ENDED = "nextflow.ended"
"""Made by the launch script when Nextflow has exited: what runs on after that is the user's."""
DOCKER_WRAPPER = "docker-with-labels"
TASK_ENV = "task.env"


@dataclass(frozen=True)
class PostRunFacts:
    """What a post-run script is told, beside Nextflow's exit status."""

    session_id: str
    output: Path
    nextflow_log: Path
    timeline: Path
    work_dir: str


def launch_script(
    config: Path, command: Sequence[str], *, pre_run: bool, post_run: PostRunFacts | None
) -> str:
    """The bash script that is the container's first process.

    It puts the docker wrapper on PATH, sources the pre-run script (what that exports, Nextflow sees), runs Nextflow,
    passes TERM on to it, runs the post-run script, and exits with Nextflow's code. As process 1 it also
    reaps what Nextflow's tasks leave behind.
    """
    parts = [
        _HEAD.format(config=shlex.quote(str(config)), wrapper=DOCKER_WRAPPER),
        _PRE_RUN.format(failed=PRE_RUN_FAILED, script=PRE_RUN) if pre_run else "",
        _RUN.format(command=shlex.join(command), ended=NEXTFLOW_ENDED),
    ]
    if post_run is not None:
        variables = {
            "NXF_UUID": post_run.session_id,
            "NXF_OUT_FILE": str(post_run.output),
            "NXF_LOG_FILE": str(post_run.nextflow_log),
            "NXF_TML_FILE": str(post_run.timeline),
            "NXF_WORK": post_run.work_dir,
        }
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        parts.append(_POST_RUN.format(exports=exports, script=POST_RUN))
    parts.append('exit "$status"\n')
    return "\n".join(part for part in parts if part)


_HEAD = """#!/bin/bash
# The first process of the head container.
config={config}
mkdir -p "$config/bin"
ln -sf "$(command -v docker || echo /usr/bin/docker)" "$config/bin/docker-client"
cp "$config/{wrapper}" "$config/bin/docker"
chmod 755 "$config/bin/docker"
export PATH="$config/bin:$PATH"
# Process 1 gets no signal that it does not ask for.
trap 'exit 143' TERM
"""

_PRE_RUN = """# Sourced, so that Nextflow sees what it exports; `exit` in it must not pass for Nextflow's.
rm -f "$config/{failed}"
trap 'code=$?; echo "$code" > "$config/{failed}"; echo "solorun: the pre-run script ended with code $code" >&2
    [ "$code" -ne 0 ] || code=1; exit "$code"' EXIT
source "$config/{script}"
code=$?
[ "$code" -eq 0 ] || exit "$code"
set +eux
trap - EXIT
"""

_RUN = """{command} &
head=$!
told=
trap 'told=yes; kill -TERM "$head"' TERM
wait "$head"
status=$?
# A wait that the signal ended is no exit: Nextflow is still stopping its tasks.
while [ -n "$told" ]; do
    told=
    wait "$head"
    again=$?
    [ "$again" -eq 127 ] || status=$again  # 127: it had been waited for
done
trap - TERM
touch "$config/{ended}" 2> /dev/null
"""

_POST_RUN = """# What becomes of it does not change the run's status.
{exports}export NXF_EXIT_STATUS="$status"
bash "$config/{script}" || echo "solorun: the post-run script ended with code $?" >&2
"""


def docker_wrapper(config: Path, labels: Mapping[str, str], options: Sequence[str], env: TaskEnv) -> str:
    """The `docker` that Nextflow finds on PATH: the client itself, with more options for `run` and `create`.

    Ours stand first, so the same option of a pipeline wins; labels add up. No value is ever an argument.
    Docker keeps no copy of a task's output, which Nextflow writes to files anyway.
    """
    arguments = ["--log-driver", "none", *options]
    for name, value in labels.items():
        arguments += ["--label", f"{name}={value}"]
    if env.file:
        arguments += ["--env-file", str(config / TASK_ENV)]
    for name in env.exports:
        arguments += ["--env", name]
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.exports.items())
    return _WRAPPER.format(
        client=shlex.quote(str(config / "bin" / "docker-client")),
        exports=exports,
        work_dir=WORK_DIR_LABEL,
        arguments=shlex.join(arguments),
    )


_WRAPPER = """#!/bin/sh
# Docker's client; containers that are started through it belong to the run.
client={client}
case "${{1:-}} ${{2:-}}" in
"container run" | "container create") verb=$2; shift 2 ;;
"run "* | "create "*) verb=$1; shift ;;
*) exec "$client" "$@" ;;
esac
{exports}exec "$client" "$verb" --label "{work_dir}=${{NXF_TASK_WORKDIR:-}}" {arguments} "$@"
"""


@dataclass(frozen=True)
class TaskEnv:
    """The environment of tasks: most of it as a file for Docker, values of several lines as exports."""

    file: str
    exports: Mapping[str, str]


def task_env(variables: Mapping[str, str]) -> TaskEnv:
    """Divide the variables: Docker's `--env-file` takes a line for each, and anything in it as it is."""
    lines: list[str] = []
    exports: dict[str, str] = {}
    for name, value in variables.items():
        if "\n" in value or "\r" in value:
            exports[name] = value
        else:
            lines.append(f"{name}={value}\n")
    return TaskEnv("".join(lines), exports)
