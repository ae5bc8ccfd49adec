"""EC2, as far as a run needs it: the machine image, starting a machine, finding and ending it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import tenacity

from launcher import catalog
from launcher.aws import Aws
from launcher.aws_errors import translated
from launcher.clock import Clock
from launcher.compute_envs import ComputeEnv
from launcher.errors import AccessDenied, CapacityUnavailable, LauncherError, NotThere, UserError
from launcher.plan import MachinePlan

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

PROFILE_PATIENCE_S: Final = 120
"""IAM is eventually consistent: EC2 may not know a new instance profile for this long."""
_FILTER_VALUES: Final = 200
"""What one filter of DescribeInstances takes."""
_GONE: Final = frozenset({"shutting-down", "terminated"})


@dataclass(frozen=True)
class Machine:
    """An instance that EC2 knows."""

    instance_id: str
    run_id: str
    state: str
    """As EC2 says: pending, running, shutting-down, terminated, stopping, stopped."""

    @property
    def gone(self) -> bool:
        """True when it runs nothing and never will again."""
        return self.state in _GONE


@dataclass(frozen=True)
class MachineImage:
    """An AMI."""

    image_id: str
    root_device: str = catalog.BOOT_DEVICE
    has_agent: bool = True
    """False where it may be without solorun's agent."""
    disk_gb: int = 0
    """What its boot disk has at least; 0 where that is not known."""


class Machines:
    """The machines of one compute environment's account and region. Raises the launcher's errors only."""

    def __init__(self, aws: Aws, clock: Clock) -> None:
        self.aws = aws
        self.clock = clock

    def image(self) -> MachineImage:
        """The machine image that runs of this compute environment use.

        Raises:
            UserError: none was published here, or the one named does not exist or fit.
        """
        ce = self.aws.ce
        if ce.image_id is not None:
            return self._own_image(ce, ce.image_id)
        name = catalog.image_parameter(ce.arch)
        try:
            with self._translated("ssm", f"the parameter {name}"):
                value = self.aws.ssm.get_parameter(Name=name)["Parameter"].get("Value", "")
        except NotThere:
            raise UserError(
                f"No machine image was published for {ce.arch} in {ce.region} (parameter {name})",
                hint="Build and publish one (make ami), or name one: image_id in the compute environment",
            ) from None
        return MachineImage(value)

    def start(self, plan: MachinePlan) -> str:
        """Start the machine; returns its instance id. Where a zone has no capacity, the next one is tried.

        Raises:
            CapacityUnavailable: no zone has a machine to give.
            Unreachable: no answer came; whether a machine was started is not known.
            UserError: EC2 refused the request.
        """
        places: list[str | None] = list(plan.subnets) or [None]
        tried: list[str] = []
        attempt = 0
        while attempt < len(places):
            try:
                return self._run_instance(plan, places[attempt], attempt)
            except CapacityUnavailable as error:
                tried.append(f"{places[attempt] or 'the default subnet'}: {error.message}")
                if places == [None]:
                    # EC2 chose one zone of the default VPC; the others are still to be asked
                    places += self._default_subnets()
                last = error
            attempt += 1
        raise CapacityUnavailable(
            f"EC2 has no {plan.instance_type} to give in {plan.region}", hint=last.hint, problems=tuple(tried)
        )

    def of_runs(self, run_ids: Iterable[str]) -> dict[str, list[Machine]]:
        """The machines of these runs, by run id; those that ended an hour ago or so are not known any more."""
        found: dict[str, list[Machine]] = {run_id: [] for run_id in run_ids}
        wanted = sorted(found)
        for first in range(0, len(wanted), _FILTER_VALUES):
            for machine in self._described(wanted[first : first + _FILTER_VALUES]):
                found.setdefault(machine.run_id, []).append(machine)
        return found

    def terminate(self, instance_ids: Iterable[str]) -> None:
        """End machines; those that are gone already do not matter."""
        ids = sorted(instance_ids)
        if ids:
            with self._translated("ec2", ", ".join(ids)):
                self.aws.ec2.terminate_instances(InstanceIds=ids)

    def console_output(self, instance_id: str, *, lines: int = 20) -> str:
        """The end of what the machine wrote to its console; empty where EC2 does not tell (optional)."""
        try:
            with self._translated("ec2", instance_id):
                answer = self.aws.ec2.get_console_output(InstanceId=instance_id)
        except LauncherError:
            return ""
        raw: Any = answer.get("Output") or ""
        text = raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
        return "\n".join(text.splitlines()[-lines:])

    def _own_image(self, ce: ComputeEnv, image_id: str) -> MachineImage:
        has_agent = ce.image_has_agent
        if has_agent is None and ce.local:
            # its machines have the agent from elsewhere
            has_agent = True
        try:
            with self._translated("ec2", f"the image {image_id}"):
                images = self.aws.ec2.describe_images(ImageIds=[image_id])["Images"]
        except AccessDenied:
            # looking at images is an optional permission; an agent that is there is not disturbed by one that is sent
            return MachineImage(image_id, has_agent=bool(has_agent))
        except NotThere:
            images = []
        if not images:
            raise UserError(
                f"There is no machine image {image_id} in {ce.region}",
                hint="Images belong to a region; without image_id in the compute environment, the newest published "
                "one is used",
            )
        found: dict[str, Any] = dict(images[0])
        problems = unfit(found, ce)
        if problems:
            raise UserError(f"The machine image {image_id} cannot be used", problems=problems)
        if has_agent is None:
            has_agent = catalog.RELEASE_NAME.fullmatch(str(found.get("Name", ""))) is not None
        root = found.get("RootDeviceName") or catalog.BOOT_DEVICE
        disks = (
            disk.get("Ebs", {})
            for disk in found.get("BlockDeviceMappings", [])
            if disk.get("DeviceName") == root
        )
        return MachineImage(
            image_id,
            root,
            has_agent=has_agent,
            disk_gb=max((disk.get("VolumeSize", 0) for disk in disks), default=0),
        )

    def _run_instance(self, plan: MachinePlan, subnet: str | None, attempt: int) -> str:
        parameters = run_instances_parameters(plan, subnet, attempt)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_profile_not_known_yet),
            stop=_after(self.clock, PROFILE_PATIENCE_S),
            wait=tenacity.wait_exponential(multiplier=1, max=10),
            sleep=self.clock.sleep,
            reraise=True,
        )
        with self._translated("ec2", f"an instance of {plan.instance_type} from {plan.image_id}"):
            answer = retrying(self.aws.ec2.run_instances, **parameters)
        instance_id: str = answer["Instances"][0]["InstanceId"]
        return instance_id

    def _default_subnets(self) -> list[str]:
        try:
            with self._translated("ec2", "the subnets of the default VPC"):
                answer = self.aws.ec2.describe_subnets(
                    Filters=[{"Name": "default-for-az", "Values": ["true"]}]
                )
        except LauncherError:
            # looking at subnets is an optional permission
            return []
        return [item["SubnetId"] for item in answer["Subnets"]]

    def _described(self, run_ids: list[str]) -> Iterator[Machine]:
        with self._translated("ec2", "the machines of runs"):
            pages = self.aws.ec2.get_paginator("describe_instances").paginate(
                Filters=[{"Name": f"tag:{catalog.TAG_RUN}", "Values": run_ids}]
            )
            for page in pages:
                for reservation in page["Reservations"]:
                    for item in reservation["Instances"]:
                        tags = {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])}
                        yield Machine(item["InstanceId"], tags[catalog.TAG_RUN], item["State"]["Name"])

    def _translated(self, service: str, resource: str) -> Any:
        return translated(service, resource, endpoint=self.aws.endpoint)


