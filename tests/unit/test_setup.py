"""scripts/setup.sh, with programs on PATH that stand for python3, apt-get and sudo."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("basename", "bash", "cat", "cksum", "cp", "dirname", "env", "mkdir", "sh")

PYTHON = """#!/bin/sh
echo "python $*" >> "$EVENTS"
case "$*" in
    *ensurepip*) exit ${NO_VENV:-0} ;;
    *print*) echo python3.11-venv ;;
    *"(3, 11)"*) exit ${TOO_OLD:-0} ;;
    --version) echo Python 3.9.2 ;;
    "-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
esac
"""
MAKEFILE = (ROOT / "Makefile").read_text()
RULES = dict(re.findall(r"^([a-z-]+): [^#\n]*##[^\n]*\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE))
"""The recipe of every goal that the help lists, by the goal."""
RECORD = '#!/bin/sh\necho "$(basename $0) $*" >> "$EVENTS"\n'


@dataclass(frozen=True)
class Clone:
    """A fresh clone on a machine with git, Python and Docker, and nothing else."""

    folder: Path

    def program(self, name: str, text: str = "#!/bin/sh\n") -> None:
        """Put a program on PATH."""
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def set_up(self, *goals: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run scripts/setup.sh, for `make demo` where no goals are named."""
        return subprocess.run(
            [self.folder / "scripts" / "setup.sh", *(goals or ["demo"])],
            env={"PATH": str(self.folder / "bin"), "EVENTS": str(self.folder / "events"), **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    def without(self, *names: str) -> None:
        """Take programs off PATH, also where this computer itself has them."""
        for name in names:
            (self.folder / "bin" / name).unlink(missing_ok=True)
        common = self.folder / "scripts" / "common.sh"
        text = common.read_text()
        assert ":/usr/sbin:" in text
        common.write_text(re.sub(r"^PATH=.*\n", "", text, flags=re.MULTILINE))

    def events(self, word: str) -> list[str]:
        """The calls of programs that hold this word."""
        lines = (self.folder / "events").read_text().splitlines()
        return [line for line in lines if word in line]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """Such a clone; PATH has only what is put there."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name in ("pyproject.toml", "requirements.lock"):
        (tmp_path / name).write_text(name)
    (tmp_path / "bin").mkdir()
    made = Clone(tmp_path)
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool} here"))
    made.program("python3", PYTHON)
    for name in ("git", "docker", "dockerd"):
        made.program(name)
    return made


def test_python_too_old(clone: Clone) -> None:
    """An old Python is named, and how to name a newer one."""
    result = clone.set_up(TOO_OLD="1")
    assert result.returncode == 1
    assert "Python 3.9.2 is too old: Python 3.11 or newer is needed" in result.stderr
    assert "make demo PYTHON=" in result.stderr


def test_nothing_missing(clone: Clone) -> None:
    """Where all packages are there, apt is not asked, and .venv comes from the lock with hashes."""
    result = clone.set_up()
    assert (result.returncode, result.stderr.count("\n")) == (0, 1)
    assert any("--require-hashes -r requirements.lock" in call for call in clone.events("pip install"))


def test_second_run_installs_nothing(clone: Clone) -> None:
    """A set-up machine is left alone until the lock file changes."""
    clone.set_up()
    before = clone.events("pip install")
    assert clone.set_up().stderr == ""
    assert clone.events("pip install") == before
    (clone.folder / "requirements.lock").write_text("changed")
    clone.set_up()
    assert len(clone.events("pip install")) == 2 * len(before)


def test_interrupted_set_up_is_taken_up(clone: Clone) -> None:
    """A set-up that failed half-way is not taken for done."""
    clone.program("python3", PYTHON.replace('"-m venv"*)', '"-m venv"*) exit 1;; never)'))
    assert clone.set_up().returncode != 0
    clone.program("python3", PYTHON)
    assert clone.set_up().returncode == 0
    assert clone.events("pip install")


def test_only_what_is_missing_is_said_and_installed(clone: Clone) -> None:
    """What apt installs is the missing packages, said before it is done."""
    clone.program("apt-get", RECORD)
    clone.program("sudo", '#!/bin/sh\nexec "$@"\n')
    (clone.folder / "bin" / "git").unlink()
    result = clone.set_up(NO_VENV="1")
    assert result.returncode == 0
    assert "Installing with apt: python3.11-venv git\n" in result.stderr
    assert clone.events("apt-get install")[0].endswith("--no-install-recommends python3.11-venv git")


def test_without_apt_the_commands_are_printed(clone: Clone) -> None:
    """On another system nothing is installed, and what to do is printed."""
    result = clone.set_up(NO_VENV="1")
    assert result.returncode == 1
    assert "no apt to install it with: python3.11-venv" in result.stderr
    assert "sudo dnf install" in result.stderr


def test_the_makefile_is_read() -> None:
    """The test below sees the goals that use Docker, and those that do not."""
    assert {"demo", "ami-plan", "lint", "test"} <= set(RULES)


@pytest.mark.parametrize("goal", sorted(set(RULES) - {"help", "clean"}))
def test_docker_is_asked_for_only_where_it_is_used(clone: Clone, goal: str) -> None:
    """A goal gets Docker where its recipe uses it; `setup` has it for all of them, `test` is three of them."""
    clone.program("apt-get", RECORD)
    clone.program("sudo", '#!/bin/sh\nexec "$@"\n')
    clone.without("docker", "dockerd")
    uses = "WITH_DOCKER" in RULES[goal] or goal in ("setup", "test")
    result = clone.set_up(goal)
    assert result.returncode == 0, result.stderr
    assert any("docker.io" in call for call in clone.events("apt-get install")) == uses


def test_docker_that_is_away_keeps_nobody_from_planning(clone: Clone) -> None:
    """Without apt and without Docker `make ami-plan` works, beside a goal that uses it Docker is named."""
    clone.without("docker", "dockerd")
    assert clone.set_up("ami-plan").returncode == 0
    result = clone.set_up("lint", "demo")
    assert result.returncode == 1
    assert "no apt to install it with: docker.io" in result.stderr


@pytest.mark.parametrize("goal", sorted(set(RULES) - {"help", "clean"}))
def test_ssh_is_asked_for_only_where_it_is_used(clone: Clone, goal: str) -> None:
    """The image is built over ssh, machines are tested over it; nothing else goes anywhere by ssh."""
    clone.program("apt-get", RECORD)
    clone.program("sudo", '#!/bin/sh\nexec "$@"\n')
    clone.set_up(goal)
    uses = goal in ("ami", "ami-follow", "test", "test-machine", "test-image")
    assert any("openssh-client" in call for call in clone.events("apt-get install")) == uses
