"""A run spec becomes a container plan: whole files against golden ones, and each rule by itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract import EnvTarget, EnvVar, PipelineSource, SecretRef, SecretStore
from agent.errors import SpecInvalid
from agent.machine import Machine
from agent.workloads.nextflow import PipelinePlan
from agent.workloads.nextflow_config import budget, comment, quote
from tests.unit.workloads.plans import MACHINE, SESSION, plan, run_spec

GOLDEN = Path(__file__).parent / "golden"
CONFIG = Path("/scratch/run/config")
TOKEN = SecretRef(env="TOWER_ACCESS_TOKEN", store=SecretStore.SSM, id="/solorun/token")
GIB = 1024**3


def text(made: PipelinePlan, name: str) -> str:
    return made.files[CONFIG / name]


def command(made: PipelinePlan) -> list[str]:
    """Nextflow's words, from the launch script."""
    line = next(line for line in text(made, "launch.sh").splitlines() if line.startswith("nextflow "))
    return line.removesuffix(" &").split()


def everything() -> PipelinePlan:
    """A spec with all that a person can set, with a local work dir."""
    return plan(
        run_spec(
            workload={
                "source": PipelineSource(repository="https://example.org/team/variants.git", revision="v1.2"),
                "main_script": "workflows/all.nf",
                "profiles": ("docker", "test"),
                "params": {"reads": "s3://bucket/reads/*.fq", "depth": 30, "outdir": "tables"},
                "config": "process.cpus = 2\n",
                "compute_env_config": "process.memory = '1 GB'\n",
                "stub_run": True,
                "resume_from": "20260101t000000-zzzzzz",
            },
            environment=(
                EnvVar(name="HEAD_ONLY", value="h", target=EnvTarget.HEAD),
                EnvVar(name="TASK_ONLY", value="it's $HOME", target=EnvTarget.COMPUTE),
                EnvVar(name="LINES", value="one\ntwo 'x'\n", target=EnvTarget.BOTH),
            ),
            secrets=(SecretRef(env="KEY", store=SecretStore.SSM, id="/key"),),
            pre_run_script="export A=1\n",
            post_run_script="echo done\n",
        ),
        secrets={"KEY": "hidden"},
    )


def fusion() -> PipelinePlan:
    """A run with a Platform token."""
    return plan(run_spec(workload={"platform_token": TOKEN}), secrets={"TOWER_ACCESS_TOKEN": "hidden"})


@pytest.mark.parametrize(
    ("made", "name", "golden"),
    [
        (plan(run_spec()), "base.config", "local.config"),
        (fusion(), "base.config", "fusion.config"),
        (plan(run_spec()), "launch.sh", "plain.launch.sh"),
        (everything(), "launch.sh", "everything.launch.sh"),
        (fusion(), "launch.sh", "fusion.launch.sh"),
        (plan(run_spec()), "docker-with-labels", "plain.docker.sh"),
        (everything(), "docker-with-labels", "everything.docker.sh"),
        (fusion(), "docker-with-labels", "fusion.docker.sh"),
    ],
)
def test_golden(made: PipelinePlan, name: str, golden: str) -> None:
    """Every generated file is, to the last letter, the one that was looked at and kept."""
    assert text(made, name) == (GOLDEN / golden).read_text()


def test_container() -> None:
    """The head has the Docker socket and the run's folder at its own path, and labels that name the run."""
    container = plan(run_spec()).container
    assert container.image == "solorun/nextflow:24.10.0"
    assert container.command == ("/bin/bash", "/scratch/run/config/launch.sh")
    assert {(m.source, m.target, m.read_only) for m in container.mounts} == {
        ("/var/run/docker.sock", "/var/run/docker.sock", False),
        ("/scratch/run", "/scratch/run", False),
    }
    assert container.labels == {
        "solorun.run": "20260102t030405-abc123",
        "solorun.role": "workload",
        "solorun.instance": "i-0123",
    }
    assert container.working_dir == "/scratch/run/results"


def test_environment_reaches_its_target() -> None:
    """Variables go to the head, to tasks, or to both; secrets only to the head; values never into a script's words."""
    made = everything()
    head = made.container.environment
    assert (head["HEAD_ONLY"], head["KEY"]) == ("h", "hidden")
    assert "TASK_ONLY" not in head
    assert head["LINES"] == "one\ntwo 'x'\n"
    assert text(made, "task.env") == "TASK_ONLY=it's $HOME\n"
    assert not any("hidden" in content for content in made.files.values())
    assert "hidden" not in repr(made)


def test_session() -> None:
    """A first run takes the session by NXF_UUID; a resumed one by -resume as well; neither needs a history."""
    first, resumed = plan(run_spec()), everything()
    assert first.container.environment["NXF_UUID"] == SESSION
    assert first.container.environment["NXF_IGNORE_RESUME_HISTORY"] == "true"
    assert "-resume" not in command(first)
    assert command(resumed)[-2:] == ["-resume", SESSION]


def test_user_cannot_break_the_session() -> None:
    """Variables that the run depends on are ours; those that are mere defaults are the user's."""
    made = plan(
        run_spec(
            environment=(EnvVar(name="NXF_UUID", value="x"), EnvVar(name="NXF_JVM_ARGS", value="-Xmx9g"))
        )
    )
    assert made.container.environment["NXF_UUID"] == SESSION
    assert made.container.environment["NXF_JVM_ARGS"] == "-Xmx9g"


