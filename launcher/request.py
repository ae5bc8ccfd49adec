"""What a person asks for: the arguments of `launcher run`, read and checked, all problems at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from agent.contract import (
    RUN_NAME_PATTERN,
    PipelineSource,
    RunId,
    RunName,
    S3Uri,
    SecretRef,
    SecretStore,
)
from launcher import catalog, yaml_text
from launcher.errors import UserError
from launcher.packing import Bundle
from launcher.pipeline import Pipeline, resolve
from launcher.text import parse_duration

PLATFORM_TOKEN: Final = "TOWER_ACCESS_TOKEN"  # noqa: S105 - the variable's name, not a token
_PARAM: Final = re.compile(r"([A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*)=(.*)", re.DOTALL)
_ENV: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_S3: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?")
T = TypeVar("T")


class RunRequest(BaseModel):
    """A run as asked for. What is None is left to the compute environment, or made up."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    source: PipelineSource
    pipeline: str
    """The pipeline as the operator named it."""
    name: RunName | None = None
    main_script: str | None = None
    profiles: tuple[str, ...] = ()
    params: dict[str, JsonValue] = Field(default_factory=dict)
    config: str | None = None
    stub_run: bool = False
    work_dir: S3Uri | None = None
    time_limit_s: int | None = None
    spot: bool = False
    resumable: bool = False
    instance_type: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$")] | None = None
    boot_disk_gb: int | None = None
    platform_token: SecretRef | None = None
    secrets: tuple[SecretRef, ...] = ()
    session_id: str | None = None
    """The Nextflow session that is taken up; a new one where None."""
    resume_from: RunId | None = None


@dataclass(frozen=True)
class RunArguments:
    """The arguments of `launcher run`, as typed."""

    pipeline: str
    name: str | None = None
    revision: str | None = None
    profiles: tuple[str, ...] = ()
    params_file: str | None = None
    params: tuple[str, ...] = ()
    config: Path | None = None
    main_script: str | None = None
    stub_run: bool = False
    work_dir: str | None = None
    time_limit: str | None = None
    spot: bool = False
    resumable: bool = False
    instance_type: str | None = None
    boot_disk_gb: int | None = None
    platform_token: str | None = None
    secrets: tuple[str, ...] = ()


class SeveralProblems(UserError):
    """More than one thing is wrong; `found` has each, so that whoever gathers problems adds them one by one."""

    def __init__(self, message: str, found: tuple[UserError, ...]) -> None:
        super().__init__(message, problems=tuple(line for error in found for line in _lines(error)))
        self.found = found


class Problems:
    """Gathers what is wrong, so that all of it is said at once."""

    def __init__(self) -> None:
        self.found: list[UserError] = []

    def add(self, message: str, hint: str = "", problems: tuple[str, ...] = ()) -> None:
        """Keep one problem."""
        self.found.append(UserError(message, hint=hint, problems=problems))

    def attempt(self, read: Callable[[], T]) -> T | None:
        """The value that `read` gives, or None when it raises a UserError, which is kept."""
        try:
            return read()
        except SeveralProblems as several:
            self.found.extend(several.found)
        except UserError as error:
            self.found.append(error)
        return None

    def raise_if_any(self, what: str) -> None:
        """End here when anything is wrong.

        Raises:
            UserError: the only problem itself, or one that lists all.
        """
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            raise SeveralProblems(f"{what}: {len(self.found)} problems", tuple(self.found))


