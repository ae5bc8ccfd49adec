"""SSM parameters that lead to machine images, and that hold claims. botocore's errors end here."""

from __future__ import annotations

from typing import Any, Final

from launcher.aws_errors import translated
from launcher.catalog import Arch, image_parameter
from launcher.errors import AlreadyThere, LauncherError, NotThere
from packer.release.aws import Aws

LATEST: Final = "latest"


def versioned(release: str, arch: Arch) -> str:
    """The parameter that holds a release's image id for ever; `latest` is the one that the launcher reads."""
    return image_parameter(arch).replace(f"/{LATEST}/", f"/{release}/")


class Parameters:
    """Every method names the region. Raises the launcher's errors."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def _ssm(self, region: str) -> Any:
        return self._aws.client("ssm", region)

    def get(self, region: str, name: str) -> str | None:
        """Its value; None where there is no such parameter."""
        try:
            with translated("ssm", f"the SSM parameter {name} in {region}"):
                return str(self._ssm(region).get_parameter(Name=name)["Parameter"]["Value"])
        except NotThere:
            return None

    def put_image(self, region: str, name: str, image_id: str) -> None:
        """Write an image's id; SSM itself checks that the image is there."""
        with translated("ssm", f"the SSM parameter {name} in {region}"):
            self._ssm(region).put_parameter(
                Name=name, Value=image_id, Type="String", DataType="aws:ec2:image", Overwrite=True
            )

    def create(self, region: str, name: str, value: str) -> None:
        """Write a parameter that must not be there yet: of two who try at once, one succeeds.

        Raises:
            AlreadyThere: it is there.
        """
        try:
            with translated("ssm", f"the SSM parameter {name} in {region}"):
                self._ssm(region).put_parameter(Name=name, Value=value, Type="String", Overwrite=False)
        except LauncherError as error:
            if "ParameterAlreadyExists" not in repr(error.__cause__):
                raise
            raise AlreadyThere(f"the SSM parameter {name} in {region} is there already") from error

    def replace(self, region: str, name: str, value: str) -> None:
        """Write a parameter, whether it is there or not."""
        with translated("ssm", f"the SSM parameter {name} in {region}"):
            self._ssm(region).put_parameter(Name=name, Value=value, Type="String", Overwrite=True)

    def delete(self, region: str, name: str) -> None:
        """Remove a parameter; one that is not there is no error."""
        try:
            with translated("ssm", f"the SSM parameter {name} in {region}"):
                self._ssm(region).delete_parameter(Name=name)
        except NotThere:
            return
