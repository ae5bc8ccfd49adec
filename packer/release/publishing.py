"""Opens the images to those who may use them, and lets the SSM parameters lead to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from launcher.catalog import image_parameter
from launcher.errors import LauncherError, UserError
from packer.release.images import Images
from packer.release.model import Image, RegionOutcome, Sharing
from packer.release.parameters import Parameters, versioned
from packer.release.pins import release_order
from packer.release.trouble import problem_of


@dataclass(frozen=True)
class Publishing:
    """What all regions share."""

    images: Images
    parameters: Parameters
    release: str
    sharing: Sharing
    deprecate_at: datetime
    """When an image that nobody replaces is deprecated."""

    def everywhere(
        self, regions: Iterable[RegionOutcome], done: Callable[[RegionOutcome], None]
    ) -> tuple[RegionOutcome, ...]:
        """Publish the images of every region; `done` is told of each region as it ends, from its thread."""
        outcomes = tuple(regions)
        with ThreadPoolExecutor(max_workers=max(1, len(outcomes)), thread_name_prefix="region") as pool:

            def publish(outcome: RegionOutcome) -> RegionOutcome:
                try:
                    self._publish(outcome)
                except LauncherError as error:
                    outcome = RegionOutcome(outcome.region, outcome.images, problem_of(error))
                done(outcome)
                return outcome

            return tuple(pool.map(publish, outcomes))

    def _publish(self, outcome: RegionOutcome) -> None:
        for arch, image in outcome.images.items():
            self.images.share(image, self.sharing)
            self.images.deprecate(image, self.deprecate_at)
            self.parameters.put_image(outcome.region, versioned(self.release, arch), image.id)
        # Both processors are ready before the first is promoted.
        for image in outcome.images.values():
            self._promote(image)

    def _promote(self, image: Image) -> None:
        """Let `latest` lead to it, unless it leads to a newer release already."""
        name = image_parameter(image.arch)
        current = self.parameters.get(image.region, name)
        if current == image.id:
            return
        leads_to = self.images.by_id(image.region, current) if current else None
        if leads_to is None or not _is_newer(leads_to.release, self.release):
            self.parameters.put_image(image.region, name, image.id)


def _is_newer(there: str, ours: str) -> bool:
    try:
        return release_order(there) > release_order(ours)
    except UserError:
        # An image that somebody tagged by hand, or not at all.
        return False
