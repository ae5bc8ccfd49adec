"""Asks AWS for Amazon's newest images."""

from __future__ import annotations

from launcher.catalog import Arch
from packer.follow.decide import Newest, confirmed
from packer.release.images import Images
from packer.release.parameters import Parameters
from packer.release.pins import AMAZON, source_parameter


def newest(images: Images, parameters: Parameters, region: str, kernel: str) -> Newest | str:
    """Amazon's newest images with this kernel; a sentence where they are not known for certain.

    The parameters are in a name space that only AWS writes; the images must be of Amazon's own account all the same.
    """
    names: dict[Arch, str] = {}
    for arch in Arch:
        parameter = source_parameter(kernel, arch)
        image_id = parameters.get(region, parameter)
        if image_id is None:
            return f"there is no SSM parameter {parameter} in {region}: is kernel {kernel} still published?"
        image = images.by_id(region, image_id, owner=AMAZON)
        if image is None:
            return f"{parameter} leads to {image_id}, which is no image of Amazon's in {region}"
        names[arch] = image.name
    return confirmed(names, kernel)
