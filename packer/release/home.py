"""The images in the build's region: those that are there are kept, Packer makes the others. Each is tied to the list
of what is installed on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.catalog import NEXTFLOW_IMAGE, Arch
from launcher.clock import Clock
from launcher.errors import CloudError, UserError
from packer.release import notes
from packer.release.building import Builder, BuildRequest
from packer.release.images import Images
from packer.release.model import TAG_PACKAGES, TAG_RELEASE, TAG_SOURCE, TAG_SOURCE_NAME, Image
from packer.release.parameters import Parameters
from packer.release.plan import Request, Step, step_for
from packer.release.record import Book, BuiltImage


@dataclass(frozen=True)
class Tools:
    """What a release is made with."""

    images: Images
    parameters: Parameters
    builder: Builder
    clock: Clock
    say: Callable[[str], None]
    """Talk to the person."""


@dataclass(frozen=True)
class Places:
    """Where things are on this computer."""

    root: Path
    """The repository."""
    output: Path
    """What this release leaves: its record, lists, notes."""
    last: Path
    """What the last release had on it."""


def build(
    request: Request,
    tools: Tools,
    places: Places,
    book: Book,
    wheel: Callable[[], Path],
    variables: Mapping[str, str],
) -> dict[Arch, Image]:
    """Have an image for each processor in the build's region.

    Raises:
        CloudError: one could not be built, or is still being made; the other is kept.
        UserError: an image of that name is there, and was not built by this.
    """
    region = request.build_region
    there = {arch: tools.images.named(region, request.pins.image_name(arch)) for arch in Arch}
    steps = {arch: step_for(image, build=True) for arch, image in there.items()}
    for arch, image in there.items():
        if image is not None and steps[arch] is Step.REPLACE:
            tools.images.remove(image)
        if steps[arch] is Step.WAIT:
            raise CloudError(
                f"{request.pins.image_name(arch)} is being made in {region}",
                hint="Another build runs, or was broken off: run this again when EC2 shows it as available",
            )
    missing = [arch for arch, step in steps.items() if step in (Step.BUILD, Step.REPLACE)]
    if missing:
        tools.say(f"Building {', '.join(missing)} in {region}")
        builder = tools.builder.version()
        book.change(lambda record: record.model_copy(update={"builder": builder}))
        asked = BuildRequest(
            root=places.root,
            output=places.output,
            release=request.pins.release,
            region=region,
            git_commit=book.record.git_commit,
            builder=builder,
            wheel=wheel(),
            encryption=request.encryption,
            variables={"nextflow_image": NEXTFLOW_IMAGE, **variables},
        )
        try:
            tools.builder.build(asked, missing)
        finally:
            # Also where one failed: the other is not built a second time.
            for arch in missing:
                _note_built(request, tools, places, book, arch)
    return {
        arch: _note_built(request, tools, places, book, arch) or _not_built(request, arch) for arch in Arch
    }


def _not_built(request: Request, arch: Arch) -> Image:
    raise CloudError(
        f"Packer ended well, and {request.pins.image_name(arch)} is not in {request.build_region}",
        hint="Are its credentials those of the account that this looks at?",
    )


def _note_built(request: Request, tools: Tools, places: Places, book: Book, arch: Arch) -> Image | None:
    """Write down a built image with where it comes from, and tie it to its package list; None: it is not there."""
    image = tools.images.named(request.build_region, request.pins.image_name(arch))
    if image is None or image.state != "available":
        return None
    if image.release != request.pins.release:
        raise UserError(
            f"{image.name} in {image.region} has no tag {TAG_RELEASE}={request.pins.release}: it was not built by this",
            hint="Remove or rename it, or raise the revision in the pin file",
        )
    path = places.output / notes.packages_file(arch)
    checksum = notes.sha256(path) if path.exists() else ""
    if not checksum or image.tags.get(TAG_PACKAGES, checksum) != checksum:
        raise UserError(
            f"the package list of {image.name} is not in {places.output}: it was built elsewhere",
            hint=f"Bring that folder from where it was built, or remove {image.id} and build again",
        )
    if TAG_PACKAGES not in image.tags:
        tools.images.tag(image, {TAG_PACKAGES: checksum})
        image = tools.images.named(image.region, image.name) or image
    if not image.imdsv2:
        tools.images.require_imdsv2(image)
    built = BuiltImage(
        image_id=image.id,
        source_ami=image.tags.get(TAG_SOURCE, ""),
        source_ami_name=image.tags.get(TAG_SOURCE_NAME, ""),
        packages_sha256=checksum,
        made_at=image.created,
    )
    book.change(lambda record: record.model_copy(update={"built": {**record.built, arch: built}}))
    return image
