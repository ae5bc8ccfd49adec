"""What is published with a release: its notes, what is installed, bills of materials, checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from launcher.catalog import Arch
from packer.release.bom import bill_of_materials
from packer.release.packages import Change, Package, changes, parse
from packer.release.pins import Pins
from packer.release.record import Record

NOTES: Final = "NOTES.md"
SUMS: Final = "SHA256SUMS"
IMAGES: Final = "images.json"
LAST: Final = "release.json"
"""In the folder of the last release: its name."""
_AMAZONS_NOTES: Final = "https://docs.aws.amazon.com/linux/al2023/release-notes/relnotes-{}.html"


def packages_file(arch: Arch) -> str:
    """The name of the package list that the build writes."""
    return f"packages-{arch}.txt"


def bom_file(arch: Arch) -> str:
    """The name of the bill of materials."""
    return f"bom-{arch}.cdx.json"


def sha256(path: Path) -> str:
    """The checksum of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class LastRelease:
    """What the release before had on it; empty before the first."""

    release: str = ""
    packages: Mapping[Arch, tuple[Package, ...]] = field(default_factory=dict)


def read_last(folder: Path) -> LastRelease:
    """Read the folder of the last release, as `keep_as_last` wrote it."""
    if not (folder / LAST).exists():
        return LastRelease()
    lists = {arch: folder / packages_file(arch) for arch in Arch}
    return LastRelease(
        json.loads((folder / LAST).read_text())["release"],
        {arch: parse(path.read_text()) for arch, path in lists.items() if path.exists()},
    )


def keep_as_last(release: str, output: Path, folder: Path) -> None:
    """Put the package lists of a finished release where the next one compares with them."""
    folder.mkdir(parents=True, exist_ok=True)
    for arch in Arch:
        (folder / packages_file(arch)).write_bytes((output / packages_file(arch)).read_bytes())
    (folder / LAST).write_text(json.dumps({"release": release}) + "\n")


def changes_by_arch(last: LastRelease, output: Path) -> dict[Arch, tuple[Change, ...]]:
    """What changed against the last release, for each processor."""
    return {
        arch: changes(last.packages.get(arch, ()), parse((output / packages_file(arch)).read_text()))
        for arch in Arch
    }


def write(record: Record, pins: Pins, last: LastRelease, output: Path) -> None:
    """Write notes, bills of materials, image ids and checksums beside the package lists in `output`.

    The same record gives the same files.
    """
    for arch, built in record.built.items():
        packages = parse((output / packages_file(arch)).read_text())
        document = bill_of_materials(pins.image_name(arch), record.release, packages, built.made_at)
        (output / bom_file(arch)).write_text(document)
    images = {region: dict(sorted(ids.items())) for region, ids in sorted(record.copied.items())}
    (output / IMAGES).write_text(json.dumps(images, indent=2) + "\n")
    (output / NOTES).write_text(text(record, pins, last, changes_by_arch(last, output)))
    files = [NOTES, IMAGES, *(make(arch) for arch in Arch for make in (packages_file, bom_file))]
    sums = [f"{sha256(output / name)}  {name}\n" for name in sorted(files)]
    (output / SUMS).write_text("".join(sums))


def text(record: Record, pins: Pins, last: LastRelease, changed: Mapping[Arch, Sequence[Change]]) -> str:
    """The notes, in Markdown."""
    lines = [
        f"# solorun machine image {record.release}",
        "",
        f"- Amazon Linux 2023 release: {pins.releasever} ([Amazon's notes]({_AMAZONS_NOTES.format(pins.releasever)}))",
        f"- Kernel line: {pins.kernel}",
        f"- Roles from commit: {record.git_commit}",
        f"- Built with: {record.builder}",
        *(
            f"- Source image, {arch}: {built.source_ami_name} ({built.source_ami})"
            for arch, built in sorted(record.built.items())
        ),
        "",
        *_changes(last, changed),
        "## Images",
        "",
        "| region | " + " | ".join(Arch) + " |",
        "|---|" + "---|" * len(Arch),
        *(
            f"| {region} | " + " | ".join(ids.get(arch, "") for arch in Arch) + " |"
            for region, ids in sorted(record.copied.items())
        ),
        "",
        f"What is installed: `packages-*.txt`; as CycloneDX: `bom-*.cdx.json`. Checksums: `{SUMS}`.",
    ]
    return "\n".join(lines) + "\n"


def _changes(last: LastRelease, changed: Mapping[Arch, Sequence[Change]]) -> list[str]:
    if not last.release:
        return ["## Packages", "", "The first release: there is none to compare with.", ""]
    lines = [f"## Packages, against {last.release}", ""]
    if len(set(map(tuple, changed.values()))) == 1:
        return [*lines, *_block(next(iter(changed.values())))]
    for arch, found in sorted(changed.items()):
        lines += [f"### {arch}", "", *_block(found)]
    return lines


def _block(found: Sequence[Change]) -> list[str]:
    return ["```", *map(str, found), "```", ""] if found else ["No package changed.", ""]
