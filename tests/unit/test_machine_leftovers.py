"""What the machine tests look for and remove: the machine's own, never anything else of the computer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine import cgroups, leftovers

NAME = "solorun-1-1"
SCOPE = f"system.slice/{NAME}.scope"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A computer without cgroups, as long as no folder is made."""
    monkeypatch.setattr(cgroups, "ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(cgroups, "SYSTEMD", tmp_path / "systemd")
    monkeypatch.setattr(leftovers, "STATE", tmp_path / "notes")
    cgroups.ROOT.mkdir()
    leftovers.STATE.mkdir()
    return cgroups.ROOT


def hold(folder: Path, *pids: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_no_name_is_not_every_process(root: Path, name: str) -> None:
    """What is no machine's name is refused, before anybody kills or removes what it would stand for."""
    hold(root / "memory", 1, 2, 3)
    for look in (cgroups.processes, cgroups.folders, cgroups.thaw, cgroups.remove):
        with pytest.raises(ValueError, match="no machine's name"):
            look(name)


@pytest.mark.parametrize(
    ("files", "home"),
    [
        (("memory/cgroup.procs",), f"memory/{NAME}"),
        (("cgroup.controllers", "cgroup.procs"), NAME),
        (("cgroup.controllers", "../systemd/running"), SCOPE),
    ],
)
def test_a_machines_processes_are_found_in_every_kind_of_hierarchy(
    root: Path, files: tuple[str, ...], home: str
) -> None:
    """Version 1, version 2, and version 2 with systemd: all processes of the machine, and of no other."""
    for file in files:
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).write_text("")
    assert cgroups.folders(NAME) == []
    hold(root / home, 10)
    hold(root / home / "payload", 11, 12)
    hold((root / home).with_name(home.rpartition("/")[2].replace(NAME, f"{NAME}0")), 99)
    assert cgroups.processes(NAME) == {10, 11, 12}


@pytest.mark.usefixtures("root")
def test_a_note_stays_as_long_as_anything_of_its_machine(tmp_path: Path) -> None:
    """What could not be removed is not forgotten: the next test run finds the note."""
    folder = tmp_path / "machine"
    with leftovers.owned(NAME, folder):
        folder.mkdir()
    assert (leftovers.STATE / NAME).exists()
    assert leftovers.clear() == []  # its owner, this process, is alive
    with leftovers.owned(NAME, folder):
        folder.rmdir()
    assert not (leftovers.STATE / NAME).exists()


@pytest.mark.usefixtures("root")
def test_what_a_dead_owner_left_is_removed(tmp_path: Path) -> None:
    """Folder and note go; a note that was never finished goes too, and stops nobody."""
    folder = tmp_path / "machine"
    folder.mkdir()
    (leftovers.STATE / NAME).write_text(f"1 0\n{folder}\n")
    (leftovers.STATE / "solorun-1-2").write_text("")
    assert leftovers.clear() == [NAME]
    assert not folder.exists()
    assert list(leftovers.STATE.iterdir()) == []
