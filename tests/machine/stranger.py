"""A machine image of somebody else's: Debian with its own Docker and cloud-init, and nothing of ours.

What is brought to it is made by the code of `make bundle`, and sent by the launcher's.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Final

from bundle.assembling import CPYTHON_IMAGE, assemble, fetch_jars, save_image
from bundle.packages import own_arch
from launcher.aws import Aws, Endpoint
from launcher.bringing import Bringing
from launcher.catalog import NEXTFLOW_IMAGE
from launcher.compute_envs import ComputeEnv
from launcher.programs import agent_for, container_image_for
from launcher.store import Store
from tests.fakes.s3_server import KEYS, REGION, S3Server
from tests.machine import build

CLOUD_INIT: Final = {
    "/etc/cloud/ds-identify.cfg": "policy: enabled\n",
    # It has its address before it boots, and nobody would answer it: a DHCP client that cannot be started.
    "/usr/sbin/dhclient": "",
    "/etc/cloud/cloud.cfg.d/95-test.cfg": "datasource_list: [Ec2]\nnetwork: {config: disabled}\n",
    # The firmware, which tells cloud-init that it is on EC2: a container has none.
    "/etc/python3.11/sitecustomize.py": (
        "from cloudinit import dmi\n"
        "dmi.read_dmi_data = {'system-uuid': 'ec2a0000', 'system-serial-number': 'ec2a0000'}.get\n"
    ),
}


def root() -> Path:
    """The root of the machine."""
    return build.plain_root(kind="stranger", packages=("cloud-init",))


def programs(folder: Path = build.FOLDER) -> Bringing:
    """What `make bundle` makes for this computer's processor."""
    inspect = ["docker", "image", "inspect", "--format", "{{.Id}}", CPYTHON_IMAGE, NEXTFLOW_IMAGE]
    cpython, nextflow = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.split()
    sources: list[str | Path] = [cpython]
    for name in ("agent", "ansible", "bundle"):
        sources += build.files_in(name)
    with build.locked(folder, "bundle"):
        bundle = build.kept(folder, "bundle", sources, _make_bundle)
        archive = build.kept(folder, "archive", [nextflow], _make_archive)
    return Bringing(agent_for(bundle, own_arch()), container_image_for(archive, own_arch(), NEXTFLOW_IMAGE))


def _make_bundle(made: Path) -> None:
    with tempfile.TemporaryDirectory() as jars:
        assemble(own_arch(), fetch_jars(Path(jars, "jars")), made)


def _make_archive(made: Path) -> None:
    save_image(NEXTFLOW_IMAGE, made)


def bring(aws: S3Server) -> Bringing:
    """Have it in the work bucket, as `launcher run` does."""
    bringing = programs()
    bringing.send(store_at(aws.url, aws), f"s3://{aws.bucket}/work")
    return bringing


def store_at(url: str, aws: S3Server) -> Store:
    """The launcher's view of the bucket, at one of the two addresses that moto has here."""
    ce = ComputeEnv(name="own", local=True, region=REGION, work_dir=f"s3://{aws.bucket}/work")
    return Store(Aws(ce, Endpoint(url, KEYS.access_key_id, KEYS.secret_access_key)), aws.bucket)
