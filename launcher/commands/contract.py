"""`launcher contract`: what launcher and agent agree on, for people and programs that read the files in S3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from agent.contract import json_schema
from launcher import console
from launcher.errors import UserError

app = typer.Typer(
    help="What launcher and agent agree on.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)


@app.callback()
def contract() -> None:
    """What launcher and agent agree on."""


@app.command()
def schema(
    check: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Compare with this file instead of printing. Default: print."),
    ] = None,
) -> None:
    """Print the JSON Schema of the files under a run's prefix.

    \b
    Examples:
      launcher contract schema > docs/contract.schema.json
      launcher contract schema --check docs/contract.schema.json
    """
    text = schema_text()
    if check is None:
        console.data(text.rstrip("\n"))
        return
    try:
        found = check.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{check} cannot be read: {error.strerror}") from None
    if found != text:
        raise UserError(
            f"{check} is not the schema of this version", hint=f"launcher contract schema > {check}"
        )
    console.say(f"{check} is the schema of this version")


def schema_text() -> str:
    """The schema as it is printed and checked in."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