def unfit(image: dict[str, Any], ce: ComputeEnv) -> tuple[str, ...]:
    """Why no machine of the compute environment can be started from an image, as EC2 describes it."""
    problems = []
    arch, state = image.get("Architecture", ce.arch), image.get("State", "available")
    if arch != ce.arch:
        problems.append(f"it is {arch}; the compute environment asks for {ce.arch}")
    if state != "available":
        problems.append(f"it is {state}, not available")
    if str(image.get("Platform", "")).lower() == "windows":
        problems.append("it is Windows; runs need Linux")
    if image.get("RootDeviceType") == "instance-store":
        problems.append(
            "its root device is not an EBS volume, so a machine from it cannot have a boot disk of its own"
        )
    if image.get("VirtualizationType") == "paravirtual":
        problems.append("it is paravirtual, which today's instance types do not start")
    return tuple(problems)


def run_instances_parameters(plan: MachinePlan, subnet: str | None, attempt: int = 0) -> dict[str, Any]:
    """The parameters of RunInstances; the plan says what, this says it in EC2's words."""
    disk: dict[str, Any] = {
        "VolumeSize": plan.boot_disk_gb,
        "VolumeType": "gp3",
        "DeleteOnTermination": True,
    }
    if plan.boot_disk_encrypted:
        disk["Encrypted"] = True
    if plan.boot_disk_kms_key:
        disk["KmsKeyId"] = plan.boot_disk_kms_key
    tags = [{"Key": key, "Value": value} for key, value in plan.tags]
    parameters: dict[str, Any] = {
        "ImageId": plan.image_id,
        "InstanceType": plan.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        # another zone is another request: EC2 refuses a known token with other parameters
        "ClientToken": plan.client_token if attempt == 0 else f"{plan.client_token}-{attempt}",
        "InstanceInitiatedShutdownBehavior": "terminate",
        "UserData": plan.user_data,
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 2,
            "InstanceMetadataTags": "enabled",
        },
        "BlockDeviceMappings": [{"DeviceName": plan.boot_device, "Ebs": disk}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
    }
    if subnet:
        parameters["SubnetId"] = subnet
    if plan.security_groups:
        parameters["SecurityGroupIds"] = list(plan.security_groups)
    if plan.key_pair:
        parameters["KeyName"] = plan.key_pair
    if plan.instance_profile:
        kind = "Arn" if plan.instance_profile.startswith("arn:") else "Name"
        parameters["IamInstanceProfile"] = {kind: plan.instance_profile}
    if plan.spot:
        parameters["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
        }
    return parameters


def _profile_not_known_yet(error: BaseException) -> bool:
    from botocore.exceptions import ClientError

    return isinstance(error, ClientError) and _is_invalid_profile(error)


def _is_invalid_profile(error: ClientError) -> bool:
    answer = error.response.get("Error", {})
    return answer.get("Code") == "InvalidParameterValue" and "Invalid IAM Instance Profile" in str(
        answer.get("Message", "")
    )


class _after(tenacity.stop.stop_base):  # noqa: N801 - named like tenacity's own conditions
    """Stop once `seconds` have passed on the given clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end = clock.monotonic() + seconds

    def __call__(self, _state: tenacity.RetryCallState) -> bool:
        return self._clock.monotonic() >= self._end