def test_token_reaches_the_head_alone() -> None:
    """The Platform token is in the head's environment under Nextflow's name, and in no file."""
    reference = TOKEN.model_copy(update={"env": "MY_TOKEN"})
    made = plan(run_spec(workload={"platform_token": reference}), secrets={"MY_TOKEN": "hidden"})
    assert made.container.environment["TOWER_ACCESS_TOKEN"] == "hidden"
    assert not any("hidden" in content for content in made.files.values())


def test_configs_in_order_of_precedence() -> None:
    """Ours is named first, then the compute environment's, then the user's: Nextflow's last word is the user's."""
    words = command(everything())
    configs = [words[at + 1] for at, word in enumerate(words) if word == "-config"]
    assert [Path(config).name for config in configs] == ["base.config", "compute-env.config", "user.config"]


def test_revision_of_a_folder_is_only_for_the_record() -> None:
    """A bundle's revision is not handed to Nextflow, which would look for a repository."""
    source = PipelineSource(bundle_sha256="0" * 64, folder="x", revision="abc")
    assert "-r" not in command(plan(run_spec(workload={"source": source})))


@pytest.mark.parametrize(
    ("asked", "has_plugins", "param", "destination"),
    [
        (None, False, None, None),
        ("", False, None, None),
        ("tables", False, "/scratch/run/results/tables", None),
        ("./tables/", False, "/scratch/run/results/tables", None),
        (".", False, "/scratch/run/results", None),
        ("s3://other/results/", False, "/scratch/run/results", "s3://other/results"),
        ("s3://other/results/", True, "s3://other/results/", None),
        ("gs://other/results", False, "gs://other/results", None),
        ("/scratch/run/results/x", False, "/scratch/run/results/x", None),
        ("/home/me/results", False, "/scratch/run/results", None),
    ],
)
def test_outdir(asked: str | None, has_plugins: bool, param: str | None, destination: str | None) -> None:
    """Results are kept wherever the user wanted them, by Nextflow itself or by way of the results folder."""
    params = {} if asked is None else {"outdir": asked}
    made = plan(run_spec(workload={"params": params}), has_plugins=has_plugins)
    given = json.loads(made.files.get(CONFIG / "params.json", "{}"))
    assert given.get("outdir") == param
    assert made.results_destination == destination


def test_outdir_on_the_machine_is_said() -> None:
    """A folder that would be gone with the machine is replaced, and the user is told."""
    (warning,) = plan(run_spec(workload={"params": {"outdir": "/home/me/x"}})).warnings
    assert "/home/me/x" in warning


def test_outdir_may_not_escape() -> None:
    """`..` in outdir is refused, with the field's path."""
    with pytest.raises(SpecInvalid) as caught:
        plan(run_spec(workload={"params": {"outdir": "../../etc"}}))
    assert caught.value.problems[0].startswith("workload.params.outdir: ")


def test_outdir_with_fusion() -> None:
    """With Fusion results go from S3 to S3, under the run's artifacts."""
    prefix = "s3://bucket/team/.solorun/runs/20260102t030405-abc123/artifacts"
    assert f"params.outdir = '{prefix}'" in text(fusion(), "base.config")
    made = plan(
        run_spec(workload={"platform_token": TOKEN, "params": {"outdir": "tables"}}),
        secrets={"TOWER_ACCESS_TOKEN": "t"},
    )
    assert json.loads(text(made, "params.json")) == {"outdir": f"{prefix}/tables"}


def test_params_pass_unchanged() -> None:
    """Params of every kind arrive as they were given."""
    params = {"a": 1, "b": [1.5, None, True], "c": {"d": "é ' \" $x"}, "e": "007"}
    made = plan(run_spec(workload={"params": params}))
    assert json.loads(text(made, "params.json")) == params


@pytest.mark.parametrize(
    ("memory", "tasks_mib", "heap_mib"),
    [
        (1 * GIB, 512, 384),
        (2 * GIB, 1024, 768),
        (8 * GIB, 7168, 768),
        (64 * GIB, 58982, 4915),
        (1024 * GIB, 943718, 16384),
    ],
)
def test_budget(memory: int, tasks_mib: int, heap_mib: int) -> None:
    """Tasks get all cpus, and the memory less 10 %, at least 1 GiB, at most one half; the heap fits into the rest."""
    made = budget(Machine(cpus=4, memory_bytes=memory))
    assert (made.cpus, made.memory_mib, made.heap_mib) == (4, tasks_mib, heap_mib)


def test_heap_is_bounded() -> None:
    """Nextflow's own Java heap is bounded by what is kept for it."""
    assert plan(run_spec()).container.environment["NXF_JVM_ARGS"] == f"-Xmx{budget(MACHINE).heap_mib}m"


def groovy_value(literal: str) -> str:
    """What Groovy takes a single-quoted literal for; fails on one that ends early or evaluates anything."""
    body = literal[1:-1]
    assert re.fullmatch(r"(?:[^'\\\n\r]|\\u[0-9a-f]{4}|\\[\\'nrtbf])*", body)
    simple = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "\\": "\\", "'": "'"}
    units = re.sub(r"\\(?:u([0-9a-f]{4})|(.))", lambda m: chr(int(m[1], 16)) if m[1] else simple[m[2]], body)
    return units.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")


@given(st.text())
def test_quote(value: str) -> None:
    """Whatever a value holds, its literal is one string of plain ASCII that means the value and evaluates nothing."""
    literal = quote(value)
    assert literal.isascii()
    assert groovy_value(literal) == value


@given(st.text())
def test_comment(value: str) -> None:
    """A comment stays on its line."""
    assert len(comment(value).splitlines()) <= 1
