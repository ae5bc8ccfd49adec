"""The bill of materials of an image, in CycloneDX 1.6: what scanners for known vulnerabilities read."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from packer.release.packages import Package

_SYSTEM: Final = {"rpm": ("amzn", "amzn-2023"), "deb": ("debian", "debian-12")}
"""Vendor and distribution, as package URLs name them."""
_EPOCH: Final = re.compile(r"^(\d+):")


def package_url(package: Package) -> PackageURL:
    """The package URL: pkg:rpm/amzn/openssl@3.0.8-1.amzn2023?arch=x86_64&distro=amzn-2023&epoch=1."""
    vendor, distro = _SYSTEM[package.kind]
    qualifiers = {"arch": package.arch, "distro": distro}
    version = package.version
    epoch = _EPOCH.match(version)
    if package.kind == "rpm" and epoch:
        # The specification keeps rpm's epoch out of the version.
        qualifiers["epoch"], version = epoch[1], version[epoch.end() :]
    return PackageURL(package.kind, vendor, package.name, version, qualifiers)


def bill_of_materials(image: str, release: str, packages: Iterable[Package], made_at: datetime) -> str:
    """The document as JSON. The same image, packages and time give the same text.

    Args:
        image: the image's name.
        release: its release.
        packages: what is installed on it.
        made_at: when the image was made.
    """
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"solorun:{image}"),
        components=[_component(package) for package in packages],
    )
    bom.metadata.timestamp = made_at
    bom.metadata.component = Component(
        name=image, version=release, type=ComponentType.OPERATING_SYSTEM, bom_ref=image
    )
    bom.register_dependency(bom.metadata.component, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _component(package: Package) -> Component:
    url = package_url(package)
    licenses = [DisjunctiveLicense(name=package.license)] if package.license else []
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        purl=url,
        bom_ref=url.to_string(),
        # In the distribution's own words: they are no SPDX expressions on all packages.
        licenses=licenses,
        properties=[Property(name="solorun:package-kind", value=package.kind)],
    )
