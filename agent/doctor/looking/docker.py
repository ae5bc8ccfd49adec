"""Docker: what its daemon says, and what it was told to be."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from agent.doctor.facts import Docker, DockerSettings
from agent.errors import DockerError

DATA_ROOT: Final = "/var/lib/docker"
UNLIMITED: Final = -1
"""As Docker writes it."""
_REQUEST_S: Final = 4
"""A daemon that works answers within milliseconds."""
_PID_FILE: Final = "run/docker.pid"
_FILE: Final = "/etc/docker/daemon.json"


def look_at_docker(docker_host: str | None) -> Docker:
    """What the daemon says of itself.

    Raises:
        DockerError: it does not answer.
        PermissionError: this user may not ask it.
    """
    import requests
    from docker import APIClient
    from docker.errors import DockerException

    try:
        with closing(APIClient(docker_host, version="auto", timeout=_REQUEST_S)) as api:
            info: dict[str, Any] = api.info()
            images: list[dict[str, Any]] = api.images()
    except (DockerException, requests.RequestException) as error:
        if _is_forbidden(error):
            raise PermissionError("this user may not talk to Docker") from error
        raise DockerError(f"Docker does not answer: {_reason(error)}") from error
    return Docker(
        version=str(info.get("ServerVersion", "")),
        storage_driver=str(info.get("Driver", "")),
        logging_driver=str(info.get("LoggingDriver", "")),
        live_restore=bool(info.get("LiveRestoreEnabled")),
        images=tuple(sorted(tag for image in images for tag in image.get("RepoTags") or ())),
    )


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    walked: list[BaseException | None] = [error]
    while walked:
        cause = walked.pop()
        if cause is None or cause in found:
            continue
        found.append(cause)
        walked += [cause.__cause__, cause.__context__]
        walked += [arg for arg in cause.args if isinstance(arg, BaseException)]
    return found


def _is_forbidden(error: BaseException) -> bool:
    return any(isinstance(cause, PermissionError) for cause in _causes(error))


def _reason(error: BaseException) -> str:
    """The innermost words, which are the system's own."""
    for cause in _causes(error):
        if isinstance(cause, TimeoutError):
            return f"silent for {_REQUEST_S} s"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return str(error).splitlines()[0][:200]


def look_at_docker_settings(root: Path = Path("/")) -> DockerSettings:
    """What dockerd was told; a daemon that does not run counts as one without options.

    Raises:
        PermissionError: this user may not read its file.
        ValueError: the file is no JSON object.
    """
    words: Sequence[str] = ()
    most_files: int | None = None
    try:
        process = root / "proc" / (root / _PID_FILE).read_text().strip()
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        most_files = _open_files((process / "limits").read_text())
    except OSError:
        pass
    options = parse_options(words)
    file = root / options.get("config-file", [_FILE])[-1].lstrip("/")
    return settle(file.read_text() if file.exists() else "{}", options, most_files)


def parse_options(words: Sequence[str]) -> dict[str, list[str]]:
    """The long options of dockerd's command line, `--name=value` or `--name value`; each may come again."""
    found: dict[str, list[str]] = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            name, sign, value = word[2:].partition("=")
            found.setdefault(name, []).append(value if sign else following)
    return found


def settle(file: str, options: dict[str, list[str]], most_files: int | None) -> DockerSettings:
    """The settings from dockerd's file, its command line, and the limit of open files that it has itself.

    Raises:
        ValueError: the file is no JSON object.
    """
    said = json.loads(file)
    if not isinstance(said, dict):
        raise ValueError(f"{_FILE} is not a JSON object")  # noqa: TRY004  # a bad file is a bad value
    log_options = dict(said.get("log-opts") or {})
    log_options.update(_pairs(options.get("log-opt", [])))
    nofile = (said.get("default-ulimits") or {}).get("nofile") or {}
    soft = nofile.get("Soft", nofile.get("Hard"))
    for limit in options.get("default-ulimit", []):
        name, _, value = limit.partition("=")
        if name == "nofile":
            soft = int(value.partition(":")[0])
    data_root = options.get("data-root", [said.get("data-root") or DATA_ROOT])[-1]
    return DockerSettings(
        data_root=data_root,
        log_max_size=log_options.get("max-size"),
        nofile=most_files if soft is None else int(soft),
    )


def _pairs(words: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _open_files(limits: str) -> int | None:
    for line in limits.splitlines():
        if line.startswith("Max open files"):
            word = shlex.split(line)[3]
            return int(word) if word.isdigit() else UNLIMITED
    return None
