"""`launcher compute-envs`: where runs go, and on what machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.contract import EnvTarget, EnvVar
from launcher import catalog, console
from launcher.commands.shared import JsonOption, settings_of
from launcher.compute_envs import ComputeEnv, ComputeEnvs, build
from launcher.errors import UserError
from launcher.request import read_text

app = typer.Typer(
    help="Where runs go, and on what machine.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)
_ENV = re.compile(r"(?:(head|compute):)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The compute environment's name.")]


@app.command()
def add(
    ctx: typer.Context,
    name: NameArgument,
    region: Annotated[
        str, typer.Option(help="The AWS region, such as eu-west-1. Required.", show_default=False)
    ],
    work_dir: Annotated[
        str, typer.Option(metavar="S3-URI", help="Where runs are kept: s3://BUCKET/PATH. Required.")
    ],
    instance_type: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="The machine. Default: m5d.large; m6gd.large with --arm64."),
    ] = None,
    arm64: Annotated[bool, typer.Option("--arm64", help="Graviton machines. Default: no.")] = False,
    image_id: Annotated[
        str | None,
        typer.Option(
            metavar="AMI",
            help="The machine image, also one of your own with Docker, the CloudWatch agent and cloud-init on it. "
            "Default: the newest published one.",
        ),
    ] = None,
    image_has_agent: Annotated[
        bool | None,
        typer.Option(
            "--image-has-agent/--image-without-agent",
            show_default=False,
            help="Whether that image has solorun's agent; where not, it is brought when the machine boots. Default: "
            "releases of solorun have it, known by their name.",
        ),
    ] = None,
    boot_disk_gb: Annotated[
        int, typer.Option(metavar="GB", help=f"Size of the boot disk (gp3). Default: {catalog.BOOT_DISK_GB}.")
    ] = catalog.BOOT_DISK_GB,
    boot_disk_encrypted: Annotated[
        bool, typer.Option("--boot-disk-encrypted", help="Encrypt the boot disk. Default: no.")
    ] = False,
    boot_disk_kms_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The key to encrypt it with. Default: the account's own."),
    ] = None,
    subnet: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="May be repeated, tried in order. Default: the default VPC's."),
    ] = None,
    security_group: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="May be repeated. Default: the VPC's own.")
    ] = None,
    instance_profile: Annotated[
        str | None,
        typer.Option(metavar="NAME|ARN", help="What the machine may do in AWS; runs need it. Default: none."),
    ] = None,
    key_pair: Annotated[
        str | None, typer.Option(metavar="NAME", help="EC2 key pair for SSH. Default: none.")
    ] = None,
    log_group: Annotated[
        str, typer.Option(metavar="NAME", help=f"CloudWatch log group. Default: {catalog.LOG_GROUP}.")
    ] = catalog.LOG_GROUP,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="AWS profile. Default: what the AWS SDK finds.")
    ] = None,
    nextflow_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Nextflow configuration for every run. Default: none.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="K=V",
            help="Environment variable of every container; head:K=V for Nextflow's alone, compute:K=V for the "
            "tasks' alone. May be repeated. Default: none.",
        ),
    ] = None,
    pre_run: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Script before Nextflow, up to 1024 bytes. Default: none."),
    ] = None,
    post_run: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Script after Nextflow, up to 1024 bytes. Default: none."),
    ] = None,
    time_limit: Annotated[
        str, typer.Option(metavar="DURATION", help=f"Limit of a run. Default: {catalog.TIME_LIMIT}.")
    ] = catalog.TIME_LIMIT,
    local: Annotated[
        bool, typer.Option("--local", help="In the local cloud, without an AWS account. Default: no.")
    ] = False,
) -> None:
    """Add a compute environment: a YAML file in the config folder. AWS is not asked yet.

    \b
    Examples:
      launcher compute-envs add main --region eu-west-1 --work-dir s3://my-bucket/solorun --instance-profile solorun
      launcher compute-envs add arm --region us-east-1 --work-dir s3://my-bucket/arm --instance-profile solorun --arm64
    """
    envs = ComputeEnvs(settings_of(ctx).config_dir)
    given: dict[str, Any] = {
        "name": name,
        "local": local,
        "region": region,
        "work_dir": work_dir,
        "profile": profile,
        "arm64": arm64,
        "instance_type": instance_type,
        "image_id": image_id,
        "image_has_agent": image_has_agent,
        "boot_disk_gb": boot_disk_gb,
        "boot_disk_encrypted": boot_disk_encrypted,
        "boot_disk_kms_key": boot_disk_kms_key,
        "key_pair": key_pair,
        "instance_profile": instance_profile,
        "subnets": tuple(subnet or ()),
        "security_groups": tuple(security_group or ()),
        "log_group": log_group,
        "environment": _environment(env or []),
        "nextflow_config": read_text(nextflow_config, "Nextflow configuration"),
        "pre_run_script": read_text(pre_run, "pre-run script"),
        "post_run_script": read_text(post_run, "post-run script"),
        "time_limit": time_limit,
    }
    path = envs.add(build(given, name))
    console.say(f"Added the compute environment {name}: {path}")


@app.command("list")
def list_(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the compute environments."""
    envs = ComputeEnvs(settings_of(ctx).config_dir)
    found = envs.all()
    if as_json:
        console.emit_json([_as_json(ce, envs) for ce in found])
    elif not found:
        console.say("There is no compute environment yet; make one: launcher compute-envs add")
    else:
        default = envs.default()
        rows = [
            (
                ce.name + (" (default)" if ce.name == default else ""),
                "local" if ce.local else "aws",
                ce.region,
                ce.machine_type,
                ce.work_dir,
            )
            for ce in found
        ]
        console.table(("NAME", "CLOUD", "REGION", "MACHINE", "WORK DIR"), rows)


