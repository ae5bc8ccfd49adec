"""The machine's own switch takes the run's limit in place of the cap from boot: told until it has heard."""

from __future__ import annotations

import logging
from typing import Final

from agent.claiming import Claimed
from agent.contract import RunSpec
from agent.world import World

log = logging.getLogger(__name__)

TELL_S: Final = 5.0
"""Between two attempts. The cap from boot is minutes away; one attempt may itself take some seconds."""
WARNING: Final = (
    "The machine could not be told of this run yet, so it may be turned off soon after its boot, as one without a run. "
    "It is told again every few seconds; `launcher runs logs --agent` has the cause."
)


class Telling:
    """Tells the machine which run it has, and how long that may take from now."""

    def __init__(self, claimed: Claimed, spec: RunSpec, world: World) -> None:
        self._claimed = claimed
        self._spec = spec
        self._world = world
        self.heard = False
        """The machine knows of the run."""

    def tell(self) -> None:
        """One attempt, where none has succeeded yet; while none has, the status warns of it."""
        if self.heard:
            return
        past_s = (self._world.clock.now() - self._claimed.claimed_at).total_seconds()
        self.heard = self._world.tell_machine(self._spec, self._spec.time_limit_s - past_s)
        if self.heard:
            self._claimed.reporter.withdraw(WARNING)
        else:
            self._claimed.reporter.warn(WARNING)
