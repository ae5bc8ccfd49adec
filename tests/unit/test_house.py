"""What the house promises to its readers: tests that promise, one place that reads the environment, true docs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cli import run
from launcher.errors import ExitCode
from launcher.settings import Settings

ROOT = Path(__file__).parents[2]


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", [*python_files("tests")], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_says_what_it_promises(path: Path) -> None:
    """Each test function has a docstring of its own, and each module one."""
    tree = ast.parse(path.read_text())
    if path.name != "__init__.py":
        assert ast.get_docstring(tree), "the module has no docstring"
    silent = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert silent == []


@pytest.mark.parametrize(
    "path", [*python_files("agent", "launcher")], ids=lambda path: str(path.relative_to(ROOT))
)
def test_only_main_reads_the_environment_or_exits(path: Path) -> None:
    """`os.environ`, `sys.exit` and `os._exit` are in `__main__.py` and nowhere else."""
    if path.name == "__main__.py":
        return
    used = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert used.isdisjoint({"os.environ", "os.getenv", "sys.exit", "os._exit"})


def commands_of(text: str) -> Iterator[list[str]]:
    """The launcher commands in a document, each as words, without what the shell would take."""
    for line in re.findall(r"^ {4,}launcher (.+)$", text, re.MULTILINE):
        yield re.split(r"\s{2,}#|─|\s{2,}", line)[0].split()


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = sorted({tuple(words) for document in DOCUMENTS for words in commands_of(document.read_text())})


def test_the_documents_name_commands() -> None:
    """The test below has something to look at."""
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_in_the_documents_exist(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command of README and docs is one of the launcher's, with the options that are shown."""
    path = [word for word in words[:2] if re.fullmatch(r"[a-z-]+", word)][: 1 if words[0] == "run" else 2]
    assert run([*path, "--help"], Settings(config_dir=tmp_path, user="ada@desk", environ={})) == ExitCode.OK
    said = capsys.readouterr().out
    assert f"Usage: launcher {' '.join(path)} " in said
    for option in [word for word in words if word.startswith("-")]:
        assert re.search(rf"(^|[\s,|]){re.escape(option)}\b", said), (
            f"{option} is no option of {' '.join(path)}"
        )
