"""Which local cloud is up: a small file, and the proof that its server still lives."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from launcher.localcloud.folders import CloudFolder
from launcher.localcloud.processes import CLOUD_ID, environment_of

STATE_DIR_VARIABLE: Final = "SOLORUN_STATE_DIR"


class LocalCloudState(BaseModel):
    """A local cloud that was started; `state.json`, for its owner's eyes only."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    cloud_id: str
    """Made up at every start; the server carries it in its environment, which is how it is known again."""
    pid: int
    endpoint_url: str
    """Every AWS service answers here."""
    region: str
    started_at: datetime
    folder: Path
    access_key: str
    """The endpoint refuses every key but this one and those it gives to instances."""
    secret_key: str
    control_token: str
    """Opens the supervisor's own requests."""

    @property
    def log(self) -> Path:
        """The server's log file."""
        return CloudFolder(self.folder).log


def default_folder(environ: Mapping[str, str]) -> Path:
    """The local cloud's folder: below SOLORUN_STATE_DIR, else below the platform's folder for state."""
    chosen = environ.get(STATE_DIR_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute() / "localcloud"
    # imported here: `launcher --help` does without
    import platformdirs

    return Path(platformdirs.user_state_dir("solorun")) / "localcloud"


def saved(folder: Path) -> LocalCloudState | None:
    """What the file says; None where there is none, or none that can be understood."""
    try:
        return LocalCloudState.model_validate_json(CloudFolder(folder).state.read_bytes())
    except (OSError, ValidationError):
        return None


def current(folder: Path | None = None) -> LocalCloudState | None:
    """The local cloud that is up now, in `folder` or the platform's own; None where there is none.

    A process id alone proves nothing, for ids are used again: the process must carry the cloud's own id.
    """
    state = saved(folder or default_folder({}))
    if state is None or environment_of(state.pid).get(CLOUD_ID) != state.cloud_id:
        return None
    return state


def save(state: LocalCloudState) -> None:
    """Write the file whole or not at all, readable for its owner only."""
    path = CloudFolder(state.folder).state
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".state-", delete=False) as file:
        # NamedTemporaryFile makes its files with mode 0600.
        file.write(state.model_dump_json(indent=2).encode())
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)
