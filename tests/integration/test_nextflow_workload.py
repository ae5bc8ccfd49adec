"""Planned pipelines run by real Nextflow in its container, with tasks in containers beside it."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.clock import Deadline, SystemClock
from agent.container_plan import RUN_LABEL, ContainerExit, Role
from agent.containers import Containers, open_containers
from agent.contract import EnvTarget, EnvVar, PipelineSource, StopReason, TaskCounts
from agent.folder import RunFolder
from agent.machine import Machine
from agent.workloads.nextflow_config import quote
from agent.workloads.nextflow_diagnosis import (
    Diagnosis,
    diagnose,
    finished_but_hanging,
    session_failed,
    warnings_of,
)
from agent.workloads.nextflow_trace import TraceReader, read_rows
from launcher.catalog import NEXTFLOW_IMAGE
from tests.integration.lone_machine import eventually
from tests.unit.workloads.plans import plan, run_spec

TOOLS = "solorun/demo-tools:1"
MACHINE = Machine(cpus=1, memory_bytes=4 * 1024**3)
NASTY = 'it\'s "$HOME" `id` $(id) \\ \\n \\u0041 é € # =x  end '


class Bench:
    """A run folder with a pipeline, run as the agent runs it, as often as a test wants."""

    def __init__(self, containers: Containers, root: Path) -> None:
        self.containers = containers
        self.folder = RunFolder(root)
        self.folder.create()
        self.folder.pipeline.mkdir()
        self.run_ids: list[str] = []

    def pipeline(self, script: str, config: str = "") -> None:
        """The pipeline's files."""
        (self.folder.pipeline / "main.nf").write_text(script)
        (self.folder.pipeline / "nextflow.config").write_text(f"process.container = '{TOOLS}'\n{config}")

    def start(self, *, workload: dict[str, Any] | None = None, **changes: Any) -> str:
        """Plan, write and start; the container's id."""
        stamp = "20260102t030405-" + uuid.uuid4().hex[:6]
        self.run_ids.append(stamp)
        spec = run_spec(workload=workload, run_id=stamp, container_image=NEXTFLOW_IMAGE, **changes)
        made = plan(spec, root=self.folder.root, machine=MACHINE)
        for path, text in made.files.items():
            path.write_text(text)
        return self.containers.start(made.container, self.folder.spool)

    def run(self, **changes: Any) -> ContainerExit:
        """From start to end."""
        return self.containers.wait(self.start(**changes))

    def work_with(self, name: str) -> Path:
        """The work dir of the task that has made this file; waits for it."""
        deadline = Deadline.after(150, SystemClock())
        never = threading.Event()
        while not (found := list(self.folder.work.glob(f"*/*/{name}"))):
            assert not deadline.passed, self.output()
            never.wait(0.05)
        return found[0].parent

    def output(self) -> str:
        """What the head printed."""
        return self.folder.spool.read_text(errors="replace")

    def diagnosis(self, exit_: ContainerExit) -> Diagnosis:
        """What the agent would say."""
        return diagnose(exit_.code, self.folder)

    def counts(self) -> TaskCounts:
        """What the trace and the log say."""
        return TraceReader(self.folder.trace, self.folder.nextflow_log).counts()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with open_containers() as containers:
        bench = Bench(containers, tmp_path / "run")
        yield bench
        for run_id in bench.run_ids:
            containers.sweep(run_id, Deadline.after(30, SystemClock()))


