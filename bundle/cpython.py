"""The bundle's Python: taken out of the published archive, without what an agent never needs."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final

from bundle.elf import read_program
from bundle.model import PYTHON, BundleError
from launcher.catalog import Arch

_LEFT_OUT: Final = frozenset(
    {
        *("__phello__", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "sqlite3", "test"),
        *("tkinter", "turtledemo"),
    }
)
"""Of the standard library: tests, programs for people, and what has no library on every system."""
_SURE: Final = re.compile(r"(ld-linux-(x86-64|aarch64)|lib(c|m|pthread|dl|rt|util|z))\.so\.\d+")
"""Shared libraries that every system has. Extensions that want another one are left out: `import bz2` and the like
fail, as they would on a Python that was built without."""
_FFI: Final = "libffi.so.7"


def unpack(jar: Path, arch: Arch, home: Path) -> None:
    """Make `home` the prefix of a Python.

    Raises:
        BundleError: the archive is not as it was when this was written.
    """
    libraries = home / "lib"
    modules = libraries / f"python{PYTHON}"
    top = f"org/bytedeco/cpython/linux-{arch}/"
    with zipfile.ZipFile(jar) as archive:
        names = [name for name in archive.namelist() if name.startswith(top) and not name.endswith("/")]
        for name in names:
            target = _place(PurePosixPath(name.removeprefix(top)), home, libraries, modules)
            if target is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    interpreter = home / f"bin/python{PYTHON}"
    if not interpreter.is_file() or not (libraries / f"libpython{PYTHON}.so.1.0").is_file():
        raise BundleError(f"{jar.name} holds no Python {PYTHON} for {arch}")
    interpreter.chmod(0o755)
    for extension in (modules / "lib-dynload").glob("*.so"):
        if not all(need == _FFI or _SURE.fullmatch(need) for need in read_program(extension).needs):
            extension.unlink()


def extensions(home: Path) -> frozenset[str]:
    """The names of the standard library's extension modules that a Python has."""
    return frozenset(
        path.name.partition(".")[0]
        for path in (home / f"lib/python{PYTHON}/lib-dynload").glob("*.cpython-*.so")
    )


def _place(name: PurePosixPath, home: Path, libraries: Path, modules: Path) -> Path | None:
    """Where a file of the archive goes; None where it is left out."""
    match name.parts:
        case ("bin", program) if program == f"python{PYTHON}":
            return home / "bin" / program
        case (library,) if library.startswith(f"libpython{PYTHON}.so."):
            return libraries / library
        case (library,) if library == _FFI:
            # beside the one extension that wants it, where that looks
            return modules / "lib-dynload" / library
        case ("lib", version, first, *rest) if version == f"python{PYTHON}":
            if first in _LEFT_OUT or first.startswith("config-") or "__pycache__" in rest:
                return None
            if first == "lib-dynload" and rest[0].startswith(("_test", "_xxtest", "xx", "_ctypes_test")):
                return None
            return modules / first / PurePosixPath(*rest)
    return None
