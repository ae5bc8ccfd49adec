"""Which commit the roles come from."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from launcher.errors import UserError

_WRITTEN_BY_US: Final = (":!packer/pins.auto.pkrvars.json", ":!packer/released")


def git(root: Path, *arguments: str) -> str:
    """What git says.

    Raises:
        UserError: it failed; with its words.
    """
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"`git {arguments[0]}` failed: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()


def commit_of(root: Path) -> str:
    """The commit that is checked out; `-dirty` where files differ from it, the pins aside."""
    changed = git(root, "status", "--porcelain", "--", ".", *_WRITTEN_BY_US)
    return git(root, "rev-parse", "HEAD") + ("-dirty" if changed else "")