def test_results_progress_and_labels(bench: Bench) -> None:
    """A run leaves results, also those at relative paths, reports and counts; tasks carry the run's labels."""
    bench.pipeline(
        """
        params.outdir = 'elsewhere'
        process MAKE {
            publishDir params.outdir, mode: 'copy'
            publishDir 'relative', mode: 'copy'
            input: val name
            output: path "${name}.txt"
            script: "echo $name > ${name}.txt; touch up; while ! test -e go; do sleep 0.1; done"
        }
        workflow { MAKE(Channel.of('a')) }
        """
    )
    container_id = bench.start()
    run_id = bench.run_ids[-1]
    work = bench.work_with("up")
    assert {listed.role for listed in bench.containers.running(run_id)} == {Role.WORKLOAD, Role.TASK}
    # Nextflow may say so a moment after the task has begun.
    eventually("it is counted", lambda: bench.counts() == TaskCounts(submitted=1, running=1), within=30)
    (work / "go").touch()
    exit_ = bench.containers.wait(container_id)
    assert exit_.code == 0, bench.output()
    assert (bench.folder.results / "a.txt").read_text() == "a\n"
    assert sorted(path.name for path in bench.folder.results.rglob("*")) == ["a.txt", "a.txt", "relative"]
    assert bench.counts() == TaskCounts(submitted=1, succeeded=1)
    assert {path.name for path in bench.folder.logs.iterdir()} == {
        "nextflow.log",
        "trace.txt",
        "report.html",
        "timeline.html",
    }
    assert finished_but_hanging(bench.folder.nextflow_log)
    assert not session_failed(bench.folder.nextflow_log)
    (row,) = read_rows(bench.folder.trace)
    assert (row.process, row.container, row.status, row.exit) == ("MAKE", TOOLS, "COMPLETED", 0)


def test_environment_and_user_config(bench: Bench) -> None:
    """Variables reach tasks letter by letter, and only tasks or only the head where so asked; the user's config wins
    over the compute environment's, that over ours, and ours over the pipeline's.
    """
    bench.pipeline(
        """
        process SHOW {
            debug true
            script: 'printf "task<%s><%s><%s>" "$NASTY" "$LINES" "${HEAD_ONLY-unset}" | base64 -w0'
        }
        workflow {
            def config = "${params.a} ${params.b} ${params.c} ${params.d} ${params.e}"
            println "head<${System.getenv('NASTY')}><${System.getenv('HEAD_ONLY')}><${config}>"
            SHOW()
        }
        """,
        "params { a = 'repo'; b = 'repo'; c = 'repo'; d = 'repo'; e = 'repo'; outdir = 'repo' }\n"
        "process.executor = 'slurm'\ndocker.runOptions = '--read-only=false'\n",
    )
    exit_ = bench.run(
        workload={
            "compute_env_config": "params { b = 'ce'; c = 'ce'; d = 'ce' }",
            "config": "params { c = 'user'; d = 'user' }\nenv { LINES = 'configured' }",
            "params": {"d": "given"},
        },
        environment=(
            EnvVar(name="NASTY", value=NASTY, target=EnvTarget.COMPUTE),
            EnvVar(name="LINES", value="one\ntwo\n", target=EnvTarget.BOTH),
            EnvVar(name="HEAD_ONLY", value="h", target=EnvTarget.HEAD),
        ),
    )
    assert exit_.code == 0, bench.output()
    shown = base64.b64encode(f"task<{NASTY}><configured><unset>".encode()).decode()
    assert shown in bench.output()
    assert "head<null><h><repo ce user given repo>" in bench.output()


def test_lines_reach_tasks(bench: Bench) -> None:
    """A value of several lines, with quotes and dollars, reaches tasks as it is."""
    value = f"one\n{NASTY}\n\ttwo\n"
    bench.pipeline(
        "process SHOW { debug true\n script: 'printf %s \"$V\" | base64 -w0' }\nworkflow { SHOW() }"
    )
    assert bench.run(environment=(EnvVar(name="V", value=value),)).code == 0, bench.output()
    assert base64.b64encode(value.encode()).decode() in bench.output()