def read_request(arguments: RunArguments, read_stdin: Callable[[], str]) -> tuple[RunRequest, Bundle | None]:
    """Check the arguments and read the files that they name; nothing is asked of AWS.

    Raises:
        UserError: anything is wrong; every problem is listed.
    """
    problems = Problems()
    source = problems.attempt(
        lambda: resolve(arguments.pipeline, revision=arguments.revision, main_script=arguments.main_script)
    )
    name = problems.attempt(lambda: check_name(arguments.name))
    params = problems.attempt(lambda: _params(arguments, read_stdin))
    profiles = problems.attempt(lambda: _profiles(arguments.profiles))
    config = problems.attempt(lambda: read_text(arguments.config, "Nextflow configuration"))
    work_dir = problems.attempt(lambda: check_work_dir(arguments.work_dir))
    limit = problems.attempt(lambda: check_time_limit(arguments.time_limit))
    token = problems.attempt(lambda: _token(arguments.platform_token))
    secrets = problems.attempt(lambda: _secrets(arguments.secrets))
    kind = problems.attempt(lambda: check_instance_type(arguments.instance_type))
    disk = problems.attempt(lambda: check_boot_disk(arguments.boot_disk_gb))
    problems.raise_if_any("The run was not started")
    if source is None:
        raise RuntimeError("a missing value is always a problem")
    pipeline: Pipeline = source
    request = RunRequest(
        source=pipeline.source,
        pipeline=pipeline.label,
        name=name,
        main_script=arguments.main_script,
        profiles=profiles or (),
        params=params or {},
        config=config,
        stub_run=arguments.stub_run,
        work_dir=work_dir,
        time_limit_s=limit,
        spot=arguments.spot,
        resumable=arguments.resumable or arguments.spot,
        instance_type=kind,
        boot_disk_gb=disk,
        platform_token=token,
        secrets=secrets or (),
    )
    return request, pipeline.bundle


def check_name(name: str | None) -> str | None:
    """A run name as Nextflow takes it."""
    if name is not None and (len(name) > 80 or not re.match(RUN_NAME_PATTERN, name)):
        raise UserError(
            f"{name!r} is not a run name: a lower-case letter, then lower-case letters and digits, with single "
            "- or _ between them; at most 80 characters"
        )
    return name


def check_work_dir(work_dir: str | None) -> str | None:
    """An S3 URI with a bucket that can exist."""
    if work_dir is not None and not _S3.fullmatch(work_dir):
        raise UserError(
            f"The work dir {work_dir!r} is not an S3 URI",
            hint="Write it like s3://BUCKET/PATH, or s3://BUCKET",
        )
    return work_dir


def check_time_limit(text: str | None) -> int | None:
    """A duration in seconds."""
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise UserError(f"--time-limit: {error}") from None


def check_instance_type(name: str | None) -> str | None:
    """An instance type by its form."""
    if name is not None and not re.fullmatch(r"[a-z][a-z0-9-]*\.[a-z0-9-]+", name):
        raise UserError(f"--instance-type: {name!r} is not an instance type; write it like m5d.large")
    return name


def check_boot_disk(gb: int | None) -> int | None:
    """A size that gp3 can have and the machine image fits on."""
    low, high = catalog.BOOT_DISK_MIN_GB, catalog.BOOT_DISK_MAX_GB
    if gb is not None and not low <= gb <= high:
        raise UserError(f"--boot-disk-gb: {gb} is out of range: from {low} to {high}")
    return gb


def read_text(path: Path | None, what: str) -> str | None:
    """A text file of the operator's."""
    if path is None:
        return None
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"The {what} {path} does not exist") from None
    except UnicodeDecodeError:
        raise UserError(f"The {what} {path} is not text (UTF-8)") from None
    except OSError as error:
        raise UserError(f"The {what} {path} cannot be read: {error.strerror}") from None


def parse_params_file(text: str, name: str) -> dict[str, Any]:
    """The parameters in a YAML or JSON text.

    Raises:
        UserError: it is neither, with the line; or it is no mapping of names to values.
    """
    try:
        value = yaml_text.load(text)
    except yaml_text.NotYaml as error:
        raise UserError(f"The params file {name} is neither YAML nor JSON", problems=(str(error),)) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(
            f"The params file {name} must hold `name: value` lines, not a {type(value).__name__}",
        )
    return value


