"""From `launcher run` to a machine that is gone: real commands, real agents, real containers."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Iterator

import pytest

from agent.contract import AGENT_LOG, RunState, StopReason
from launcher.errors import ExitCode
from tests.integration.lone_machine import eventually
from tests.integration.spine import ROOT, Person, person
from tests.integration.variants import by_sample


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody with a local cloud, which is taken down at the end."""
    with person(tmp_path_factory.mktemp("spine")) as somebody:
        yield somebody


@pytest.mark.timeout(600)
def test_the_demo_pipeline_finds_the_variants_that_were_planted(ada: Person) -> None:
    """Reads to variants on phage lambda, whole: what is called is what was planted, and the machine is gone."""
    said = ada.launcher(
        "run", str(ROOT / "examples" / "lambda-variants"), "-n", "demo", "--follow", within=500
    )
    assert said.code == ExitCode.OK, said
    assert "Submitted process > REPORT" in said.out
    status = ada.status("demo")
    assert status.state is RunState.SUCCEEDED
    assert status.tasks.failed == 0
    assert status.tasks.succeeded >= 5
    assert ada.launcher("runs", "download", "demo", "--to", "results").code == ExitCode.OK
    results = ada.folder / "results"
    samples = by_sample(next(results.rglob("truth")).parent)
    assert len(samples) == 3
    for sample, accuracy in samples.items():
        assert accuracy.planted > 10, sample
        assert accuracy.recall >= 0.95, (sample, accuracy)
        assert accuracy.precision >= 0.95, (sample, accuracy)
    report = next(results.rglob("report.html")).read_text()
    assert all(sample in report for sample in samples)
    table = csv.DictReader(next(results.rglob("variants.tsv")).read_text().splitlines(), delimiter="\t")
    assert {row["sample"] for row in table} == set(samples)
    ada.assert_gone(status.run_id)


def test_cancel_before_a_machine_has_claimed_the_run(ada: Person) -> None:
    """Whether the launcher or the machine is first: a run that is cancelled at once is over, and stays over."""
    run = ada.start("sleepy")
    assert ada.launcher("runs", "cancel", run).code == ExitCode.OK
    status = ada.until(run, RunState.CANCELLED)
    ada.assert_gone(run)
    assert ada.status(run) == status
    assert ada.launcher("runs", "cancel", run).code == ExitCode.OK
    assert ada.status(run) == status


def test_cancel_while_the_workload_runs(ada: Person) -> None:
    """A running pipeline is stopped, its log is kept, and nothing of it is left."""
    run = ada.start("sleepy", "--param", "seconds=300")
    eventually("the task runs", lambda: ada.status(run).tasks.running == 1)
    said = ada.launcher("runs", "cancel", run)
    assert said.code == ExitCode.OK
    status = ada.until(run, RunState.CANCELLED)
    assert status.stop_reason is StopReason.CANCELLED
    assert "Submitted process > SLEEP" in ada.launcher("runs", "logs", run).out
    ada.assert_gone(run)


def test_cancel_when_the_run_is_over(ada: Person) -> None:
    """A run that has ended is not changed by a cancel, which says so."""
    run = ada.start("hello")
    ada.until(run, RunState.SUCCEEDED)
    said = ada.launcher("runs", "cancel", run)
    assert said.code == ExitCode.OK
    assert "SUCCEEDED" in said.err
    assert ada.status(run).state is RunState.SUCCEEDED
    ada.assert_gone(run)


def test_a_failed_run_has_an_exit_code_of_its_own(ada: Person) -> None:
    """--follow and --wait end with 3 when the run failed, and the summary says what failed."""
    said = ada.launcher("run", str(ROOT / "tests/pipelines/failing"), "--follow")
    assert said.code == ExitCode.RUN_FAILED
    assert "the reagent is used up" in said.out + said.err
    said = ada.launcher("run", str(ROOT / "tests/pipelines/failing"), "--wait", "SUCCEEDED")
    assert said.code == ExitCode.RUN_FAILED


def test_the_machine_restarts_a_killed_agent(ada: Person) -> None:
    """SIGKILL of the agent on its machine: it comes back, and the run ends as if nothing had been."""
    run = ada.start("sleepy", "--param", "seconds=25")
    ada.until(run, RunState.RUNNING)
    machine = next(machine for machine in ada.machines() if machine["run_id"] == run)
    os.kill(int(machine["agent_pid"]), signal.SIGKILL)
    status = ada.until(run, RunState.SUCCEEDED)
    assert status.instance_id == machine["instance_id"]
    assert "awake" in ada.launcher("runs", "logs", run).out
    # The whole of the agent's log is in S3; to CloudWatch it comes as far as the machine's end leaves it time.
    assert ada.launcher("runs", "download", run, "--to", "restarted").code == ExitCode.OK
    assert "taking up" in (ada.folder / "restarted" / AGENT_LOG).read_text()
    ada.assert_gone(run)


def test_a_spot_interruption_and_the_relaunch(ada: Person) -> None:
    """`local spot-interrupt` ends a Spot run; `runs relaunch` goes on from its finished tasks on another machine."""
    run = ada.start("chain", "--param", "seconds=8", "--spot", "-n", "spotty")
    eventually("two tasks are done", lambda: ada.status(run).tasks.succeeded >= 2, within=180)
    assert ada.launcher("local", "spot-interrupt", "spotty", "--in", "60").code == ExitCode.OK
    status = ada.until(run, RunState.FAILED)
    assert status.stop_reason is StopReason.SPOT_INTERRUPTED
    again = str(ada.says("runs", "relaunch", "spotty")["run_id"])
    resumed = ada.until(again, RunState.SUCCEEDED)
    assert resumed.tasks.cached >= 2
    assert resumed.instance_id != status.instance_id
    assert ada.launcher("runs", "tasks", again).out.count("CACHED") == resumed.tasks.cached
    ada.assert_gone(run, again)


@pytest.mark.timeout(900)
def test_ten_runs_side_by_side(ada: Person) -> None:
    """Ten runs at once all end well, each with its own results, and no machine is left."""
    runs = [ada.start("hello", "-n", f"beside-{number}") for number in range(10)]
    for run in runs:
        ada.until(run, RunState.SUCCEEDED, within=600)
    statuses = [ada.status(run) for run in runs]
    assert len({status.instance_id for status in statuses}) == 10
    assert all(status.artifacts and status.artifacts.files == 3 for status in statuses)
    ada.assert_gone(*runs)


def test_a_deleted_run_leaves_nothing_and_frees_its_name(ada: Person) -> None:
    """After `runs delete` the name can be used again, and the run is not listed."""
    run = ada.start("hello", "-n", "twice")
    ada.until(run, RunState.SUCCEEDED)
    assert ada.launcher("runs", "delete", "twice", "--yes").code == ExitCode.OK
    assert run not in ada.launcher("runs", "list").out
    assert ada.launcher("runs", "view", run).code == ExitCode.USER
    again = ada.start("hello", "-n", "twice")
    ada.until(again, RunState.SUCCEEDED)