def test_too_large_a_request(bench: Bench) -> None:
    """A task that asks for too much runs with what there is, and the user is told once for each process and amount."""
    bench.pipeline(
        """
        process BIG {
            debug true
            cpus 64
            memory '900 GB'
            input: val x
            script: "echo got $task.cpus and $task.memory"
        }
        process GROWS {
            memory { 2.GB * task.attempt }
            errorStrategy 'retry'
            maxRetries 1
            script: "exit ${2 - task.attempt}"
        }
        process FITS { script: 'true' }
        workflow { BIG(Channel.of(1, 2)); GROWS(); FITS() }
        """
    )
    exit_ = bench.run()
    assert exit_.code == 0, bench.output()
    assert bench.output().count("got 1 and 3 GB") == 2
    warnings = warnings_of(bench.folder)
    assert sorted(warnings) == [
        "Process BIG asks for more than this machine has: 64 cpus and 900 GB of memory. "
        "It runs with at most 1 cpus and 3072 MB.",
        "Process GROWS asks for more than this machine has: 1 cpus and 4 GB of memory. "
        "It runs with at most 1 cpus and 3072 MB.",
    ]
    assert bench.output().count("WARN: Process BIG asks for more") == 1
    assert bench.diagnosis(exit_).warnings == warnings


def test_resume(bench: Bench) -> None:
    """A second run of the session finds the finished tasks, though it has the same name."""
    bench.pipeline(
        "process MAKE { input: val x\n output: path 'o'\n script: \"echo $x > o\" }\n"
        "workflow { MAKE(Channel.of(1, 2)) }"
    )
    assert bench.run().code == 0, bench.output()
    bench.folder.trace.unlink()
    bench.folder.nextflow_log.unlink()
    assert bench.run(workload={"resume_from": bench.run_ids[0]}).code == 0, bench.output()
    assert bench.counts() == TaskCounts(cached=2)


def test_failure(bench: Bench) -> None:
    """A task's failure ends with its process, code and last words; Nextflow's own exit code is the container's."""
    bench.pipeline("process BAD { script: 'echo no index found >&2; exit 9' }\nworkflow { BAD() }")
    exit_ = bench.run()
    assert exit_.code == 1
    found = bench.diagnosis(exit_)
    assert found.reason is StopReason.WORKLOAD_FAILED
    assert found.message.startswith("Process BAD failed with exit code 9. Its last words: no index found.")
    assert session_failed(bench.folder.nextflow_log)


def test_task_that_runs_out_of_memory(bench: Bench) -> None:
    """A task that the kernel killed for want of memory is told from one that was killed, by Docker's own report."""
    # The shell outlives what is killed: Docker may lose the report of a container that is over at once.
    script = "sleep 1; tail /dev/zero || { sleep 2; exit 137; }"
    bench.pipeline(f"process EATS {{ memory '64 MB'\n script: '{script}' }}\nworkflow {{ EATS() }}")
    since = SystemClock().now()
    exit_ = bench.run()
    work_dirs = bench.containers.out_of_memory(bench.run_ids[-1], since)
    found = diagnose(exit_.code, bench.folder, out_of_memory=work_dirs)
    assert found.reason is StopReason.OUT_OF_MEMORY
    assert "Process EATS ran out of memory" in found.message
    assert "Docker reports it" in found.message


def test_missing_task_image(bench: Bench) -> None:
    """A task's image that cannot be had is named as such."""
    bench.pipeline("process A { container '127.0.0.1:1/no/such:1'\n script: 'true' }\nworkflow { A() }")
    found = bench.diagnosis(bench.run())
    assert found.reason is StopReason.IMAGE_UNAVAILABLE
    assert "Process A needs the container image 127.0.0.1:1/no/such:1" in found.message


def test_stop(bench: Bench) -> None:
    """TERM reaches Nextflow, which ends in order; what tasks are left are swept."""
    bench.pipeline('process SLOW { script: "touch up; sleep 300" }\nworkflow { SLOW() }')
    container_id = bench.start(post_run_script="echo post $NXF_EXIT_STATUS")
    bench.work_with("up")
    bench.containers.stop(container_id, 30)
    assert bench.containers.wait(container_id).code == 1, bench.output()
    assert "post 1" in bench.output()
    assert finished_but_hanging(bench.folder.nextflow_log)
    assert [row.status for row in read_rows(bench.folder.trace)] == ["ABORTED"]
    bench.containers.sweep(bench.run_ids[-1], Deadline.after(30, SystemClock()))
    left = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label={RUN_LABEL}={bench.run_ids[-1]}"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert left.stdout == ""


