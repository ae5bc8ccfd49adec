"""`launcher runs`: assembled from what only reads and what acts."""

from __future__ import annotations

import typer

from launcher.commands.runs_acting import cancel, delete, relaunch
from launcher.commands.runs_reading import download, list_, logs, tasks, view

app = typer.Typer(
    help="See, follow, end and repeat runs.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)

app.command("list")(list_)
app.command()(view)
app.command()(logs)
app.command()(tasks)
app.command()(cancel)
app.command()(download)
app.command()(relaunch)
app.command()(delete)
