"""The report for people, and as JSON for programs."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from pydantic import TypeAdapter
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agent.doctor.checks import Finding, Level, Part, Report, State, Verdict

_REPORT: Final = TypeAdapter(Report)
_HEADINGS: Final = {
    Part.IMAGE: "The machine image",
    Part.INSTANCE: "The instance",
    Part.AWS: "AWS from here",
}
_VERDICTS: Final = {
    Verdict.READY: ("This machine can execute runs.", "bold green"),
    Verdict.NOT_READY: ("This machine is not ready to execute runs.", "bold red"),
    Verdict.UNSURE: ("Whether this machine can execute runs could not be found out.", "bold yellow"),
}


def to_json(report: Report) -> str:
    """The report as one JSON object, indented."""
    return _REPORT.dump_json(report, indent=2).decode()


def json_schema() -> dict[str, Any]:
    """What `to_json` writes, as JSON Schema."""
    return _REPORT.json_schema(mode="serialization")


def print_report(report: Report, *, as_json: bool) -> None:
    """Print to standard output: JSON, or tables as wide as the terminal."""
    if as_json:
        print(to_json(report))
    else:
        show(report, Console())


def show(report: Report, console: Console) -> None:
    """Print the report: a table for each part, what is to be done below each finding, and the verdict."""
    for part, heading in _HEADINGS.items():
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(width=7)
        table.add_column(width=21)
        table.add_column(ratio=1, overflow="fold")
        for finding in report.findings:
            if finding.part is part:
                table.add_row(_state(finding), finding.title, _words(finding))
        console.print(Text(heading, style="bold"))
        console.print(Padding(table, (0, 0, 1, 2)))
    words, style = _VERDICTS[report.verdict]
    console.print(Text.assemble((words, style), f" {_counts(report)}"))
    if report.user_id != 0 and any(finding.state is State.UNKNOWN for finding in report.findings):
        console.print(Text("As root (sudo) the doctor sees more."))


def _state(finding: Finding) -> Text:
    if finding.state is State.MET:
        return Text("met", style="green")
    if finding.state is State.NOT_APPLICABLE:
        return Text("n/a", style="dim")
    required = finding.level is Level.REQUIRED
    if finding.state is State.UNKNOWN:
        return Text("unknown", style="yellow" if required else "dim yellow")
    return Text("NOT MET", style="bold red") if required else Text("advised", style="yellow")


def _words(finding: Finding) -> Text:
    found = Text(finding.found)
    if finding.advice:
        found.append(f"\n→ {finding.advice}", style="bold" if finding.level is Level.REQUIRED else "")
    return found


def _counts(report: Report) -> str:
    counted = Counter(_state(finding).plain for finding in report.findings)
    words = ("NOT MET", "unknown", "advised", "met")
    return ", ".join(f"{counted[word]} {word}" for word in words if counted[word]) + "."
