"""Machine images in EC2, in any region. botocore's errors end here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from launcher.aws_errors import translated
from launcher.catalog import Arch
from launcher.errors import LauncherError, NotThere, UserError
from packer.release.aws import Aws
from packer.release.model import Encryption, Image, Sharing
from packer.release.trouble import code_of


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC) if text else None


def _image(item: Mapping[str, Any], region: str) -> Image:
    ebs = [mapping.get("Ebs", {}) for mapping in item.get("BlockDeviceMappings", [])]
    return Image(
        id=item["ImageId"],
        name=item.get("Name", ""),
        region=region,
        arch=Arch(item["Architecture"]),
        state=item["State"],
        created=_time(item.get("CreationDate")) or datetime.now(UTC),
        tags={tag["Key"]: tag["Value"] for tag in item.get("Tags", [])},
        snapshots=tuple(disk["SnapshotId"] for disk in ebs if disk.get("SnapshotId")),
        deprecated_at=_time(item.get("DeprecationTime")),
        imdsv2=item.get("ImdsSupport") == "v2.0",
        problem=item.get("StateReason", {}).get("Message", ""),
    )


class Images:
    """Every method names the region. Raises the launcher's errors: what failed, the likely cause, the next step."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def _ec2(self, region: str) -> Any:
        return self._aws.client("ec2", region)

    def _describe(self, region: str, **query: Any) -> list[Image]:
        with translated("ec2", f"machine images in {region}"):
            pages = (
                self._ec2(region).get_paginator("describe_images").paginate(IncludeDeprecated=True, **query)
            )
            # Of another processor, or of none that EC2 names, is no image of a release.
            return [
                _image(item, region)
                for page in pages
                for item in page["Images"]
                if item.get("Architecture") in set(Arch)
            ]

    def named(self, region: str, name: str) -> Image | None:
        """Our image of this name."""
        found = self._describe(region, Owners=["self"], Filters=[{"Name": "name", "Values": [name]}])
        return found[0] if found else None

    def by_id(self, region: str, image_id: str, *, owner: str = "self") -> Image | None:
        """An owner's image by its id; None where there is none, or it is another's."""
        found = self._describe(region, Owners=[owner], Filters=[{"Name": "image-id", "Values": [image_id]}])
        return found[0] if found else None

    def ours(self, region: str) -> list[Image]:
        """All images of all releases."""
        return self._describe(region, Owners=["self"], Filters=[{"Name": "name", "Values": ["solorun-*"]}])

    def copy(self, image: Image, region: str, tags: Mapping[str, str], encryption: Encryption) -> str:
        """Ask for a copy in another region, with the same name; its id. It is ready minutes later."""
        listed = _tag_list(tags)
        options: dict[str, Any] = {"Encrypted": True} if encryption.encrypted else {}
        if encryption.key:
            options["KmsKeyId"] = encryption.key
        with translated("ec2", f"the copy of {image.name} to {region}"):
            answer = self._ec2(region).copy_image(
                Name=image.name,
                Description=f"{image.name}, copied from {image.id} in {image.region}",
                SourceImageId=image.id,
                SourceRegion=image.region,
                TagSpecifications=[
                    {"ResourceType": "image", "Tags": listed},
                    {"ResourceType": "snapshot", "Tags": listed},
                ],
                **options,
            )
        return str(answer["ImageId"])

    def tag(self, image: Image, tags: Mapping[str, str]) -> None:
        """Put tags on an image."""
        with translated("ec2", f"the tags of {image.name} in {image.region}"):
            self._ec2(image.region).create_tags(Resources=[image.id], Tags=_tag_list(tags))

    def require_imdsv2(self, image: Image) -> None:
        """Machines made of it get metadata with a token only."""
        with translated("ec2", f"the metadata setting of {image.name} in {image.region}"):
            self._ec2(image.region).modify_image_attribute(ImageId=image.id, ImdsSupport={"Value": "v2.0"})

    def share(self, image: Image, sharing: Sharing) -> None:
        """Let others start machines from it.

        Raises:
            UserError: the account or the key forbids it.
        """
        allowed: list[dict[str, str]] = [{"UserId": account} for account in sharing.accounts]
        if sharing.public:
            allowed = [{"Group": "all"}]
        if not allowed:
            return
        try:
            with translated("ec2", f"the launch permission of {image.name} in {image.region}"):
                self._ec2(image.region).modify_image_attribute(
                    ImageId=image.id, LaunchPermission={"Add": allowed}
                )
        except LauncherError as error:
            if "public access" not in error.message.lower():
                raise
            raise UserError(
                f"{image.name} cannot be public in {image.region}: the account blocks public access for images there",
                hint=f"aws ec2 disable-image-block-public-access --region {image.region}, then run this again",
            ) from error

    def deprecate(self, image: Image, at: datetime) -> None:
        """From then on it is not listed for other accounts; machines can still be started from it."""
        with translated("ec2", f"the deprecation of {image.name} in {image.region}"):
            when = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:00Z")
            self._ec2(image.region).enable_image_deprecation(ImageId=image.id, DeprecateAt=when)

    def remove(self, image: Image) -> None:
        """Deregister it and delete its snapshots; what is gone already is no error.

        A snapshot that another image uses stays.
        """
        ec2 = self._ec2(image.region)
        # In one call: broken off between two, the snapshots would be left with no image to find them by.
        answer = _unless_gone(
            lambda: ec2.deregister_image(ImageId=image.id, DeleteAssociatedSnapshots=True),
            f"the removal of {image.name} in {image.region}",
        )
        settled = {
            result["SnapshotId"]
            for result in (answer or {}).get("DeleteSnapshotResults", [])
            if result["ReturnCode"] in ("success", "skipped")
        }
        for snapshot in set(image.snapshots) - settled:
            _unless_gone(
                partial(ec2.delete_snapshot, SnapshotId=snapshot),
                f"the removal of {snapshot}, of {image.name}, in {image.region}",
            )


def _tag_list(tags: Mapping[str, str]) -> Sequence[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items() if not key.startswith("aws:")]


def _unless_gone(call: Callable[[], Any], what: str) -> Any:
    """What AWS answers; None where it is gone already."""
    try:
        with translated("ec2", what):
            return call()
    except NotThere:
        return None
    except LauncherError as error:
        if code_of(error) not in (
            "InvalidAMIID.NotFound",
            "InvalidAMIID.Unavailable",
            "InvalidSnapshot.NotFound",
        ):
            raise
        return None