@app.command()
def view(ctx: typer.Context, name: NameArgument, as_json: JsonOption = False) -> None:
    """Show a compute environment with all its values, those left to the default too."""
    envs = ComputeEnvs(settings_of(ctx).config_dir)
    ce = envs.get(name)
    if as_json:
        console.emit_json(_as_json(ce, envs))
        return
    values = {**ce.model_dump(mode="json"), "instance_type": ce.machine_type}
    pairs = [(key.replace("_", " "), _text(value)) for key, value in values.items()]
    variables = "\n".join(f"{item.name}={item.value} ({item.target})" for item in ce.environment)
    console.fields([(key, variables if key == "environment" else value) for key, value in pairs])
    console.fields([("file", str(envs.path(name)))])


@app.command()
def delete(ctx: typer.Context, name: NameArgument) -> None:
    """Remove a compute environment from this computer. Runs in S3 and machines stay."""
    ComputeEnvs(settings_of(ctx).config_dir).delete(name)
    console.say(f"Removed the compute environment {name}; its runs in S3 stay")


@app.command()
def default(ctx: typer.Context, name: NameArgument) -> None:
    """Use this compute environment where no other is named."""
    ComputeEnvs(settings_of(ctx).config_dir).set_default(name)
    console.say(f"{name} is now the default compute environment")


def _environment(items: list[str]) -> tuple[EnvVar, ...]:
    variables = []
    problems = []
    for item in items:
        match = _ENV.fullmatch(item)
        if match is None:
            problems.append(f"--env {item.partition('=')[0]!r}: write it like --env NAME=VALUE")
        else:
            target = EnvTarget(match[1]) if match[1] else EnvTarget.BOTH
            variables.append(EnvVar(name=match[2], value=match[3], target=target))
    if problems:
        raise UserError("The compute environment was not added", problems=tuple(problems))
    return tuple(variables)


def _as_json(ce: ComputeEnv, envs: ComputeEnvs) -> dict[str, Any]:
    values = {**ce.model_dump(mode="json"), "instance_type": ce.machine_type}
    return {**values, "default": ce.name == envs.default(), "file": str(envs.path(ce.name))}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return "" if value is None else str(value)
