"""Why a run ended, from what real Nextflow wrote: each sample is a small broken pipeline that was run."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.contract import StopReason
from agent.folder import RunFolder
from agent.workloads.nextflow_diagnosis import (
    diagnose,
    finished_but_hanging,
    session_failed,
    warnings_of,
)

SAMPLES = Path(__file__).parent / "samples"
FAILED = StopReason.WORKLOAD_FAILED


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.create()
    return folder


def take(folder: RunFolder, sample: str) -> RunFolder:
    """The files of a sample, in the places where the agent finds them."""
    for name, path in (
        ("stdout.txt", folder.spool),
        ("nextflow.log", folder.nextflow_log),
        ("trace.txt", folder.trace),
    ):
        source = SAMPLES / sample / name
        if source.exists():
            path.write_text(source.read_text().replace("/scratch/run", str(folder.root)))
    return folder


@pytest.mark.parametrize(
    ("sample", "reason", "words"),
    [
        (
            "task-failed",
            FAILED,
            ["Process ALIGN (s1)", "exit code 3", "index is damaged", "a5/d580eb", "1 more task"],
        ),
        ("many-fail", FAILED, ["Process A (1)", "exit code 4"]),
        ("command-missing", FAILED, ["Process CALL", "`bcftools` is not in the container image tools:1"]),
        ("missing-output", FAILED, ["Process SORT", "did not write sorted.bam"]),
        ("time-exceeded", FAILED, ["Process SLOW", "time limit of 1s"]),
        ("too-big", FAILED, ["Process BIG asks for 900 GB of memory", "23.5 GB", "larger instance type"]),
        (
            "sub-workflow",
            FAILED,
            ["Process X", "No such variable: undefinedThing", "modules/x.nf", "line: 3"],
        ),
        (
            "image-missing",
            StopReason.IMAGE_UNAVAILABLE,
            ["Process ALIGN", "nosuch/bwa:9", "cannot be reached"],
        ),
        ("task-oom", StopReason.OUT_OF_MEMORY, ["Process ASSEMBLE ran out of memory", "137", "20 MB"]),
        ("head-disk-full", StopReason.DISK_FULL, ["disk is full", "larger boot disk"]),
        ("jvm-oom", StopReason.OUT_OF_MEMORY, ["Nextflow itself", "Java heap", "NXF_JVM_ARGS"]),
        ("syntax-error", FAILED, ["syntax error: main.nf, line 1, column 15", "Unexpected input: '{'"]),
        ("config-syntax", FAILED, ["pipeline's nextflow.config", "line 1, column 9"]),
        ("user-config", FAILED, ["configuration given with --config", "line 1, column 9"]),
        ("no-main", FAILED, ["no main script main.nf", "--main-script"]),
        ("main-missing", FAILED, ["--main-script names is not in the pipeline"]),
        ("include-missing", FAILED, ["./modules/x.nf, which is not there (main.nf, line 1)"]),
        ("missing-process", FAILED, ["(main.nf, line 1): Missing process or function ALINE()."]),
        ("undefined-variable", FAILED, ["(main.nf, line 1): No such variable: foo."]),
        ("param-error", FAILED, ["Missing --input: a samplesheet is needed."]),
        ("input-missing", FAILED, ["reads a file that is not there: /nowhere/reads.fq"]),
        ("unknown-profile", FAILED, ["no profile nosuch", "--profile"]),
        ("repo-missing", FAILED, ["repository nosuch/nosuch could not be had", "private"]),
        ("revision-missing", FAILED, ["no branch, tag or commit nosuch", "--revision"]),
        ("s3-path", FAILED, ["plugin nf-amazon for s3://bucket/x.fq"]),
        ("plugin-missing", FAILED, ["plugin nf-schema"]),
        ("wave-missing", FAILED, ["plugin nf-tower"]),
        ("killed", FAILED, ["told to end by something outside"]),
    ],
)
def test_samples(folder: RunFolder, sample: str, reason: StopReason, words: list[str]) -> None:
    """Each failure has its reason and a message with what a person needs, short, on one line, with no path of ours."""
    found = diagnose(1, take(folder, sample))
    assert found.reason is reason
    for word in words:
        assert word in found.message
    assert "\n" not in found.message
    assert len(found.message) < 600
    assert str(folder.pipeline) not in found.message


def test_full_disk_that_left_no_words(folder: RunFolder) -> None:
    """A task that could not even write its error down failed for the full disk, when the disk was full."""
    found = diagnose(1, take(folder, "disk-full-task"), disk_full=True)
    assert found.reason is StopReason.DISK_FULL
    assert "Process UNPACK failed with exit code 1" in found.message
    assert diagnose(1, folder).reason is FAILED


def test_docker_is_the_proof_of_memory(folder: RunFolder) -> None:
    """An exit code 137 is called out of memory when Docker saw it, and only suspected when nobody did."""
    take(folder, "task-failed")
    log = folder.nextflow_log.read_text()
    folder.nextflow_log.write_text(log.replace("(3)", "(137)").replace("status:\n  3", "status:\n  137"))
    suspected = diagnose(1, folder, out_of_memory=["/elsewhere"])
    assert suspected.reason is FAILED
    assert "most often for want of memory" in suspected.message
    work_dir = f"{folder.root}/work/a5/d580eb9d23cfd232810dca2e3a70ee"
    proved = diagnose(1, folder, out_of_memory=[work_dir])
    assert proved.reason is StopReason.OUT_OF_MEMORY
    assert "Docker reports it" in proved.message


def test_pre_run_script(folder: RunFolder) -> None:
    """A pre-run script that failed is named, with its code and its last words."""
    (folder.config / "pre-run.failed").write_text("4\n")
    folder.spool.write_text("fetching\ncannot fetch\nsolorun: the pre-run script ended with code 4\n")
    found = diagnose(4, folder)
    assert found.reason is FAILED
    assert "pre-run script ended with exit code 4" in found.message
    assert found.message.endswith("cannot fetch")


@pytest.mark.parametrize(
    ("code", "output", "reason", "words"),
    [
        (127, "launch.sh: line 9: nextflow: command not found\n", FAILED, "nextflow: command not found"),
        (126, "", FAILED, "cannot run Nextflow"),
        (137, "N E X T F L O W\n", FAILED, "Nextflow itself was killed"),
        (1, "", FAILED, "it gave no reason"),
        (
            1,
            "There is insufficient memory for the Java Runtime Environment to continue.\n",
            StopReason.OUT_OF_MEMORY,
            "could not get the memory",
        ),
        (1, "some\nlast words\n", FAILED, "some"),
    ],
)
def test_head_that_did_not_run(
    folder: RunFolder, code: int, output: str, reason: StopReason, words: str
) -> None:
    """A head that could not run Nextflow is told from a pipeline that failed."""
    folder.spool.write_text(output)
    found = diagnose(code, folder)
    assert found.reason is reason
    assert words in found.message


def test_params_of_nf_schema(folder: RunFolder) -> None:
    """The problems that a schema found are all in the message."""
    folder.spool.write_text(
        "ERROR ~ Validation of pipeline parameters failed!\n\n -- Check 'nextflow.log' file for details\n"
        "The following invalid input values have been detected:\n\n"
        "* Missing required parameter(s): input, outdir\n* --depth (x): Value is [string] but should be [integer]\n\n"
    )
    message = diagnose(1, folder).message
    assert "input, outdir; --depth (x): Value is [string]" in message


def test_success_with_warnings(folder: RunFolder) -> None:
    """A run that ended well may have ignored errors, and a person is told."""
    found = diagnose(0, take(folder, "retried"))
    assert found.reason is StopReason.COMPLETED
    assert found.warnings == ("A task of process IGN failed; the pipeline ignores its errors and went on.",)


def test_lowered_requests_are_warnings(folder: RunFolder) -> None:
    """A request that was lowered to the machine's size is told once for each process; at most twenty are told."""
    line = (
        "Nov-22 12:04:33.321 [Actor Thread 7] WARN  nextflow.solorun - Process {} asks for more than this machine "
        "has: 64 cpus. It runs with at most 2 cpus and 7168 MB.\n"
    )
    folder.nextflow_log.write_text(line.format("BIG") * 2)
    assert warnings_of(folder) == (
        "Process BIG asks for more than this machine has: 64 cpus. It runs with at most 2 cpus and 7168 MB.",
    )
    folder.nextflow_log.write_text("".join(line.format(f"P{n}") for n in range(50)))
    assert len(warnings_of(folder)) == 20
    assert warnings_of(folder)[-1] == "31 more warnings are in Nextflow's log."


@pytest.mark.parametrize(
    ("sample", "finished", "failed"),
    [
        ("retried", True, False),
        ("task-failed", True, True),
        ("killed", True, True),
        ("no-main", False, False),
    ],
)
def test_finished(sample: str, finished: bool, failed: bool) -> None:
    """Nextflow's log tells whether it says goodbye, and whether the session was aborted."""
    log = SAMPLES / sample / "nextflow.log"
    assert finished_but_hanging(log) is finished
    assert session_failed(log) is failed


def test_not_finished_without_log(tmp_path: Path) -> None:
    """Without a log, or with an empty one, nothing has finished."""
    assert not finished_but_hanging(tmp_path / "none")
    (tmp_path / "empty").touch()
    assert not session_failed(tmp_path / "empty")


def test_task_output_does_not_pass_for_the_cause(folder: RunFolder) -> None:
    """Headings in a task's own output do not mislead."""
    take(folder, "task-failed")
    log = folder.nextflow_log.read_text()
    folder.nextflow_log.write_text(
        log.replace("  index is damaged\n", "  Work dir:\n  /evil\n  index is damaged\n")
    )
    assert "a5/d580eb" in diagnose(1, folder).message
