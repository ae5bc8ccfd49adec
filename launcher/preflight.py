"""What is asked of AWS before anything is written: bucket, machine image, identity. All answers at once."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from launcher.bringing import Bringing, what_to_bring
from launcher.catalog import NEXTFLOW_IMAGE
from launcher.compute_envs import ComputeEnv
from launcher.errors import UserError
from launcher.machines import MachineImage
from launcher.places import Place
from launcher.request import Problems
from launcher.settings import Settings


@dataclass(frozen=True)
class Preflight:
    """What was found out."""

    image: MachineImage
    owner: str
    bringing: Bringing | None
    """What machines from this image are given; None where it has the agent."""


def check_docker(environ: Mapping[str, str], image: str) -> None:
    """The machines of the local cloud run their containers with this computer's Docker.

    Raises:
        UserError: there is no Docker, its daemon does not answer, or not to this user; or Nextflow's own image was
            not built. (Another image may still be pulled.)
    """
    # imported here: AWS does without
    from launcher.localcloud.docker_host import DockerHost

    with DockerHost.connect(environ) as host:
        if image == NEXTFLOW_IMAGE and not host.has_image(image):
            raise UserError(
                f"The container image {image} is not on this computer",
                hint="Build it, in solorun's folder: make images",
            )


def check_instance_profile(ce: ComputeEnv) -> None:
    """On AWS a machine without one could not even read its run spec, unless its image brings credentials.

    Raises:
        UserError: there is none, and the machine image is the published one, which brings no credentials.
    """
    if not ce.local and ce.instance_profile is None and ce.image_id is None:
        raise UserError(
            f"The compute environment {ce.name} has no instance_profile: its machines could not read their run specs",
            hint="Make an instance profile (docs/aws.md says what it must allow), and name it in the compute "
            "environment's file: instance_profile: NAME",
        )


def check_boot_disk_fits(image: MachineImage, disk_gb: int) -> None:
    """EC2 does not make a disk smaller than the image's.

    Raises:
        UserError: it was to be smaller.
    """
    if disk_gb < image.disk_gb:
        raise UserError(
            f"The machine image {image.image_id} needs a boot disk of {image.disk_gb} GB; {disk_gb} GB were asked for",
            hint=f"In the compute environment's file: boot_disk_gb: {image.disk_gb}; or --boot-disk-gb {image.disk_gb}",
        )


def check(place: Place, settings: Settings, boot_disk_gb: int | None = None) -> Preflight:
    """Ask for everything side by side. `boot_disk_gb` is what the run asks for, where it asks.

    Raises:
        UserError: something must change first; all of it is listed.
        CloudError: AWS does not answer.
    """
    with ThreadPoolExecutor(4, thread_name_prefix="preflight") as pool:
        bucket = pool.submit(place.book.store.check_bucket)
        image = pool.submit(place.machines.image)
        owner = pool.submit(place.aws.owner, settings.user)
        local = (
            pool.submit(check_docker, settings.environ, place.ce.container_image) if place.ce.local else None
        )
        # made now, as it takes a while: the first call comes when all is written
        pool.submit(lambda: place.aws.ec2)
        errors = [future.exception() for future in (bucket, image, owner, local) if future is not None]
    problems = Problems()
    problems.attempt(lambda: check_instance_profile(place.ce))
    said: set[str] = set()
    for error in errors:
        if error is None:
            continue
        if not isinstance(error, UserError):
            # an outage, or an error of ours: it is the thing to tell
            raise error
        if error.message not in said:
            said.add(error.message)
            problems.found.append(error)
    bringing = None
    if image.exception() is None:
        found = image.result()
        problems.attempt(lambda: check_boot_disk_fits(found, boot_disk_gb or place.ce.boot_disk_gb))
        bringing = problems.attempt(lambda: what_to_bring(settings.bundle_dir, place.ce, found))
    problems.raise_if_any("The run was not started")
    return Preflight(image.result(), owner.result(), bringing)
