"""Brings images to all regions. What is there is kept, what failed is made again, one region's trouble is its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from launcher.catalog import Arch
from launcher.clock import Clock
from launcher.errors import CloudError, LauncherError
from packer.release.images import Images
from packer.release.model import Encryption, Image, RegionOutcome
from packer.release.plan import Step, step_for
from packer.release.trouble import in_region, problem_of

PATIENCE_S: Final = 3 * 3600.0
"""How long a copy may take; a slow one takes an hour."""
LOOK_S: Final = 15.0


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
        """
        names = tuple(regions)
        with ThreadPoolExecutor(max_workers=max(1, len(names)), thread_name_prefix="region") as pool:

            def bring(region: str) -> RegionOutcome:
                outcome = self._bring(sources, region)
                done(outcome)
                return outcome

            return tuple(pool.map(bring, names))

    def _bring(self, sources: Mapping[Arch, Image], region: str) -> RegionOutcome:
        try:
            # All copies of a region are asked for before the first is waited for.
            for source in sources.values():
                self._start(source, region)
            ready = {arch: self._finish(source, region) for arch, source in sources.items()}
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

    def _finish(self, source: Image, region: str) -> Image:
        image = self._wait(source, region)
        missing = {key: value for key, value in source.tags.items() if image.tags.get(key) != value}
        if missing:
            self.images.tag(image, missing)
        if not image.imdsv2:
            self.images.require_imdsv2(image)
        return image

    def _wait(self, source: Image, region: str) -> Image:
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
            self.clock.sleep(LOOK_S)
