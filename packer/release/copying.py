"""Brings images to all regions. What is there is kept, what failed is made again, one region's trouble is its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from launcher.catalog import Arch
from launcher.clock import Clock
from launcher.errors import CloudError, Interrupted, LauncherError
from packer.release.images import Images
from packer.release.model import Encryption, Image, RegionOutcome
from packer.release.plan import Step, step_for
from packer.release.trouble import in_region, problem_of

PATIENCE_S: Final = 3 * 3600.0
"""How long a copy may take; a slow one takes an hour."""
LOOK_S: Final = 15


class _Stopped(Exception):
    """Nobody waits for this region any more."""


@dataclass(frozen=True)
class Copying:
    """What all regions share."""

    images: Images
    clock: Clock
    encryption: Encryption
    patience_s: float = PATIENCE_S

    def everywhere(
        self,
        sources: Mapping[Arch, Image],
        regions: Iterable[str],
        done: Callable[[RegionOutcome], None],
    ) -> tuple[RegionOutcome, ...]:
        """Have every source image in every region; `done` is told of each region as it ends, from its thread.

        No image of a name that is there is made a second time, and one that failed is removed: nothing is left over.

        Raises:
            Interrupted: Ctrl-C; AWS goes on with what it was asked for.
        """
        names = tuple(regions)
        stop = threading.Event()
        with ThreadPoolExecutor(max_workers=max(1, len(names)), thread_name_prefix="region") as pool:

            def bring(region: str) -> RegionOutcome:
                outcome = self._bring(sources, region, stop)
                done(outcome)
                return outcome

            try:
                return tuple(pool.map(bring, names))
            except KeyboardInterrupt as error:
                raise Interrupted(
                    "Broken off. AWS goes on with the copies that it was asked for",
                    hint="Run this again: it waits for them, and copies nothing twice",
                ) from error
            finally:
                # Leaving the pool waits for its threads, and they for AWS.
                stop.set()

    def _bring(self, sources: Mapping[Arch, Image], region: str, stop: threading.Event) -> RegionOutcome:
        try:
            # All copies of a region are asked for before the first is waited for.
            for source in sources.values():
                _unless(stop)
                self._start(source, region)
            ready = {arch: self._finish(source, region, stop) for arch, source in sources.items()}
        except LauncherError as error:
            return RegionOutcome(region, problem=problem_of(in_region(error, region)))
        return RegionOutcome(region, ready)

    def _start(self, source: Image, region: str) -> None:
        there = self.images.named(region, source.name)
        step = step_for(there, build=False)
        if step is Step.REPLACE and there is not None:
            self.images.remove(there)
        if step in (Step.REPLACE, Step.COPY):
            self.images.copy(source, region, source.tags, self.encryption)

    def _finish(self, source: Image, region: str, stop: threading.Event) -> Image:
        image = self._wait(source, region, stop)
        missing = {key: value for key, value in source.tags.items() if image.tags.get(key) != value}
        if missing:
            self.images.tag(image, missing)
        if not image.imdsv2:
            self.images.require_imdsv2(image)
        return image

    def _wait(self, source: Image, region: str, stop: threading.Event) -> Image:
        deadline = self.clock.monotonic() + self.patience_s
        while True:
            image = self.images.named(region, source.name)
            step = step_for(image, build=False)
            if image is not None and step is Step.KEEP:
                return image
            if image is not None and step is Step.REPLACE:
                self.images.remove(image)
                raise CloudError(
                    f"the copy of {source.name} to {region} failed: {image.problem or image.state}",
                    hint="Run this again: it is copied anew",
                )
            if self.clock.monotonic() >= deadline:
                raise CloudError(
                    f"the copy of {source.name} to {region} is not ready after {self.patience_s / 3600:.0f} h",
                    hint="Run this again: it is waited for again, not copied anew",
                )
            for _ in range(LOOK_S):
                _unless(stop)
                self.clock.sleep(1)


def _unless(stop: threading.Event) -> None:
    if stop.is_set():
        raise _Stopped
