"""A release against moto: every AWS call is recorded, a region can fail, and what moto lacks is stood in for."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
from botocore.awsrequest import AWSResponse

from launcher.catalog import Arch
from packer.release import notes, story
from packer.release.aws import Aws
from packer.release.building import Builder, BuildRequest
from packer.release.home import Places, Tools
from packer.release.images import Images
from packer.release.parameters import Parameters
from packer.release.pins import AMI_NAME, Pins
from packer.release.plan import Request
from packer.release.record import Record, open_book

PACKAGES = "rpm\tbash\t0:5.2.15-1.amzn2023.0.2\tx86_64\tGPLv3+\nrpm\topenssl\t1:{}-1.amzn2023.0.3\tx86_64\tApache-2.0\n"
_ERROR = (
    "<Response><Errors><Error><Code>{}</Code><Message>{}</Message></Error></Errors>"
    "<RequestID>1</RequestID></Response>"
)


def moto_pins() -> Pins:
    """Pins of what moto ships: Amazon's real images of its own day, whatever the repository pins today."""
    packed = files("moto").joinpath("ec2/resources/latest_amis/us-east-1.json.gz").read_bytes()
    found = [AMI_NAME.fullmatch(image["name"]) for image in json.loads(gzip.decompress(packed))]
    names = {Arch(match["arch"]): match for match in found if match and match["kernel"] == "6.12"}
    return Pins(
        releasever=names[Arch.X86_64]["releasever"],
        revision=1,
        kernel="6.12",
        source_ami_name={arch: match[0] for arch, match in names.items()},
    )


class PatientClock:
    """Real time, shifted; sleeping takes no time. Threads may share it."""

    def __init__(self) -> None:
        self.shift = timedelta()
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.shift

    def monotonic(self) -> float:
        return self.now().timestamp()

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.shift += timedelta(seconds=seconds)


