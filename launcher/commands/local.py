"""`launcher local …`: the embedded default, AWS on this computer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from launcher import console
from launcher.commands.shared import JsonOption, settings_of

if TYPE_CHECKING:
    from launcher.localcloud.control import MachineReport
    from launcher.localcloud.state import LocalCloudState
    from launcher.settings import Settings

app = typer.Typer(
    help="The local cloud: the same commands without an AWS account.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)

COMPUTE_ENV: Final = "local"
"""The compute environment that stands for the local cloud."""


@app.command()
def up(ctx: typer.Context) -> None:
    """Start the local cloud, and make the compute environment `local` for it."""
    from launcher.localcloud import lifecycle
    from launcher.localcloud.state import current, default_folder

    settings = settings_of(ctx)
    folder = default_folder(settings.environ)
    was_up = current(folder) is not None
    state = lifecycle.up(
        folder, settings.environ, settings.clock, lambda text: console.say(f"local cloud: {text} …")
    )
    path = _make_compute_env(settings)
    console.say(f"The local cloud {'was up already' if was_up else 'is up'}: {state.endpoint_url}")
    if path:
        console.say(f"Compute environment {COMPUTE_ENV}: {path}")
    console.say(f"Next: launcher run PIPELINE -c {COMPUTE_ENV}")


@app.command()
def down(
    ctx: typer.Context,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, though runs are live. Default: no.")
    ] = False,
) -> None:
    """End the local cloud. Its runs and everything in its S3 are lost."""
    from launcher.localcloud import lifecycle
    from launcher.localcloud.state import current, default_folder

    settings = settings_of(ctx)
    folder = default_folder(settings.environ)
    state = current(folder)
    if state is not None and not yes:
        _ask_if_live(state)
    ended = lifecycle.down(folder, settings.environ, lambda text: console.say(f"local cloud: {text} …"))
    console.say(
        "The local cloud is down. Its runs and objects are gone." if ended else "The local cloud was not up."
    )


@app.command()
def status(
    ctx: typer.Context,
    as_json: JsonOption = False,
) -> None:
    """Show whether the local cloud is up, and its machines. Exits 0 in both cases."""
    from launcher.localcloud.client import ControlClient
    from launcher.localcloud.state import current, default_folder

    settings = settings_of(ctx)
    state = current(default_folder(settings.environ))
    if state is None:
        if as_json:
            console.emit_json({"up": False})
        else:
            console.data("The local cloud is down. Start it: launcher local up")
        return
    machines = ControlClient(state).machines()
    if as_json:
        console.emit_json(
            {
                "up": True,
                **state.model_dump(mode="json", exclude={"secret_key", "control_token", "access_key"}),
                "log": str(state.log),
                "machines": [machine.model_dump(mode="json") for machine in machines],
            }
        )
    else:
        _show(state, machines)


@app.command("spot-interrupt")
def spot_interrupt(
    ctx: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, a unique prefix of it, or its name.")
    ],
    seconds: Annotated[
        int,
        typer.Option(
            "--in",
            metavar="SECONDS",
            min=1,
            max=86_400,
            help="From the notice to the end. Default: 120, as on EC2.",
            show_default=False,
        ),
    ] = 120,
) -> None:
    """Take a run's machine back as EC2 does with Spot instances: a notice, then the end."""
    from launcher.errors import UserError
    from launcher.localcloud.client import ControlClient
    from launcher.localcloud.state import current, default_folder

    settings = settings_of(ctx)
    state = current(default_folder(settings.environ))
    if state is None:
        raise UserError("The local cloud is down", hint="Start it: launcher local up")
    client = ControlClient(state)
    machine = _machine_of(run, client.machines())
    ends_at = client.interrupt(machine.instance_id, seconds)
    if not machine.spot:
        console.say("The run was not started with --spot; on EC2 its machine would not be interrupted.")
    console.say(
        f"{machine.instance_id} ({machine.run_name or machine.run_id}) has its Spot notice; "
        f"it is terminated at {ends_at:%H:%M:%S} UTC at the latest."
    )
    console.say(f"Afterwards: launcher runs relaunch {machine.run_name or machine.run_id}")


def _ask_if_live(state: LocalCloudState) -> None:
    """Ask before live runs are lost.

    Raises:
        UserError: the answer is no, or there is nobody to ask.
    """
    from launcher.errors import CloudError, UserError
    from launcher.localcloud.client import ControlClient

    try:
        live = [machine for machine in ControlClient(state).machines() if machine.state != "off"]
    except CloudError as error:
        console.say(error.message)
        return
    if not live:
        return
    names = ", ".join(machine.run_name or machine.instance_id for machine in live)
    question = f"Still running: {names}. They and all objects in the local cloud will be lost. Go on?"
    if not sys.stdin.isatty() or not typer.confirm(question, err=True):
        raise UserError(
            f"The local cloud stays up: still running: {names}",
            hint="End it even so: launcher local down --yes",
        )


def _machine_of(run: str, machines: list[MachineReport]) -> MachineReport:
    """The machine that runs `run` now."""
    from launcher.errors import NotThere, UserError
    from launcher.text import did_you_mean

    live = [machine for machine in machines if machine.state not in ("ending", "off")]
    exact = [machine for machine in live if run in (machine.run_id, machine.run_name, machine.instance_id)]
    found = exact or [machine for machine in live if (machine.run_id or "").startswith(run)]
    if len(found) == 1:
        return found[0]
    names = [machine.run_name or machine.run_id or machine.instance_id for machine in found or live]
    if found:
        raise UserError(f"{run!r} means several runs: {', '.join(names)}", hint="Give more of the id.")
    hint = did_you_mean(run, names) or (
        f"Running now: {', '.join(names)}" if names else "No machine runs in the local cloud."
    )
    raise NotThere(f"No machine runs {run!r}", hint=hint)


def _make_compute_env(settings: Settings) -> str | None:
    """Write the compute environment unless there is one of its name.

    Returns:
        The new file's path.
    """
    from launcher.compute_envs import ComputeEnv, ComputeEnvs
    from launcher.localcloud.provision import INSTANCE_PROFILE, REGION, WORK_DIR

    envs = ComputeEnvs(settings.config_dir)
    if COMPUTE_ENV in envs.names():
        return None
    made = ComputeEnv(
        name=COMPUTE_ENV, local=True, region=REGION, work_dir=WORK_DIR, instance_profile=INSTANCE_PROFILE
    )
    return str(envs.add(made))


def _show(state: LocalCloudState, machines: list[MachineReport]) -> None:
    console.fields(
        [
            ("Endpoint", state.endpoint_url),
            ("Region", state.region),
            ("Up since", f"{state.started_at:%Y-%m-%d %H:%M:%S} UTC"),
            ("Server", f"pid {state.pid}"),
            ("Log", str(state.log)),
        ]
    )
    if not machines:
        console.data("No machine was started yet.")
        return
    console.data("")
    console.table(
        ["Machine", "Type", "State", "Run", ">Agent", ">Starts", "Spot notice", "Console"],
        [
            [
                machine.instance_id,
                machine.instance_type,
                machine.state,
                machine.run_name or machine.run_id or "-",
                str(machine.agent_pid or "-"),
                str(machine.agent_starts or "-"),
                f"{machine.interruption_at:%H:%M:%S}" if machine.interruption_at else "-",
                str(machine.console),
            ]
            for machine in machines
        ],
    )
