"""A look at every region, before anything is done."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from launcher.catalog import Arch
from launcher.errors import LauncherError
from packer.release.home import Tools
from packer.release.model import Image
from packer.release.plan import Plan, Request, check, plan
from packer.release.trouble import account_is_unknown, in_region, problem_of


def look(request: Request, tools: Tools) -> Plan:
    """What would be done. A region that cannot be looked at is named in it with its problem.

    Raises:
        UserError: what is asked for cannot work, or AWS does not accept the credentials.
        LauncherError: the build's region cannot be looked at.
    """
    check(request)
    with ThreadPoolExecutor(max_workers=16) as pool:
        answers = pool.map(lambda region: _look_at(region, request, tools), request.regions)
        seen = dict(zip(request.regions, answers, strict=True))
    errors = {region: found for region, found in seen.items() if isinstance(found, LauncherError)}
    if request.build_region in errors:
        raise _home_is_closed(request.build_region, errors, len(seen))
    there = {
        (region, arch): image
        for region, found in seen.items()
        if not isinstance(found, LauncherError)
        for arch, image in found.items()
    }
    return plan(
        request, there, {region: problem_of(in_region(error, region)) for region, error in errors.items()}
    )


def _look_at(region: str, request: Request, tools: Tools) -> dict[Arch, Image] | LauncherError:
    """The release's images in a region, or why they cannot be seen."""
    try:
        found = {arch: tools.images.named(region, request.pins.image_name(arch)) for arch in Arch}
    except LauncherError as error:
        return error
    return {arch: image for arch, image in found.items() if image is not None}


def _home_is_closed(home: str, errors: dict[str, LauncherError], regions: int) -> LauncherError:
    if len(errors) == regions and all(map(account_is_unknown, errors.values())):
        # No region knows them: it is the credentials.
        return errors[home]
    return in_region(errors[home], home, "build the images elsewhere: --region")
