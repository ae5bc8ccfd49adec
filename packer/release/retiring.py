"""Old releases: deprecated when a newer one is out, removed a time after that."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from launcher.errors import UserError
from packer.release.model import Image
from packer.release.pins import release_order

GRACE: Final = timedelta(days=30)
"""From the release that replaces an image until its deprecation."""
REMOVE_AFTER: Final = timedelta(days=180)
"""From its deprecation until it is removed."""
KEEP: Final = 2
"""So many of the newest releases are never removed: there is one to go back to."""


@dataclass(frozen=True)
class Retirement:
    """What is to be done in one region."""

    deprecate: tuple[Image, ...] = ()
    remove: tuple[Image, ...] = ()


def retirement(images: Iterable[Image], promoted: Collection[str], now: datetime) -> Retirement:
    """Decide over all images of a region.

    Args:
        images: ours, of all releases; those without a release are left alone.
        promoted: the ids that `latest` leads to; these are never touched.
        now: the time, in UTC.
    """
    known = [image for image in images if _order(image) is not None]
    releases = sorted({image.release for image in known}, key=release_order, reverse=True)
    deprecate, remove = [], []
    for image in known:
        if image.id in promoted or image.release == releases[0]:
            continue
        if image.deprecated_at is None or image.deprecated_at > now + GRACE:
            deprecate.append(image)
        elif image.release not in releases[:KEEP] and image.deprecated_at + REMOVE_AFTER <= now:
            remove.append(image)
    return Retirement(tuple(deprecate), tuple(remove))


def _order(image: Image) -> tuple[int, int, int] | None:
    try:
        return release_order(image.release)
    except UserError:
        return None
