"""`launcher runs download` against moto: what arrives, and what is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import contract
from agent.contract import Artifacts, RunState, StopReason
from tests.fakes.s3_server import S3Server
from tests.integration.launcher_kit import Kit, operator

FILES = {
    "artifacts/report.html": b"<p>",
    "artifacts/results/table.tsv": b"a\tb\n",
    "artifacts/results/odd name +%.txt": b"odd",
    "artifacts/empty": b"",
    "artifacts.sha256": b"0" * 64 + b"  report.html\n",
    "logs/workload.log": b"hello\n",
}


@pytest.fixture
def kit(aws: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    with operator(aws.url, tmp_path, monkeypatch) as kit:
        kit.add_compute_env()
        run_id = kit.submit("-n", "done")["run_id"]
        location = contract.run_prefix(kit.work_dir, run_id) + "/artifacts"
        kit.report(
            run_id,
            RunState.SUCCEEDED,
            stop_reason=StopReason.COMPLETED,
            artifacts=Artifacts(location=location, files=4, bytes=10),
        )
        for path, body in FILES.items():
            kit.put(run_id, path, body)
        monkeypatch.chdir(tmp_path)
        yield kit


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_everything_arrives_in_a_folder_named_like_the_run(kit: Kit) -> None:
    """Artifacts and logs, byte for byte; a second time nothing is fetched."""
    result = kit.ok("runs", "download", "done", "--json").json()
    assert (result["files"], result["unchanged"]) == (6, 0)
    assert contents(Path("done")) == FILES
    again = kit.ok("runs", "download", "done", "--json").json()
    assert (again["files"], again["unchanged"]) == (0, 6)


def test_artifacts_come_from_where_the_user_wanted_them(kit: Kit) -> None:
    """The results of a run whose outdir is in another bucket are found there."""
    where: Any = {"LocationConstraint": kit.s3.meta.region_name}
    kit.s3.create_bucket(Bucket="results-of-the-lab", CreateBucketConfiguration=where)
    kit.s3.put_object(Bucket="results-of-the-lab", Key="project/table.tsv", Body=b"a\n")
    run_id = kit.submit("-n", "elsewhere")["run_id"]
    kit.report(
        run_id,
        RunState.SUCCEEDED,
        stop_reason=StopReason.COMPLETED,
        artifacts=Artifacts(location="s3://results-of-the-lab/project", files=1, bytes=2),
    )
    kit.ok("runs", "download", "elsewhere")
    assert contents(Path("elsewhere")) == {"artifacts/table.tsv": b"a\n"}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["report.html"], {"artifacts/report.html"}),
        (["results"], {"artifacts/results/table.tsv", "artifacts/results/odd name +%.txt"}),
        (["*.tsv", "empty"], {"artifacts/results/table.tsv", "artifacts/empty"}),
        (["logs/"], {"logs/workload.log"}),
        (["artifacts/report.html"], {"artifacts/report.html"}),
    ],
)
def test_paths_choose_files_folders_and_globs(kit: Kit, patterns: list[str], expected: set[str]) -> None:
    """Only what was named arrives."""
    kit.ok("runs", "download", "done", *patterns, "--to", "here")
    assert set(contents(Path("here"))) == expected


def test_a_path_that_names_nothing_is_said_with_the_nearest(kit: Kit) -> None:
    """Nothing at all is fetched then."""
    result = kit("runs", "download", "done", "reprot.html", "empty", "--to", "here")
    assert result.code == 2
    assert "Did you mean report.html?" in result.err
    assert not Path("here").exists()


def test_a_file_that_differs_is_not_replaced_unasked(kit: Kit) -> None:
    """Refused with the file's name and nothing fetched; --overwrite replaces it."""
    kit.ok("runs", "download", "done", "report.html")
    mine = Path("done/artifacts/report.html")
    mine.write_bytes(b"my own notes")
    result = kit("runs", "download", "done")
    assert result.code == 2
    assert "artifacts/report.html" in result.err
    assert set(contents(Path("done"))) == {"artifacts/report.html"}
    assert mine.read_bytes() == b"my own notes"
    kit.ok("runs", "download", "done", "--overwrite")
    assert contents(Path("done")) == FILES


def test_nothing_is_written_outside_the_folder(kit: Kit) -> None:
    """Keys with `..`, and folders that are links to elsewhere, are refused as a whole."""
    run_id = kit.ok("runs", "view", "done", "--json").json()["run_id"]
    kit.put(run_id, "artifacts/../../../evil", b"x")
    result = kit("runs", "download", "done", "--to", "deep/er/here")
    assert result.code == 2
    assert "would leave" in result.err
    kit.s3.delete_object(
        Bucket=kit.bucket, Key=contract.run_key(kit.work_dir, run_id) + "artifacts/../../../evil"
    )
    Path("outside").mkdir()
    Path("linked/artifacts").mkdir(parents=True)
    Path("linked/artifacts/results").symlink_to(Path("outside").absolute())
    assert kit("runs", "download", "done", "--to", "linked").code == 2
    assert contents(Path("outside")) == {}


def test_the_paths_can_be_listed_first(kit: Kit) -> None:
    """--list prints them and fetches nothing."""
    assert set(kit.ok("runs", "download", "done", "--list").out.splitlines()) == set(FILES)
    assert not Path("done").exists()
