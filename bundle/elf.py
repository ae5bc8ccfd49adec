"""Programs and shared libraries: for which processor, and what they need of the system."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

from agent.doctor.judging.host import OLDEST_LIBC
from bundle.model import BundleError
from launcher.catalog import Arch

_MACHINES: Final = {"EM_X86_64": Arch.X86_64, "EM_AARCH64": Arch.ARM64}
_GLIBC: Final = re.compile(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?")
_SYSTEM: Final = re.compile(
    r"(ld-linux-(x86-64|aarch64)|lib(c|m|pthread|dl|rt|util|gcc_s|z))\.so\.\d+|libpython3\.\d+\.so\.1\.0|libffi\.so\.7"
)
"""What is on every system, and what the bundle has itself."""


@dataclass(frozen=True)
class Program:
    """A program or shared library."""

    arch: Arch | None
    """None for a processor that machines do not have."""
    glibc: tuple[int, int]
    """The newest version of the C library whose functions it calls."""
    needs: tuple[str, ...]
    """The shared libraries that it is linked with."""


def programs(folder: Path) -> Iterator[Path]:
    """Every ELF file below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def read_program(path: Path) -> Program:
    """What an ELF file says of itself."""
    glibc, needs = (0, 0), []
    with path.open("rb") as file:
        elf: Any = ELFFile(file)
        for section in elf.iter_sections():
            if isinstance(section, DynamicSection):
                tags: Iterator[Any] = section.iter_tags("DT_NEEDED")
                needs += [str(tag.needed) for tag in tags]
            elif isinstance(section, GNUVerNeedSection):
                for _, versions in section.iter_versions():
                    for version in versions:
                        if found := _GLIBC.fullmatch(version.name):
                            glibc = max(glibc, (int(found[1]), int(found[2])))
        return Program(_MACHINES.get(elf["e_machine"]), glibc, tuple(needs))


def check(folder: Path, arch: Arch) -> int:
    """Hold every program below a folder to the processor, to OLDEST_LIBC, and to libraries that are there; counts them.

    Raises:
        BundleError: any would not run there; all of them are named.
    """
    wrong, count = [], 0
    for path in programs(folder):
        count += 1
        found, name = read_program(path), path.relative_to(folder)
        if found.arch is not arch:
            wrong.append(f"{name}: for {found.arch or 'another processor'}")
        if found.glibc > OLDEST_LIBC:
            wrong.append(f"{name}: needs glibc {found.glibc[0]}.{found.glibc[1]}")
        # wheels bring libraries of their own beside their extensions
        own = {library.name for library in path.parent.parent.rglob("*.so*")}
        strange = [need for need in found.needs if not _SYSTEM.fullmatch(need) and need not in own]
        if strange:
            wrong.append(f"{name}: needs {', '.join(strange)}")
    if wrong:
        raise BundleError(f"The bundle for {arch} would not run on every system:\n  " + "\n  ".join(wrong))
    return count