def test_scripts_around_nextflow(bench: Bench) -> None:
    """What the pre-run script exports Nextflow sees; the post-run script is told the outcome and cannot change it."""
    bench.pipeline("workflow { println \"sees ${System.getenv('FROM_PRE')}\" }")
    exit_ = bench.run(
        pre_run_script="set -e\nexport FROM_PRE='a b'\n",
        post_run_script='echo "post $NXF_EXIT_STATUS $NXF_UUID $NXF_WORK"; test -s "$NXF_LOG_FILE"; exit 5\n',
    )
    assert exit_.code == 0, bench.output()
    assert "sees a b" in bench.output()
    assert f"post 0 {run_spec().workload.session_id} {bench.folder.work}" in bench.output()
    assert "post-run script ended with code 5" in bench.output()


@pytest.mark.parametrize(
    ("script", "code"), [("echo bad >&2\nfalse", 1), ("echo bad\nexit 7", 7), ("set -e\nls /no\n", 2)]
)
def test_pre_run_script_that_fails(bench: Bench, script: str, code: int) -> None:
    """When the pre-run script fails Nextflow is not started, and the message says so."""
    bench.pipeline("workflow { println 'started' }")
    exit_ = bench.run(pre_run_script=script)
    assert exit_.code == code
    assert "started" not in bench.output()
    found = bench.diagnosis(exit_)
    assert found.reason is StopReason.WORKLOAD_FAILED
    assert f"The pre-run script ended with exit code {code}" in found.message


def test_quoted_values(bench: Bench) -> None:
    """Groovy reads back what was quoted, whatever it holds: values can neither break nor run anything."""
    values = [
        NASTY,
        "'''",
        "\\",
        "\\\\'",
        "${1+1}",
        "\\u0027 + 'x' + \\u0027",
        "a\nb\r\tc",
        "𝄞 \x01 \x7f",
        "$x",
        "/* */ //",
    ]
    (bench.folder.config / "values.config").write_text(
        "".join(f"params.v{at} = {quote(value)}\n" for at, value in enumerate(values))
    )
    bench.pipeline(
        'workflow { file("$projectDir/../out.json").text = groovy.json.JsonOutput.toJson(params) }',
        f"includeConfig '{bench.folder.config}/values.config'\n",
    )
    assert bench.run().code == 0, bench.output()
    seen = json.loads((bench.folder.root / "out.json").read_text())
    assert [seen[f"v{at}"] for at in range(len(values))] == values


def test_labels_stay_whatever_the_config_says(bench: Bench) -> None:
    """A user's own docker.runOptions replace a pipeline's, and never the labels by which tasks are swept."""
    bench.pipeline(
        'process A { script: "touch up; sleep 300" }\nworkflow { A() }',
    )
    container_id = bench.start(workload={"config": "docker.runOptions = '--cap-drop ALL'"})
    bench.work_with("up")
    assert len(bench.containers.running(bench.run_ids[-1])) == 2
    bench.containers.stop(container_id, 0)
    assert len(bench.containers.sweep(bench.run_ids[-1], Deadline.after(30, SystemClock()))) == 2


def git(folder: Path, *words: str) -> None:
    """A git command in a folder, as a person of no name."""
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *who, "-C", str(folder), *words], check=True, capture_output=True)


@pytest.mark.parametrize(("revision", "works"), [("v1", True), ("v2", False)])
def test_repository(bench: Bench, revision: str, works: bool) -> None:
    """A repository is fetched at the revision asked for; a revision that is not there is named."""
    repository = bench.folder.root / "team" / "pipe"
    repository.mkdir(parents=True)
    git(repository, "init")
    (repository / "main.nf").write_text("workflow { println 'first' }")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "one")
    git(repository, "tag", "v1")
    (repository / "main.nf").write_text("workflow { println 'second' }")
    git(repository, "commit", "-am", "two")
    source = PipelineSource(repository=f"file:{repository}", revision=revision)
    exit_ = bench.run(workload={"source": source})
    if works:
        assert exit_.code == 0, bench.output()
        assert "\nfirst\n" in bench.output()
    else:
        assert "no branch, tag or commit v2" in bench.diagnosis(exit_).message
