"""What is installed on a machine: the list that the build writes, and what changed between two of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from launcher.errors import UserError


@dataclass(frozen=True, order=True)
class Package:
    """One installed package."""

    name: str
    version: str
    """With epoch and release where there are any: 1:3.0.8-1.amzn2023.0.2."""
    arch: str
    kind: str = "rpm"
    """`rpm` or `deb`."""
    license: str = ""


@dataclass(frozen=True)
class Change:
    """A package whose versions differ; no versions before: it is new, none after: it is gone."""

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    def __str__(self) -> str:
        if not self.before:
            return f"+ {self.name} {', '.join(self.after)}"
        if not self.after:
            return f"- {self.name} {', '.join(self.before)}"
        return f"  {self.name} {', '.join(self.before)} -> {', '.join(self.after)}"


def parse(text: str) -> tuple[Package, ...]:
    """Read a list of packages: a line each, kind, name, version, architecture, license between tabs.

    Raises:
        UserError: a line is not like that, or there is none.
    """
    packages = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split("\t")
        if len(fields) != 5 or fields[0] not in ("rpm", "deb") or not fields[1] or not fields[2]:
            raise UserError(f"line {number} of the package list is not one of a package: {line!r}")
        kind, name, version, arch, licence = fields
        packages.append(Package(name, version.removeprefix("0:"), arch, kind, licence))
    if not packages:
        raise UserError(
            "the package list is empty", hint="The build ended before it was written: build again"
        )
    return tuple(sorted(packages))


def changes(before: Iterable[Package], after: Iterable[Package]) -> tuple[Change, ...]:
    """What is new, gone or of another version, by name. A package may be there in several versions, like kernels."""
    old, new = _versions(before), _versions(after)
    return tuple(
        Change(name, old.get(name, ()), new.get(name, ()))
        for name in sorted(old.keys() | new.keys())
        if old.get(name, ()) != new.get(name, ())
    )


def _versions(packages: Iterable[Package]) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = defaultdict(list)
    for package in packages:
        found[package.name].append(package.version)
    return {name: tuple(sorted(versions)) for name, versions in found.items()}
