"""What the machine's own set-up tells the agent, parsed once from the environment by __main__."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.metadata import ENDPOINT

LOG_FILE: Final = "/var/log/run-agent.log"
SCRATCH: Final = "/scratch/solorun"


class SettingsError(ValueError):
    """The environment of the agent's unit is wrong; `problems` lists every variable."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Settings:
    """The agent's settings. On the machine they come from run-agent.service."""

    scratch: Path
    """Holds the run's folder: the fastest large disk of the machine."""
    shutdown_command: tuple[str, ...] | None
    """Ends the machine. There is no default on purpose: only a machine image may turn its machine off."""
    log_file: Path
    """The agent's own log, whole."""
    docker_host: str | None
    """Docker's address, where it is not the default socket."""
    metadata_endpoint: str
    """The instance metadata service."""
    endpoint_url: str | None
    """All of AWS, where it is not AWS."""
    cpus: int | None
    """Fewer cores than the machine has, for workloads."""
    memory_bytes: int | None
    """Less memory than the machine has, for workloads."""
    claimed_command: tuple[str, ...] | None = None
    """Told of the claimed run: its words are followed by the seconds that are left of its time limit, its id
    and its log group."""
    notify_socket: str | None = None
    """Where systemd listens."""
    watchdog_s: float | None = None
    """How long systemd waits for a sign of life; None where it does not watch."""


def parse_settings(environment: Mapping[str, str]) -> Settings:
    """Read the agent's settings from environment variables.

    Raises:
        SettingsError: any of them cannot be understood.
    """
    problems: list[str] = []

    def number(name: str) -> int | None:
        text = environment.get(name)
        if text is None:
            return None
        if text.isascii() and text.isdigit() and int(text) > 0:
            return int(text)
        problems.append(f"{name}: a whole number above 0 is expected, not {text!r}")
        return None

    def command(name: str, example: str) -> tuple[str, ...] | None:
        text = environment.get(name)
        if text is None:
            return None
        try:
            words = json.loads(text)
        except ValueError:
            words = None
        if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
            return tuple(words)
        problems.append(f"{name}: a JSON list of words is expected, as {example}")
        return None

    watchdog_us = number("WATCHDOG_USEC")
    settings = Settings(
        scratch=Path(environment.get("RUN_AGENT_SCRATCH", SCRATCH)),
        shutdown_command=command("RUN_AGENT_SHUTDOWN_COMMAND", '["systemctl", "poweroff"]'),
        log_file=Path(environment.get("RUN_AGENT_LOG_FILE", LOG_FILE)),
        docker_host=environment.get("DOCKER_HOST") or None,
        metadata_endpoint=environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", ENDPOINT).rstrip("/"),
        endpoint_url=environment.get("AWS_ENDPOINT_URL") or None,
        cpus=number("RUN_AGENT_CPUS"),
        memory_bytes=number("RUN_AGENT_MEMORY_BYTES"),
        claimed_command=command("RUN_AGENT_CLAIMED_COMMAND", '["/usr/libexec/solorun/claimed"]'),
        notify_socket=environment.get("NOTIFY_SOCKET") or None,
        watchdog_s=watchdog_us / 1e6 if watchdog_us else None,
    )
    if problems:
        raise SettingsError(tuple(problems))
    return settings
