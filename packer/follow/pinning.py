"""Writes the pin file, and commits it with what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.catalog import Arch
from packer.follow.decide import Newest
from packer.release.commit import git
from packer.release.packages import Change
from packer.release.pins import Pins


def following(pins: Pins, newest: Newest) -> Pins:
    """The pins for Amazon's newest release; those of the same release stay as they are."""
    if newest.releasever == pins.releasever:
        return pins
    return Pins(
        releasever=newest.releasever, revision=1, kernel=pins.kernel, source_ami_name=dict(newest.names)
    )


def commit_message(pins: Pins, last: str, changed: Mapping[Arch, Sequence[Change]]) -> str:
    """The commit's message: what was released, and every package that changed against the last release."""
    lines = [f"Machine image {pins.release}: Amazon Linux {pins.releasever}", ""]
    if not last:
        return "\n".join([*lines, "The first release."]) + "\n"
    same = len(set(map(tuple, changed.values()))) == 1
    for arch, found in sorted(changed.items())[: 1 if same else None]:
        where = "" if same else f" on {arch}"
        lines.append(
            f"Packages{where} against {last}: " + (f"{len(found)} changed" if found else "none changed")
        )
        lines += ["", *map(str, found)] if found else []
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def commit(root: Path, paths: Sequence[Path], text: str) -> None:
    """Commit these paths and nothing else; nothing changed is no error."""
    names = [str(path) for path in paths]
    git(root, "add", "--", *names)
    if git(root, "status", "--porcelain", "--", *names):
        git(root, "commit", "--quiet", "--message", text, "--", *names)


def push(root: Path, branch: str) -> None:
    """Push the commit.

    Raises:
        UserError: the branch went on meanwhile, or there is no right to; the next attempt commits anew.
    """
    git(root, "push", "origin", f"HEAD:refs/heads/{branch}")
