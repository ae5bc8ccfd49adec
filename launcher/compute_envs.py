"""Compute environments: where runs go, and on what machine. One YAML file each in the config folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from agent.contract import EnvVar, S3Uri, problems_of
from launcher import catalog, yaml_text
from launcher.catalog import Arch
from launcher.errors import NotThere, UserError
from launcher.text import did_you_mean, parse_duration

NAME_PATTERN: Final = r"^[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?$"
Script = Annotated[str, StringConstraints(max_length=1024)]


class ComputeEnv(BaseModel):
    """Everything a run needs to know about the account and the machine it goes to."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    """The file's name without `.yaml`."""
    local: bool = False
    """True for the embedded local cloud, which needs no AWS account."""
    region: str
    work_dir: S3Uri
    """Runs are kept under it. Its bucket is in the same region."""
    profile: str | None = None
    """The AWS profile to use; where None, the AWS SDK's own choice."""
    arm64: bool = False
    instance_type: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$")] | None = None
    """m5d.large where None, m6gd.large with arm64."""
    image_id: Annotated[str, StringConstraints(pattern=r"^ami-[0-9a-f]{8,17}$")] | None = None
    """The machine image; the newest published one where None."""
    image_has_agent: bool | None = None
    """Whether image_id has solorun's agent, which is brought where not; where None, releases have it, by their name."""
    boot_disk_gb: Annotated[int, Field(ge=catalog.BOOT_DISK_MIN_GB, le=catalog.BOOT_DISK_MAX_GB)] = (
        catalog.BOOT_DISK_GB
    )
    boot_disk_encrypted: bool = False
    boot_disk_kms_key: str | None = None
    """The KMS key of an encrypted boot disk; the account's default key where None."""
    key_pair: str | None = None
    """The EC2 key pair for SSH; none where None."""
    instance_profile: str | None = None
    """Name or ARN of the instance profile: what the machine may do in AWS."""
    subnets: tuple[Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-f]+$")], ...] = ()
    """Tried in this order; the default VPC's where empty."""
    security_groups: tuple[Annotated[str, StringConstraints(pattern=r"^sg-[0-9a-f]+$")], ...] = ()
    log_group: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./#-]+$", max_length=512)] = (
        catalog.LOG_GROUP
    )
    environment: tuple[EnvVar, ...] = ()
    nextflow_config: str | None = None
    """Nextflow configuration for every run here; a run's own configuration wins over it."""
    pre_run_script: Script | None = None
    post_run_script: Script | None = None
    time_limit: str = catalog.TIME_LIMIT
    """The limit of runs that set none, like 24h."""
    container_image: Annotated[str, StringConstraints(min_length=1)] = catalog.NEXTFLOW_IMAGE
    """Nextflow's own container image."""

    @field_validator("time_limit")
    @classmethod
    def _is_duration(cls, value: str) -> str:
        parse_duration(value)
        return value

    @field_validator("region")
    @classmethod
    def _has_machine_images(cls, value: str, info: ValidationInfo) -> str:
        if not info.data.get("local") and value not in catalog.REGIONS:
            near = did_you_mean(value, catalog.REGIONS)
            raise ValueError(
                f"{value!r} is not supported. {near or 'Supported: ' + ', '.join(catalog.REGIONS)}"
            )
        return value

    @field_validator("instance_type")
    @classmethod
    def _fits_architecture(cls, value: str | None, info: ValidationInfo) -> str | None:
        arm64 = info.data.get("arm64", False)
        if value and (arch := catalog.arch_of(value)) is not (Arch.ARM64 if arm64 else Arch.X86_64):
            raise ValueError(f"{value} is {arch}, but arm64 is {str(arm64).lower()}")
        return value

    @field_validator("image_has_agent")
    @classmethod
    def _is_about_an_image(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        if value is False and not info.data.get("image_id"):
            raise ValueError("the published machine image has the agent; another one is named by image_id")
        return value

    @field_validator("boot_disk_kms_key")
    @classmethod
    def _key_needs_encryption(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and not info.data.get("boot_disk_encrypted"):
            raise ValueError("a key needs boot_disk_encrypted: true")
        return value

    @property
    def arch(self) -> Arch:
        """The machine's processor."""
        return Arch.ARM64 if self.arm64 else Arch.X86_64

    @property
    def machine_type(self) -> str:
        """The instance type, or the default for the architecture."""
        return self.instance_type or catalog.DEFAULT_INSTANCE_TYPE[self.arch]

    @property
    def time_limit_s(self) -> int:
        """The default time limit in seconds."""
        return parse_duration(self.time_limit)

    def to_yaml(self) -> str:
        """The file's text: what differs from the defaults, without the name."""
        return yaml_text.dump(self.model_dump(mode="json", exclude={"name"}, exclude_defaults=True))


def build(values: dict[str, Any], where: str) -> ComputeEnv:
    """A compute environment from plain values.

    Raises:
        UserError: any field is wrong; `problems` has all of them, each with its field path.
    """
    try:
        return ComputeEnv.model_validate(values)
    except ValidationError as error:
        problems = tuple(_in_words(problem, values) for problem in problems_of(error))
        raise UserError(f"The compute environment is not valid ({where})", problems=problems) from None


_FORMS: Final = {
    "name": "lower-case letters and digits, with - or _ between them; at most 64 characters",
    "work_dir": "written like s3://BUCKET/PATH",
    "instance_type": "written like m5d.large",
    "image_id": "written like ami-0123456789abcdef0",
    "subnets": "written like subnet-0123456789abcdef0",
    "security_groups": "written like sg-0123456789abcdef0",
    "log_group": "letters, digits and any of . _ / # -",
}
"""What each field looks like, for a person: pydantic only knows the pattern."""


def _in_words(problem: str, values: dict[str, Any]) -> str:
    field, _, said = problem.partition(": ")
    name, *place = field.split(".")
    form = _FORMS.get(name)
    if form and said.startswith("String should match pattern"):
        given = values[name][int(place[0])] if place else values[name]
        return f"{field}: {given!r} must be {form}"
    return problem.replace("Value error, ", "")


@dataclass(frozen=True)
class ComputeEnvs:
    """The compute environments in a config folder."""

    config_dir: Path

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.config_dir / "compute-envs"

    def path(self, name: str) -> Path:
        """The file of a compute environment."""
        return self.folder / f"{name}.yaml"

    def names(self) -> tuple[str, ...]:
        """All of them, sorted."""
        return tuple(sorted(path.stem for path in self.folder.glob("*.yaml")))

    def get(self, name: str) -> ComputeEnv:
        """Read one.

        Raises:
            NotThere: there is none of this name; the nearest names are offered.
            UserError: its file is not valid; all problems at once.
        """
        if name not in self.names():
            raise self._unknown(name)
        path = self.path(name)
        try:
            values = yaml_text.load(path.read_text(encoding="utf-8"))
        except (yaml_text.NotYaml, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not YAML", problems=(str(error),)) from None
        if not isinstance(values, dict):
            raise UserError(f"{path} must hold `field: value` lines")
        return build({**values, "name": name}, str(path))

    def all(self) -> tuple[ComputeEnv, ...]:
        """Read all of them."""
        return tuple(self.get(name) for name in self.names())

    def choose(self, name: str | None) -> ComputeEnv:
        """The one named; with no name the default, or the only one.

        Raises:
            UserError: none exists, or there are several and none is the default.
        """
        if name is not None:
            return self.get(name)
        names = self.names()
        default = self.default()
        if default in names:
            return self.get(default)
        if len(names) == 1:
            return self.get(names[0])
        if not names:
            raise UserError(
                "There is no compute environment yet",
                hint="Make one: launcher compute-envs add NAME --region REGION --work-dir s3://BUCKET/PATH "
                "--instance-profile PROFILE; without an AWS account: launcher local up",
            )
        raise UserError(
            f"Which compute environment? There are several: {', '.join(names)}",
            hint="Name one with -c, or make one the default: launcher compute-envs default NAME",
        )

    def add(self, ce: ComputeEnv) -> Path:
        """Write a new one.

        Raises:
            UserError: there is one of this name already.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(ce.name)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(ce.to_yaml())
        except FileExistsError:
            raise UserError(
                f"The compute environment {ce.name} exists already",
                hint=f"Edit {path}, or remove it first: launcher compute-envs delete {ce.name}",
            ) from None
        return path

    def delete(self, name: str) -> None:
        """Remove one from this computer; its runs in S3 stay."""
        if name not in self.names():
            raise self._unknown(name)
        self.path(name).unlink()
        self._work_dirs_file(name).unlink(missing_ok=True)
        if self.default() == name:
            self._default_file.unlink()

    def default(self) -> str | None:
        """The name marked as default, or None."""
        try:
            return self._default_file.read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def set_default(self, name: str) -> None:
        """Mark one as the default."""
        if name not in self.names():
            raise self._unknown(name)
        self._default_file.write_text(name + "\n", encoding="utf-8")

    def work_dirs(self, ce: ComputeEnv) -> tuple[str, ...]:
        """Where runs of a compute environment are: its own work dir, and those that runs chose instead."""
        try:
            more: Iterable[str] = self._work_dirs_file(ce.name).read_text(encoding="utf-8").split()
        except FileNotFoundError:
            more = ()
        return tuple(dict.fromkeys((ce.work_dir, *more)))

    def remember_work_dir(self, ce: ComputeEnv, work_dir: str) -> None:
        """Keep in mind that a run of `ce` went to a work dir of its own, so that `runs` finds it."""
        if work_dir not in self.work_dirs(ce):
            path = self._work_dirs_file(ce.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(work_dir + "\n")

    @property
    def _default_file(self) -> Path:
        return self.config_dir / "default-compute-env"

    def _work_dirs_file(self, name: str) -> Path:
        return self.config_dir / "work-dirs" / name

    def _unknown(self, name: str) -> NotThere:
        names = self.names()
        if not names:
            hint = "There is none yet; make one: launcher compute-envs add"
        else:
            hint = did_you_mean(name, names) or f"There are: {', '.join(names)}"
        return NotThere(f"There is no compute environment {name!r}", hint=hint)
