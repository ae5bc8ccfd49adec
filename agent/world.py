"""Everything outside of the agent, handed in by __main__: so that the story can be told with other parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.clock import Clock
from agent.containers import Containers
from agent.contract import RunPointer, RunSpec
from agent.logs.agentlog import AgentLog
from agent.logs.sink import LogSink
from agent.machine import Machine
from agent.metadata import MetadataService
from agent.pulse import Pulse
from agent.secret_values import SecretReader
from agent.store import Store


@dataclass(frozen=True)
class World:
    """The machine and the cloud as the agent meets them."""

    metadata: MetadataService
    open_store: Callable[[str], Store]
    """An S3 URI becomes the object store rooted at it."""
    open_containers: Callable[[], Containers]
    open_sink: Callable[[RunPointer], LogSink]
    """The log stream that takes the workload's output."""
    open_secret_reader: Callable[[str], SecretReader]
    """A region becomes what reads secrets there."""
    agent_log: AgentLog
    ship_agent_log: Callable[[RunPointer], None]
    """Begins to send the agent's log to its stream too; returns at once."""
    machine: Machine
    scratch: Path
    """The folder that holds the run's folder."""
    clock: Clock
    pulse: Pulse
    """The sign of life, and who it is promised to."""
    tell_machine: Callable[[RunSpec, float], bool]
    """Tells the machine which run it has and how many seconds are left of its time limit; whether that worked."""
    power_off: Callable[[], None]
    """Ends the machine. Called exactly once, at the very end."""
