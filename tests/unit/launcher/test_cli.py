"""The program's frame: start-up, errors, exit codes, the checked-in schema."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from launcher import cli
from launcher.commands.contract import schema_text
from launcher.errors import ExitCode, UserError
from launcher.settings import Settings

ROOT = Path(__file__).parents[3]


def call(arguments: Sequence[str], folder: Path) -> int:
    """Run a command in an empty config folder."""
    return int(cli.run(arguments, Settings(folder, "ada@example")))


def test_help_imports_nothing_heavy() -> None:
    """`launcher --help` is quick because AWS, the contract and rich are not loaded for it."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom launcher import cli\nfrom launcher.settings import Settings\n"
        "code = cli.run(['--help'], Settings(Path('x'), 'y'))\n"
        "heavy = {'boto3', 'botocore', 'pydantic', 'yaml', 'rich', 'docker', 'tenacity'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("run", "runs", "compute-envs", "local", "contract"):
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["run"],
        ["compute-envs", "add"],
        *(
            ["runs", name]
            for name in ("list", "view", "logs", "tasks", "cancel", "download", "relaunch", "delete")
        ),
        ["contract", "schema"],
    ],
)
def test_every_option_says_its_default(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command has a help text, and each of its options names its default or that it is required."""
    assert call([*command, "--help"], tmp_path) == 0
    text = capsys.readouterr().out
    options = text.partition("Options:")[2].split("\n  -")[1:]
    for option in options:
        assert option.startswith("h, --help") or "Default:" in option or "equired" in option, option


def test_a_mistyped_command_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and the nearest command is offered."""
    assert call(["rnus"], tmp_path) == 2
    assert "runs" in capsys.readouterr().err


def test_an_error_is_a_sentence_and_debug_shows_the_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Message and hint on stderr, nothing on stdout; --debug may stand anywhere."""
    assert call(["compute-envs", "view", "x"], tmp_path) == ExitCode.USER
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Error: There is no compute environment 'x'\nHint: ")
    assert call(["compute-envs", "view", "x", "--debug"], tmp_path) == ExitCode.USER
    assert "Traceback" in capsys.readouterr().err


def test_an_unexpected_error_is_short_and_its_traceback_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, one sentence, and a file with the rest."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    broken = Settings(cast(Path, 7), "ada")
    assert cli.run(["compute-envs", "list"], broken) == ExitCode.INTERNAL
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    [kept] = tmp_path.glob("launcher-*.txt")
    assert str(kept) in shown
    assert "Traceback" in kept.read_text()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the operating system refuses is the operator's to mend: exit code 2."""
    config = tmp_path / "config"
    config.write_text("a file where a folder should be")
    arguments = ["compute-envs", "add", "x", "--region", "eu-west-1", "--work-dir", "s3://bucket"]
    assert call(arguments, config) == ExitCode.USER
    assert str(config) in capsys.readouterr().err


def test_the_schema_that_is_checked_in_is_this_versions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/contract.schema.json is what `launcher contract schema` prints; --check tells when it is not."""
    path = ROOT / "docs" / "contract.schema.json"
    assert path.read_text() == schema_text()
    assert call(["contract", "schema", "--check", str(path)], tmp_path) == 0
    other = tmp_path / "old.json"
    other.write_text("{}")
    assert call(["contract", "schema", "--check", str(other)], tmp_path) == ExitCode.USER
    capsys.readouterr()
    assert call(["contract", "schema"], tmp_path) == 0
    assert capsys.readouterr().out == schema_text()


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    """SOLORUN_CONFIG_DIR wins over the platform's folder; the user is named with the computer."""
    chosen = Settings.from_environ({"SOLORUN_CONFIG_DIR": str(tmp_path), "USER": "ada"})
    assert chosen.config_dir == tmp_path
    assert chosen.user.startswith("ada@")
    assert Settings.from_environ({}).config_dir.name == "solorun"


def test_compute_environments_by_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Add, list, view, make default, delete: each says what it did, and --json is for programs."""
    add = ["compute-envs", "add", "main", "--region", "eu-west-1", "--work-dir", "s3://bucket/work"]
    assert call([*add, "--env", "A=1", "--env", "head:B=x=y"], tmp_path) == 0
    assert call(["compute-envs", "default", "main"], tmp_path) == 0
    capsys.readouterr()
    assert call(["compute-envs", "view", "main"], tmp_path) == 0
    shown = capsys.readouterr().out
    assert "A=1 (both)" in shown
    assert "B=x=y (head)" in shown
    assert "m5d.large" in shown
    assert call(["compute-envs", "list", "--json"], tmp_path) == 0
    assert '"default": true' in capsys.readouterr().out
    assert call(["compute-envs", "list"], tmp_path) == 0
    assert "main (default)" in capsys.readouterr().out
    assert call(["compute-envs", "delete", "main"], tmp_path) == 0
    assert call(["compute-envs", "view", "main"], tmp_path) == 2


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--env", "1A=x"], "'1A'"),
        (["--env", "novalue"], "'novalue'"),
        (["--boot-disk-gb", "10"], "boot_disk_gb"),
        (["--arm64", "--instance-type", "m5d.large"], "instance_type"),
        (["--nextflow-config", "gone.config"], "gone.config"),
        (["--time-limit", "long"], "time_limit"),
        (["--subnet", "mine"], "subnets.0"),
    ],
)
def test_a_wrong_compute_environment_is_not_added(
    more: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, the field is named, and no file is written."""
    add = ["compute-envs", "add", "main", "--region", "eu-west-1", "--work-dir", "s3://bucket/work"]
    assert call([*add, *more], tmp_path) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "compute-envs").exists()


def test_errors_carry_their_exit_code() -> None:
    """Exit codes are distinct, and an input's is the one that shells expect for usage errors."""
    assert len({code.value for code in ExitCode}) == len(ExitCode)
    assert UserError("x").exit_code == 2
