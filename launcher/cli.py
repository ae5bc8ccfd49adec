"""The launcher's commands, assembled; a group's module is imported when one of its commands is called."""

from __future__ import annotations

import importlib
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from launcher.errors import ExitCode, LauncherError, UserError

if TYPE_CHECKING:
    from launcher.settings import Settings

_COMMANDS: Final = {
    "run": ("launcher.commands.run", "Start a pipeline on a machine of its own."),
    "runs": ("launcher.commands.runs", "See, follow, end and repeat runs."),
    "compute-envs": ("launcher.commands.compute_envs", "Where runs go, and on what machine."),
    "local": ("launcher.commands.local", "The local cloud: the same commands without an AWS account."),
    "contract": ("launcher.commands.contract", "What launcher and agent agree on."),
}


class LazyGroup(TyperGroup):
    """Knows every command's name and one line of help; imports the rest when it is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_module, line) in _COMMANDS.items():
            self.add_command(TyperCommand(name, help=line, rich_markup_mode=None))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command, and put the real one in the place of its line of help."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in _COMMANDS:
            command = typer.main.get_command(importlib.import_module(_COMMANDS[name][0]).app)
            command.name = name
        return name, command, rest


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        # imported here: 30 ms that nothing else needs
        from importlib.metadata import version

        print(f"solorun {version('solorun')}")
        raise typer.Exit


@app.callback()
def launcher(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error. Default: no.")
    ] = False,
) -> None:
    """Run a Nextflow pipeline on one machine that starts in seconds, does one run, and is gone.

    \b
    First steps, without an AWS account:
      launcher local up
      launcher run ./my-pipeline --follow
      launcher runs list

    \b
    With AWS:
      launcher compute-envs add main --region eu-west-1 --work-dir s3://my-bucket/solorun --instance-profile solorun
      launcher run https://github.com/nextflow-io/hello -c main --follow
    """


def run(argv: Sequence[str], settings: Settings) -> int:
    """Run one command; returns its exit code. Whatever went wrong is said here, and only here."""
    # taken anywhere on the line: who wants a traceback repeats the command and appends it
    debug = "--debug" in argv
    argv = [argument for argument in argv if argument != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        # a log may hold characters that the terminal's encoding lacks
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    try:
        typer.main.get_command(app).main(args=argv, prog_name="launcher", obj=settings)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else ExitCode.INTERNAL
    except LauncherError as error:
        _tell(error, debug=debug)
        return error.exit_code
    except OSError as error:
        # the operator's own files: a full disk, a folder that may not be written
        where = f"{error.filename}: " if error.filename else ""
        _tell(UserError(f"{where}{error.strerror or error}"), debug=debug)
        return ExitCode.USER
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the top of the program: told shortly, and kept in a file
        _tell_unexpected(error, debug=debug)
        return ExitCode.INTERNAL
    return ExitCode.OK


def _tell(error: LauncherError, *, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    print(f"Error: {error.message}", file=sys.stderr)
    for problem in error.problems:
        print(f"  - {problem}", file=sys.stderr)
    if error.hint:
        print(f"Hint: {error.hint}", file=sys.stderr)


def _tell_unexpected(error: Exception, *, debug: bool) -> None:
    text = "".join(traceback.format_exception(error))
    if debug:
        print(text, file=sys.stderr)
        return
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="launcher-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
            where = f"Its traceback is in {file.name}"
    except OSError:
        where = "Run the command with --debug to see its traceback"
    print(f"Error: {type(error).__name__}: {error}", file=sys.stderr)
    print(f"This is an error of solorun itself. {where}", file=sys.stderr)
