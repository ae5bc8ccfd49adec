"""A release, from end to end: build -> prove -> copy -> notes -> publish -> retire. Each part can be taken up again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from launcher.catalog import Arch, image_parameter
from launcher.errors import LauncherError
from packer.release import notes
from packer.release.copying import Copying
from packer.release.home import Places, Tools, build
from packer.release.looking import look
from packer.release.model import Image, RegionOutcome
from packer.release.parameters import versioned
from packer.release.plan import Request
from packer.release.publishing import Publishing
from packer.release.record import Book, Record
from packer.release.retiring import GRACE, retirement
from packer.release.trouble import problem_of

DEPRECATE_AFTER: Final = timedelta(days=365)
"""An image that nobody replaces warns its users after a year."""


def release(
    request: Request,
    tools: Tools,
    places: Places,
    book: Book,
    wheel: Callable[[], Path],
    variables: Mapping[str, str],
) -> Record:
    """Make the release, or go on with it. Regions that failed are in the record, the others are done.

    Args:
        request: what is asked for.
        tools: what it is made with.
        places: where files are.
        book: what was done so far.
        wheel: makes our own package, where it is needed.
        variables: more variables of the template.

    Raises:
        UserError: what is asked for cannot work.
        CloudError: an image could not be built; nothing is published then.
    """
    for region, problem in look(request, tools).unseen.items():
        tools.say(f"The release will lack {region}, as things are: {problem}")
    book.change(lambda record: _asked_for(record, request))
    home = build(request, tools, places, book, wheel, variables)
    outcomes = _copy(request, tools, book, home)
    last = notes.read_last(places.last)
    if last.release != request.pins.release:
        notes.write(book.record, request.pins, last, places.output)
        tools.say(f"Notes: {places.output / notes.NOTES}")
    _publish(request, tools, book, outcomes)
    for region in sorted({*book.record.published} & {*request.regions}):
        _retire(tools, book, region)
    if not book.record.failed:
        book.change(lambda record: record.model_copy(update={"finished_at": tools.clock.now()}))
        if last.release != request.pins.release:
            notes.keep_as_last(request.pins.release, places.output, places.last)
    return book.record


def _asked_for(record: Record, request: Request) -> Record:
    """A region that failed and is left out now keeps no release from being finished."""
    failed = {region: problem for region, problem in record.failed.items() if region in request.regions}
    return record.model_copy(update={"failed": failed})


def _copy(request: Request, tools: Tools, book: Book, home: Mapping[Arch, Image]) -> list[RegionOutcome]:
    """The images in every region; those that failed are noted."""
    others = [region for region in request.regions if region != request.build_region]
    tools.say(f"Copying to {len(others)} regions")

    def note(outcome: RegionOutcome) -> None:
        _note_region(tools, book, outcome, "copied")

    first = RegionOutcome(request.build_region, home)
    note(first)
    copying = Copying(tools.images, tools.clock, request.encryption)
    return [first, *copying.everywhere(home, others, note)]


def _publish(request: Request, tools: Tools, book: Book, outcomes: list[RegionOutcome]) -> None:
    ready = [outcome for outcome in outcomes if not outcome.problem]
    tools.say(f"Publishing in {len(ready)} regions, {request.sharing}")
    publishing = Publishing(
        tools.images,
        tools.parameters,
        request.pins.release,
        request.sharing,
        tools.clock.now() + DEPRECATE_AFTER,
    )
    publishing.everywhere(ready, lambda outcome: _note_region(tools, book, outcome, "published"))


def _note_region(tools: Tools, book: Book, outcome: RegionOutcome, step: str) -> None:
    region = outcome.region
    tools.say(f"  {region}: {outcome.problem or step}")

    def change(record: Record) -> Record:
        failed = {name: problem for name, problem in record.failed.items() if name != region}
        if outcome.problem:
            return record.model_copy(update={"failed": failed | {region: outcome.problem}})
        if step == "published":
            return record.model_copy(
                update={"failed": failed, "published": tuple(sorted({*record.published, region}))}
            )
        ids = {arch: image.id for arch, image in outcome.images.items()}
        return record.model_copy(update={"failed": failed, "copied": {**record.copied, region: ids}})

    book.change(change)


def _retire(tools: Tools, book: Book, region: str) -> None:
    """Deprecate what this release replaces, remove what was deprecated long ago."""
    try:
        latest = {tools.parameters.get(region, image_parameter(arch)) for arch in Arch} - {None}
        now = tools.clock.now()
        due = retirement(tools.images.ours(region), {name for name in latest if name}, now)
        for image in due.deprecate:
            tools.images.deprecate(image, now + GRACE)
            tools.say(f"  {region}: {image.name} is deprecated from {now + GRACE:%Y-%m-%d} on")
        for image in due.remove:
            tools.parameters.delete(region, versioned(image.release, image.arch))
            tools.images.remove(image)
            tools.say(f"  {region}: {image.name} is removed")
    except LauncherError as error:
        _note_region(tools, book, RegionOutcome(region, problem=problem_of(error)), "retired")
