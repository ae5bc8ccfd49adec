"""`launcher run`: start a pipeline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from launcher import catalog
from launcher.commands.launching import After, launch
from launcher.commands.shared import DryRunOption, FollowOption, JsonOption, WaitOption, settings_of
from launcher.compute_envs import ComputeEnvs
from launcher.request import Problems, RunArguments, read_request

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def run(
    ctx: typer.Context,
    pipeline: Annotated[
        str,
        typer.Argument(
            metavar="PIPELINE", help="A folder with the pipeline, a git URL, or OWNER/NAME on GitHub."
        ),
    ],
    compute_env: Annotated[
        str | None,
        typer.Option(
            "--compute-env",
            "-c",
            metavar="NAME",
            help="Where to run. Default: the default compute environment, or the only one.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="The run's name. Default: one is made up.")
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option("--revision", "-r", help="Branch, tag or commit. Default: the repository's own."),
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option("--profile", "-p", help="A Nextflow profile; may be repeated. Default: none."),
    ] = None,
    params_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Parameters, YAML or JSON; - reads them from stdin. Default: none."
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="A parameter; wins over the file; may be repeated. Default: none."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Nextflow configuration; wins over all other. Default: none."),
    ] = None,
    main_script: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The script in the pipeline. Default: the manifest's, or main.nf."),
    ] = None,
    stub_run: Annotated[
        bool, typer.Option("--stub-run", help="Run the tasks' stubs instead of their scripts. Default: no.")
    ] = False,
    work_dir: Annotated[
        str | None,
        typer.Option(metavar="S3-URI", help="Where the run is kept. Default: the compute environment's."),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help=f"The run is stopped after it: 90m, 4h, 1d12h. Default: the compute environment's "
            f"({catalog.TIME_LIMIT} where it says none).",
        ),
    ] = None,
    instance_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="The machine. Default: the compute environment's.")
    ] = None,
    boot_disk_gb: Annotated[
        int | None,
        typer.Option(metavar="GB", help="Size of the boot disk. Default: the compute environment's."),
    ] = None,
    spot: Annotated[
        bool, typer.Option("--spot", help="A Spot machine; implies --resumable. Default: on demand.")
    ] = False,
    resumable: Annotated[
        bool,
        typer.Option(
            "--resumable", help="Keep finished tasks in S3, so that a relaunch resumes. Default: no."
        ),
    ] = False,
    platform_token: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="Where the Seqera Platform token is kept, ssm:NAME or secretsmanager:NAME; turns on Wave and "
            "Fusion. Default: none.",
        ),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENV=REF",
            help="A secret by reference, such as DB_KEY=ssm:NAME; may be repeated. Default: none.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    follow: FollowOption = False,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a pipeline on a machine of its own.

    \b
    Examples:
      launcher run ./my-pipeline --param samples=3 --follow
      launcher run nextflow-io/hello -r master --wait SUCCEEDED
      launcher run ./my-pipeline --params-file params.yaml --spot --time-limit 4h
      launcher run ./my-pipeline --dry-run --json

    Exit codes: 0 done, 2 something in the input must change (nothing was started), 3 the run failed, 4 it was
    cancelled, 5 its machine was lost, 6 AWS could not do it now, 7 the state waited for was not reached.
    """
    settings = settings_of(ctx)
    arguments = RunArguments(
        pipeline=pipeline,
        name=name,
        revision=revision,
        profiles=tuple(profile or ()),
        params_file=params_file,
        params=tuple(param or ()),
        config=config,
        main_script=main_script,
        stub_run=stub_run,
        work_dir=work_dir,
        time_limit=time_limit,
        spot=spot,
        resumable=resumable,
        instance_type=instance_type,
        boot_disk_gb=boot_disk_gb,
        platform_token=platform_token,
        secrets=tuple(secret or ()),
    )
    problems = Problems()
    ce = problems.attempt(lambda: ComputeEnvs(settings.config_dir).choose(compute_env))
    read = problems.attempt(lambda: read_request(arguments, sys.stdin.read))
    problems.raise_if_any("The run was not started")
    if ce is None or read is None:
        raise RuntimeError("a missing value is always a problem")
    request, bundle = read
    launch(
        settings,
        ce,
        request,
        After(dry_run=dry_run, follow=follow, wait=wait, as_json=as_json),
        bundle=bundle.data if bundle else None,
    )
