"""The agent bundle's parts: what the roles say is what it carries, and the same content is the same bytes."""

from __future__ import annotations

import gzip
import os
import platform
import sys
import tarfile
from pathlib import Path

import pytest

from bundle.archive import describe, described, write_archive
from bundle.elf import check, programs, read_program
from bundle.model import BundleError
from bundle.packages import own_arch
from bundle.roles import ROLES, files_of, units_of
from launcher.catalog import Arch


def test_every_unit_and_program_of_the_role_is_carried() -> None:
    """All that is in the role's folders of files and templates gets to the machine; no variable is left open."""
    carried = {Path(file.path).name: file for file in files_of("run_agent")}
    role = ROLES / "run_agent"
    units = {path.name.removesuffix(".j2") for path in role.glob("templates/*.j2")} - {"poweroff.target.conf"}
    assert units | {"claimed", "dead-man", "50-solorun.conf"} <= set(carried)
    assert carried["dead-man"].content == (role / "files/dead-man").read_bytes()
    assert carried["dead-man"].mode == 0o755
    assert carried["run-agent.service"].path == "/etc/systemd/system/run-agent.service"
    assert b"ExecStart=/opt/solorun/venv/bin/run-agent\n" in carried["run-agent.service"].content
    assert b"OnBootSec=900s\n" in carried["machine-cap.timer"].content
    for file in carried.values():
        assert b"{{" not in file.content
        assert b"{%" not in file.content


def test_the_same_units_are_enabled_as_on_the_image() -> None:
    """The agent and both caps start at every boot."""
    assert list(units_of("run_agent")) == [
        "run-agent.service",
        "machine-cap.timer",
        "machine-cap-force.timer",
    ]


@pytest.mark.parametrize(
    "task",
    [
        "{name: odd, ansible.builtin.command: {argv: [true]}}",
        "{name: odd, ansible.builtin.file: {path: /x, state: absent}}",
        "{name: odd, when: false, ansible.builtin.copy: {src: a, dest: /a, mode: '0644'}}",
    ],
)
def test_a_task_that_cannot_be_carried_is_an_error(tmp_path: Path, task: str) -> None:
    """A role that begins to do something else is not carried in part."""
    for folder in ("defaults", "tasks", "files"):
        (tmp_path / "role" / folder).mkdir(parents=True)
    (tmp_path / "role/defaults/main.yml").write_text("{}\n")
    (tmp_path / "role/files/a").write_text("a")
    (tmp_path / "role/tasks/configure.yml").write_text(f"- {task}\n")
    with pytest.raises(BundleError, match="odd"):
        list(files_of("role", tmp_path))


def fill(folder: Path, when: float) -> None:
    (folder / "b").mkdir(parents=True)
    (folder / "b/program").write_text("#!/bin/sh\n")
    (folder / "b/program").chmod(0o700)
    (folder / "a").write_text("text")
    (folder / "link").symlink_to("b/program")
    for path in (folder / "a", folder / "b/program", folder / "b"):
        os.utime(path, (when, when))


def test_the_same_content_is_the_same_archive(tmp_path: Path) -> None:
    """Neither times nor the folder's name nor the owner are in it, so the checksum names the content."""
    for name, when in (("one", 1e9), ("two", 1.5e9)):
        fill(tmp_path / name, when)
        write_archive(tmp_path / name, tmp_path / f"{name}.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    with gzip.open(tmp_path / "one.tar.gz") as unzipped, tarfile.open(fileobj=unzipped) as tar:
        found = {info.name: (info.mode, info.uid, info.linkname) for info in tar}
    assert found == {
        "a": (0o644, 0, ""),
        "b": (0o755, 0, ""),
        "b/program": (0o755, 0, ""),
        "link": (0o755, 0, "b/program"),
    }


def test_an_archive_without_its_note_is_none(tmp_path: Path) -> None:
    """What was interrupted before it was whole is not taken for an archive."""
    path = tmp_path / "agent-x86_64.tar.gz"
    assert described(path) is None
    path.write_bytes(b"content")
    assert described(path) is None
    made = describe(path, image="a:1", image_id="sha256:1")
    assert described(path) == made
    assert made.bytes == 7


def test_a_program_tells_what_it_needs() -> None:
    """This Python is for this computer's processor, and calls the C library."""
    found = read_program(Path(sys.executable).resolve())
    assert found.arch is own_arch()
    assert found.glibc > (2, 0)
    assert "libc.so.6" in found.needs


def test_a_program_for_another_processor_is_no_part_of_a_bundle(tmp_path: Path) -> None:
    """One wrong file is named, and ends the build."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/python").write_bytes(Path(sys.executable).resolve().read_bytes())
    (tmp_path / "text").write_text("no program")
    assert [path.name for path in programs(tmp_path)] == ["python"]
    other = Arch.ARM64 if platform.machine() == "x86_64" else Arch.X86_64
    with pytest.raises(BundleError, match="sub/python: for"):
        check(tmp_path, other)
