"""What the operator's machine says about how the launcher is to work; read once, at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from launcher.clock import Clock, SystemClock

CONFIG_DIR_VARIABLE: Final = "SOLORUN_CONFIG_DIR"
BUNDLE_DIR_VARIABLE: Final = "SOLORUN_BUNDLE_DIR"
_BUNDLE_DIR: Final = Path(__file__).parents[1] / "build/bundle"


@dataclass(frozen=True)
class Settings:
    """Where things are, who asks, and what time it is."""

    config_dir: Path
    """Compute environments live here."""
    user: str
    """`user@host`: who owns a run when AWS does not say."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """For those parts that have variables of their own; nobody reads os.environ again."""
    clock: Clock = field(default_factory=SystemClock)
    bundle_dir: Path = _BUNDLE_DIR
    """Where `make bundle` has put the agent for machine images that are without it."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read the environment: SOLORUN_CONFIG_DIR, else the platform's folder for configuration; SOLORUN_BUNDLE_DIR,
        else build/bundle of solorun's own folder."""
        folder = environ.get(CONFIG_DIR_VARIABLE)
        if folder:
            path = Path(folder).expanduser()
        else:
            # imported here: `launcher --help` does without
            import platformdirs

            path = Path(platformdirs.user_config_dir("solorun"))
        bundles = environ.get(BUNDLE_DIR_VARIABLE)
        return cls(
            config_dir=path,
            user=_user(environ),
            environ=dict(environ),
            bundle_dir=Path(bundles).expanduser() if bundles else _BUNDLE_DIR,
        )


def _user(environ: Mapping[str, str]) -> str:
    import platform

    name = environ.get("USER") or environ.get("LOGNAME") or environ.get("USERNAME") or _account()
    return f"{name}@{platform.node() or 'localhost'}"


def _account() -> str:
    """The account's name where no variable tells it, as in containers."""
    import os
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"
