"""What the chapters of a run share: the run itself, as this machine has claimed it."""

from __future__ import annotations

from dataclasses import dataclass

from agent.claiming import Claimed
from agent.contract import RunSpec
from agent.folder import RunFolder
from agent.journal import Journal
from agent.progress import Progress
from agent.stopping import StopLatch
from agent.world import World


@dataclass(frozen=True)
class OneRun:
    """A claimed run with its spec understood, and its folder on this machine."""

    world: World
    claimed: Claimed
    spec: RunSpec
    folder: RunFolder
    journal: Journal
    latch: StopLatch
    progress: Progress
