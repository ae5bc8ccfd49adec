"""What an account has before the first run: a bucket, a log group, an instance profile, machine images."""

from __future__ import annotations

import json
from typing import Any, Final

from botocore.config import Config

from launcher import catalog
from launcher.catalog import Arch
from launcher.localcloud.aws_session import own_session
from launcher.localcloud.metadata_values import Credentials

REGION: Final = "us-east-1"
BUCKET: Final = "solorun-local"
WORK_DIR: Final = f"s3://{BUCKET}/work"
INSTANCE_PROFILE: Final = "solorun-run-agent"
"""The instance profile, and the role in it."""
_TRUST: Final = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)


class Clients:
    """boto3 clients for the local cloud, with nothing of the person's own AWS set-up."""

    def __init__(self, endpoint_url: str, credentials: Credentials) -> None:
        self._endpoint_url = endpoint_url
        self._session = own_session(credentials.access_key, credentials.secret_key, REGION)

    def client(self, service: str) -> Any:
        """The client of a service."""
        make: Any = self._session.client
        return make(
            service,
            endpoint_url=self._endpoint_url,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2}, proxies={}),
        )


def provision(clients: Clients) -> dict[Arch, str]:
    """Make what the launcher expects to find.

    Returns:
        The ids of the machine images.
    """
    clients.client("s3").create_bucket(Bucket=BUCKET)
    clients.client("logs").create_log_group(logGroupName=catalog.LOG_GROUP)
    iam = clients.client("iam")
    iam.create_role(RoleName=INSTANCE_PROFILE, AssumeRolePolicyDocument=_TRUST)
    iam.create_instance_profile(InstanceProfileName=INSTANCE_PROFILE)
    iam.add_role_to_instance_profile(InstanceProfileName=INSTANCE_PROFILE, RoleName=INSTANCE_PROFILE)
    ec2, ssm = clients.client("ec2"), clients.client("ssm")
    images = {}
    for arch in Arch:
        image = ec2.register_image(
            Name=f"solorun-local-{arch}", Architecture=arch, RootDeviceName=catalog.BOOT_DEVICE
        )
        images[arch] = str(image["ImageId"])
        ssm.put_parameter(Name=catalog.image_parameter(arch), Value=images[arch], Type="String")
    return images
