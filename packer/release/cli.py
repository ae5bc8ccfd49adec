"""The commands: `plan` prints what a release would do, `run` does it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from launcher.catalog import REGIONS
from launcher.clock import Clock
from launcher.errors import ExitCode, UserError
from packer.release import pins, plan, story
from packer.release.aws import Aws
from packer.release.building import Builder, make_wheel
from packer.release.commit import commit_of
from packer.release.home import Places, Tools
from packer.release.images import Images
from packer.release.looking import look
from packer.release.model import Encryption, Sharing
from packer.release.parameters import Parameters
from packer.release.record import Record, open_book

PIN_FILE: Final = Path("packer", "pins.auto.pkrvars.json")
LAST: Final = Path("packer", "released")
OUTPUT: Final = Path("build", "ami")


@dataclass(frozen=True)
class Settings:
    """What the environment gives; made by __main__, or by a test."""

    root: Path
    """The repository."""
    aws: Callable[[], Aws]
    builder: Callable[[], Builder]
    clock: Clock

    def tools(self) -> Tools:
        """What a release is made with."""
        aws = self.aws()
        return Tools(Images(aws), Parameters(aws), self.builder(), self.clock, say)


def say(text: str) -> None:
    """Tell the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


Region = Annotated[str, typer.Option(help="Where the images are built.")]
Regions = Annotated[str, typer.Option(help="Where they are published, by commas; default: all 22.")]
Without = Annotated[str, typer.Option(help="Regions to leave out, by commas: those that are not enabled.")]
Public = Annotated[bool, typer.Option("--public", help="Every AWS account may use the images.")]
Share = Annotated[str, typer.Option(help="Accounts that may use them, by commas.")]
Encrypted = Annotated[bool, typer.Option("--encrypted", help="Encrypt the snapshots.")]
KmsKey = Annotated[str, typer.Option(help="The key for that: an alias that exists in every region.")]
StoredGb = Annotated[float, typer.Option(help="What a snapshot holds, for the estimate of the cost.")]
Offline = Annotated[bool, typer.Option("--offline", help="Do not look at what is there already.")]
Var = Annotated[
    list[str] | None, typer.Option(help="NAME=VALUE: a variable of the template; may be repeated.")
]


def listed(text: str) -> tuple[str, ...]:
    """The parts of a list by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def request_of(
    pinned: pins.Pins,
    region: str,
    regions: str,
    without: str,
    sharing: Sharing,
    encryption: Encryption,
    stored_gb: float = plan.STORED_GB,
) -> plan.Request:
    """What the options ask for.

    Raises:
        UserError: a region is to be left out that is none of the release's.
    """
    named, left_out = listed(regions) or REGIONS, listed(without)
    wrong = tuple(f"{name!r} is none of {', '.join(named)}" for name in left_out if name not in named)
    if wrong:
        raise UserError("--without takes regions of the release", problems=wrong)
    chosen = tuple(name for name in named if name not in left_out)
    return plan.Request(pinned, region, chosen, sharing, encryption, stored_gb)


def make_app(settings: Settings) -> typer.Typer:
    """The commands, for this environment."""
    app = typer.Typer(
        help="Releases of the machine image; see docs/machine-image.md.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.command("plan")
    def show(
        region: Region = "us-east-1",
        regions: Regions = "",
        without: Without = "",
        public: Public = False,
        share: Share = "",
        encrypted: Encrypted = False,
        kms_key: KmsKey = "",
        stored_gb: StoredGb = plan.STORED_GB,
        offline: Offline = False,
    ) -> None:
        """Print what a release would do, and what its storage would cost."""
        request = request_of(
            pins.read(settings.root / PIN_FILE), region, regions, without,
            Sharing(public, listed(share)), Encryption(encrypted, kms_key), stored_gb,
        )  # fmt: skip
        made = plan.plan(request, {}) if offline else look(request, settings.tools())
        print(plan.text(made), end="")

    @app.command("run")
    def run(
        region: Region = "us-east-1",
        regions: Regions = "",
        without: Without = "",
        public: Public = False,
        share: Share = "",
        encrypted: Encrypted = False,
        kms_key: KmsKey = "",
        var: Var = None,
    ) -> None:
        """Build, prove, copy, write the notes, publish, retire; or go on where that was broken off."""
        request = request_of(
            pins.read(settings.root / PIN_FILE), region, regions, without,
            Sharing(public, listed(share)), Encryption(encrypted, kms_key),
        )  # fmt: skip
        record = run_release(settings, request, variables_of(var))
        print(settings.root / OUTPUT / record.release)
        if record.failed:
            raise typer.Exit(int(ExitCode.CLOUD))

    return app


def run_release(settings: Settings, request: plan.Request, variables: dict[str, str]) -> Record:
    """Make a release, and say how it ended."""
    release = request.pins.release
    output = settings.root / OUTPUT / release
    output.mkdir(parents=True, exist_ok=True)
    book = open_book(output, release, commit_of(settings.root))
    record = story.release(
        request,
        settings.tools(),
        Places(settings.root, output, settings.root / LAST),
        book,
        lambda: make_wheel(settings.root, output / "wheel"),
        variables,
    )
    if record.failed:
        say(
            f"Release {release} is published in {len(record.published)} regions, and failed in {len(record.failed)}:"
        )
        for name, problem in sorted(record.failed.items()):
            say(f"  {name}: {problem}")
        say("Run this again: it goes on with these. A region that is not enabled is left out by --without.")
    else:
        say(f"Release {release} is published in {len(record.published)} regions.")
    return record


def variables_of(given: list[str] | None) -> dict[str, str]:
    """The template's variables that --var names.

    Raises:
        UserError: one is not NAME=VALUE.
    """
    wrong = tuple(f"{item!r} is not NAME=VALUE" for item in given or [] if "=" not in item)
    if wrong:
        raise UserError("--var takes NAME=VALUE", problems=wrong)
    return {name: value for name, _, value in (item.partition("=") for item in given or [])}