def parse_params(items: tuple[str, ...]) -> dict[str, Any]:
    """`K=V` items; values as yaml_text.scalar reads them, and `a.b=1` sets b within a.

    Raises:
        UserError: an item without `=`, with a name that Nextflow does not take, or given twice.
    """
    problems = Problems()
    params: dict[str, Any] = {}
    seen: set[str] = set()
    for item in items:
        match = _PARAM.fullmatch(item)
        if match is None:
            said = "has no `=`" if "=" not in item else "has no proper name before the `=`"
            problems.add(f"--param {item!r} {said}; write it like --param samples=3")
        elif match[1] in seen:
            problems.add(f"--param {match[1]} is given twice")
        elif not _set(params, match[1].split("."), yaml_text.scalar(match[2])):
            problems.add(f"--param {match[1]}: part of this name already has a value of its own")
        else:
            seen.add(match[1])
    problems.raise_if_any("--param")
    return params


def parse_secret_ref(text: str, env: str) -> SecretRef:
    """`ssm:NAME` or `secretsmanager:NAME`; the NAME may be an ARN.

    Raises:
        UserError: another form; the text is not repeated, as it may be a secret by mistake.
    """
    store, _, name = text.partition(":")
    if store not in tuple(SecretStore) or not name or len(name) > 2048:
        raise UserError(
            f"The secret for {env} must be a reference: ssm:NAME or secretsmanager:NAME",
            hint="Secrets travel by reference only; put the value in Parameter Store or Secrets Manager first",
        )
    return SecretRef(env=env, store=SecretStore(store), id=name)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, nested mappings merged."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _params(arguments: RunArguments, read_stdin: Callable[[], str]) -> dict[str, Any]:
    problems = Problems()
    from_file = problems.attempt(lambda: _params_file(arguments.params_file, read_stdin)) or {}
    typed = problems.attempt(lambda: parse_params(arguments.params)) or {}
    problems.raise_if_any("The parameters")
    return merge(from_file, typed)


def _params_file(name: str | None, read_stdin: Callable[[], str]) -> dict[str, Any]:
    if name is None:
        return {}
    text = read_stdin() if name == "-" else read_text(Path(name), "params file")
    return parse_params_file(text or "", "on stdin" if name == "-" else name)


def _set(params: dict[str, Any], path: list[str], value: Any) -> bool:
    for part in path[:-1]:
        params = params.setdefault(part, {})
        if not isinstance(params, dict):
            return False
    if path[-1] in params:
        return False
    params[path[-1]] = value
    return True


def _profiles(items: tuple[str, ...]) -> tuple[str, ...]:
    problems = Problems()
    names = [name.strip() for item in items for name in item.split(",")]
    for name in dict.fromkeys(names):
        if not re.fullmatch(r"[A-Za-z_][\w.-]*", name):
            problems.add(f"--profile {name!r} is not a profile's name")
        elif names.count(name) > 1:
            problems.add(f"--profile {name} is given twice")
    problems.raise_if_any("--profile")
    return tuple(names)


def _token(text: str | None) -> SecretRef | None:
    return None if text is None else parse_secret_ref(text, PLATFORM_TOKEN)


def _secrets(items: tuple[str, ...]) -> tuple[SecretRef, ...]:
    problems = Problems()
    refs: list[SecretRef] = []
    for item in items:
        env, equals, text = item.partition("=")
        if not equals or not _ENV.fullmatch(env):
            problems.add("--secret is written like --secret MY_VARIABLE=ssm:NAME")
        elif any(ref.env == env for ref in refs):
            problems.add(f"--secret {env} is given twice")
        else:
            ref = problems.attempt(lambda text=text, env=env: parse_secret_ref(text, env))  # type: ignore[misc] # mypy cannot infer a lambda's defaults
            if ref is not None:
                refs.append(ref)
    problems.raise_if_any("--secret")
    return tuple(refs)


def _lines(error: UserError) -> tuple[str, ...]:
    """A problem among several, on lines of its own."""
    head = error.message + (f". {error.hint}" if error.hint else "")
    return (head, *(f"  {problem}" for problem in error.problems))