class _Body:
    """What botocore reads an answer from."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._body


def _answer(status: int, body: str) -> AWSResponse:
    headers: Any = {"content-type": "text/xml"}
    return AWSResponse("http://moto", status, headers, _Body(body.encode()))


def _asked(request: Any) -> dict[str, list[str]]:
    """The parameters of a call to EC2."""
    return parse_qs(request.body.decode() if isinstance(request.body, bytes) else request.body)


def _region(request: Any) -> str:
    """The region that a call is signed for."""
    authorization = request.headers["Authorization"]
    text: str = authorization.decode() if isinstance(authorization, bytes) else authorization
    return text.split("/")[2]


@cache
def _client(url: str, service: str, region: str) -> Any:
    return boto3.client(  # type: ignore[call-overload]  # any service
        service,
        region_name=region,
        endpoint_url=url,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="made-up",
    )


@dataclass
class Account:
    """An AWS account in moto, seen through hooks of botocore."""

    url: str
    calls: set[str] = field(default_factory=set)
    """IAM's names of what was called: ec2:CopyImage."""
    failing: set[str] = field(default_factory=set)
    """Regions whose EC2 makes no copies."""
    closed: set[str] = field(default_factory=set)
    """Regions that the account has not enabled."""
    deprecated: dict[str, str] = field(default_factory=dict)
    """By image id: when it is deprecated. moto knows no deprecation."""
    keeping: bool = False
    """Whether EC2 fails to delete snapshots together with their image."""
    interrupted: bool = False
    """Whether Ctrl-C comes when an image was just deregistered."""

    @cached_property
    def aws(self) -> Aws:
        """Its clients take longer to make than to use: one set for all releases."""
        session = boto3.Session(aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="made-up")
        events: Any = session.events
        events.register("before-call", self._record)
        events.register("before-send.ec2", self._refuse)
        events.register("before-send.ssm", self._refuse)
        events.register("before-send.ec2.CopyImage", self._fail)
        events.register("before-send.ec2.EnableImageDeprecation", self._deprecate)
        events.register("after-call.ec2.DescribeImages", self._show_deprecation)
        events.register("before-send.ec2.DeregisterImage", self._deregister)
        return Aws(session, endpoint_url=self.url)

    def _record(self, model: Any, **_: Any) -> None:
        self.calls.add(f"{model.service_model.service_name}:{model.name}")

    def _refuse(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        """As AWS answers in a region that is not enabled, and where the credentials are wrong."""
        if _region(request) not in self.closed:
            return None
        if ".ssm." in event_name:
            said = {"__type": "UnrecognizedClientException", "message": "The security token is invalid."}
            return _answer(400, json.dumps(said))
        return _answer(401, _ERROR.format("AuthFailure", "AWS was not able to validate the credentials"))

    def _fail(self, request: Any, **_: Any) -> AWSResponse | None:
        if _region(request) not in self.failing:
            return None
        return _answer(400, _ERROR.format("ResourceLimitExceeded", "Too many snapshot copies"))

    def _deprecate(self, request: Any, **_: Any) -> AWSResponse:
        asked = _asked(request)
        self.deprecated[asked["ImageId"][0]] = asked["DeprecateAt"][0]
        return _answer(
            200, "<EnableImageDeprecationResponse><return>true</return></EnableImageDeprecationResponse>"
        )

    def _show_deprecation(self, parsed: Any, **_: Any) -> None:
        for image in parsed.get("Images", []):
            if image["ImageId"] in self.deprecated:
                image["DeprecationTime"] = self.deprecated[image["ImageId"]].replace("Z", ".000Z")

    def _deregister(self, request: Any, **_: Any) -> AWSResponse | None:
        """moto leaves the snapshots, whatever is asked."""
        asked, ec2 = _asked(request), self.client("ec2", _region(request))
        image_id = asked["ImageId"][0]
        images = ec2.describe_images(ImageIds=[image_id])["Images"]
        if not images:
            return None  # what moto says of one that is gone
        ec2.deregister_image(ImageId=image_id)
        results = ""
        if asked.get("DeleteAssociatedSnapshots") == ["true"]:
            self.calls.add("ec2:DeleteSnapshot")  # it needs that right
            for disk in images[0]["BlockDeviceMappings"]:
                snapshot = disk["Ebs"]["SnapshotId"]
                if not self.keeping:
                    ec2.delete_snapshot(SnapshotId=snapshot)
                code = "internal-error" if self.keeping else "success"
                results += f"<item><snapshotId>{snapshot}</snapshotId><returnCode>{code}</returnCode></item>"
        if self.interrupted:
            raise KeyboardInterrupt
        return _answer(
            200,
            "<DeregisterImageResponse><return>true</return>"
            f"<deleteSnapshotResultSet>{results}</deleteSnapshotResultSet></DeregisterImageResponse>",
        )

    def forget(self) -> None:
        """Begin anew, with the same clients."""
        self.keeping = self.interrupted = False
        self.calls.clear()
        self.failing.clear()
        self.closed.clear()
        self.deprecated.clear()

    def client(self, service: str, region: str) -> Any:
        """moto as it is, unrecorded."""
        return _client(self.url, service, region)

    def images(self, region: str, release: str) -> dict[str, Any]:
        """By name: the images of a release."""
        found = self.client("ec2", region).describe_images(
            Owners=["self"], Filters=[{"Name": "name", "Values": [f"solorun-{release}-*"]}]
        )["Images"]
        named = {image["Name"]: image for image in found}
        assert len(named) == len(found), "an image was made twice"
        return named

    def parameter(self, region: str, name: str) -> str:
        value: str = self.client("ssm", region).get_parameter(Name=name)["Parameter"]["Value"]
        return value


@dataclass
class QuickBuilder:
    """Makes images out of moto's machines, as Packer would, in no time."""

    account: Account
    openssl: str = "3.0.8"
    refuses: set[Arch] = field(default_factory=set)
    built: list[Arch] = field(default_factory=list)
    asked: list[BuildRequest] = field(default_factory=list)

    def version(self) -> str:
        return "packer 1.16.0 ansible-core 2.19.14"

    def build(self, request: BuildRequest, archs: Collection[Arch]) -> None:
        from launcher.errors import CloudError

        self.asked.append(request)
        pins = Pins.model_validate_json((request.root / "packer" / "pins.auto.pkrvars.json").read_text())
        ec2 = self.account.client("ec2", request.region)
        for arch in sorted(set(archs) - self.refuses):
            sources = ec2.describe_images(Filters=[{"Name": "name", "Values": [pins.source_ami_name[arch]]}])
            source = sources["Images"][0]
            machine = ec2.run_instances(ImageId=source["ImageId"], MinCount=1, MaxCount=1)["Instances"][0][
                "InstanceId"
            ]
            image = ec2.create_image(InstanceId=machine, Name=pins.image_name(arch))["ImageId"]
            tags = {
                "solorun:release": pins.release,
                "solorun:source-ami": source["ImageId"],
                "solorun:source-ami-name": source["Name"],
                "solorun:git-commit": request.git_commit,
            }
            ec2.create_tags(Resources=[image], Tags=[{"Key": k, "Value": v} for k, v in tags.items()])
            ec2.terminate_instances(InstanceIds=[machine])
            (request.output / notes.packages_file(arch)).write_text(PACKAGES.format(self.openssl))
            self.built.append(arch)
        if self.refuses & set(archs):
            raise CloudError("`packer build` ended with exit code 1; its last lines say why")


@dataclass
class Maintainer:
    """Somebody with a checkout, who makes releases."""

    account: Account
    root: Path
    builder: Builder
    clock: PatientClock = field(default_factory=PatientClock)
    said: list[str] = field(default_factory=list)

    def pin(self, pins: Pins) -> None:
        (self.root / "packer").mkdir(exist_ok=True)
        (self.root / "packer" / "pins.auto.pkrvars.json").write_text(pins.text())

    def output(self, request: Request) -> Path:
        folder = self.root / "build" / "ami" / request.pins.release
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def tools(self) -> Tools:
        aws = self.account.aws
        return Tools(Images(aws), Parameters(aws), self.builder, self.clock, self.said.append)

    def release(self, request: Request) -> Record:
        output = self.output(request)
        return story.release(
            request,
            self.tools(),
            Places(self.root, output, self.root / "packer" / "released"),
            open_book(output, request.pins.release, "0123456789abcdef"),
            lambda: output / "solorun-0.1.0-py3-none-any.whl",
            {},
        )


@contextmanager
def cleaned(account: Account, regions: Collection[str]) -> Iterator[None]:
    """Remove afterwards what releases left in moto, which other tests use as well."""
    try:
        yield
    finally:
        for region in regions:
            ec2, ssm = account.client("ec2", region), account.client("ssm", region)
            ours = ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": ["solorun-2*"]}])
            for image in ours["Images"]:
                ec2.deregister_image(ImageId=image["ImageId"])
            for page in ssm.get_paginator("get_parameters_by_path").paginate(
                Path="/solorun/ami", Recursive=True
            ):
                for parameter in page["Parameters"]:
                    ssm.delete_parameter(Name=parameter["Name"])
