"""The commands: `check` says whether there is a new release, `pin` pins it, `run` releases it and commits the pins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from launcher.errors import CloudError
from packer.follow.amazon import newest
from packer.follow.claims import Claims, State
from packer.follow.decide import Decision, Newest, Verdict, decide, wakes
from packer.follow.pinning import commit, commit_message, following, push
from packer.follow.records import Records
from packer.release import notes, pins, plan
from packer.release.cli import (
    LAST,
    OUTPUT,
    PIN_FILE,
    Encrypted,
    KmsKey,
    Public,
    Regions,
    Settings,
    Share,
    Var,
    Without,
    listed,
    request_of,
    run_release,
    say,
    variables_of,
)
from packer.release.home import Tools
from packer.release.model import Encryption, Sharing

Region = Annotated[str, typer.Option(help="Where Amazon's parameters are read, and the images built.")]
Message = Annotated[str, typer.Option(help="What was received; empty: the daily check.")]


@dataclass(frozen=True)
class Wanted:
    """What a release shall be, whichever it is."""

    request: Callable[[pins.Pins], plan.Request]
    """What is asked for, given its pins."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """More variables of the template."""
    branch: str = ""
    """Where the pins are pushed to; empty: not."""
    records: Records | None = None
    """Where what is known of it is kept; None: on this computer alone."""


@dataclass(frozen=True)
class Following:
    """What a check needs; the release's own settings with it."""

    settings: Settings
    by: str
    """What is written into claims: the build's id."""

    @property
    def pin_file(self) -> Path:
        """The pin file."""
        return self.settings.root / PIN_FILE

    def decision(
        self, message: str, region: str, tools: Callable[[], Tools]
    ) -> tuple[Decision, Newest | str]:
        """What is to be done; AWS is asked only where the message is worth it."""
        pinned = pins.read(self.pin_file)
        asleep = wakes(message or None, pinned.releasever)
        if asleep is not None:
            return asleep, ""
        made = tools()
        found = newest(made.images, made.parameters, region, pinned.kernel)
        return decide(message or None, pinned.releasever, found), found

    def run(self, message: str, region: str, wanted: Wanted) -> str:
        """Release what is new; says what was done, or why nothing was.

        Raises:
            UserError: what is wanted cannot work; nothing was claimed.
            CloudError: the release failed in some region; the next check goes on with it.
        """
        # Before AWS is asked, and before the claim: as an attempt it would only be counted.
        plan.check(wanted.request(pins.read(self.pin_file)))
        tools = self.settings.tools()
        decision, found = self.decision(message, region, lambda: tools)
        if decision.verdict is not Verdict.BUILD or isinstance(found, str):
            return f"{decision.verdict}: {decision.why}"
        new = following(pins.read(self.pin_file), found)
        claims = Claims(tools.parameters, region)
        attempt = claims.take(decision.releasever, self.by, self.settings.clock.now())
        if isinstance(attempt, str):
            return attempt
        state = State.FAILED
        try:
            self._release(wanted.request(new), wanted)
            state = State.DONE
        finally:
            claims.settle(attempt, state, self.settings.clock.now())
        return f"{decision.releasever} is released"

    def _release(self, request: plan.Request, wanted: Wanted) -> None:
        root, new = self.settings.root, request.pins
        output = root / OUTPUT / new.release
        old = self.pin_file.read_text()
        self.pin_file.write_text(new.text())
        last = notes.read_last(root / LAST)
        failed: list[str] | None = None
        try:
            with wanted.records.kept(new.release, output, say) if wanted.records else nullcontext():
                failed = sorted(run_release(self.settings, request, dict(wanted.variables)).failed)
        finally:
            if failed != []:
                # Not released: the next check must find it newer than the pins.
                self.pin_file.write_text(old)
        if failed:
            raise CloudError(f"release {new.release} failed in {', '.join(failed)}")
        changed = notes.changes_by_arch(last, output)
        commit(root, [PIN_FILE, LAST], commit_message(new, last.release, changed))
        if wanted.branch:
            push(root, wanted.branch)


def make_app(following_settings: Following) -> typer.Typer:
    """The commands, for this environment."""
    app = typer.Typer(
        help="Follows Amazon Linux 2023; see docs/machine-image.md.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.command("check")
    def check(message: Message = "", region: Region = "us-east-1") -> None:
        """Say whether there is a new release to build."""
        decision, _ = following_settings.decision(message, region, following_settings.settings.tools)
        print(f"{decision.verdict}: {decision.why}")

    @app.command("pin")
    def pin(region: Region = "us-east-1") -> None:
        """Write Amazon's newest release into the pin file."""
        tools = following_settings.settings.tools()
        old = pins.read(following_settings.pin_file)
        found = newest(tools.images, tools.parameters, region, old.kernel)
        if isinstance(found, str):
            raise CloudError(found, hint="Amazon publishes for hours: try again later")
        new = following(old, found)
        following_settings.pin_file.write_text(new.text())
        print(new.release)

    @app.command("run")
    def run(
        message: Message = "",
        region: Region = "us-east-1",
        regions: Regions = "",
        without: Without = "",
        public: Public = False,
        share: Share = "",
        encrypted: Encrypted = False,
        kms_key: KmsKey = "",
        var: Var = None,
        push_to: Annotated[
            str, typer.Option(help="The branch that the pins are pushed to; empty: not.")
        ] = "",
        records: Annotated[
            str, typer.Option(help="s3://BUCKET/PREFIX, where the records of releases are kept as well.")
        ] = "",
    ) -> None:
        """Release what is new, and commit the pins with what changed."""
        settings = following_settings.settings

        def request(new: pins.Pins) -> plan.Request:
            sharing, encryption = Sharing(public, listed(share)), Encryption(encrypted, kms_key)
            return request_of(new, region, regions, without, sharing, encryption)

        wanted = Wanted(
            request,
            variables_of(var),
            push_to,
            Records(settings.aws(), region, records) if records else None,
        )
        say(following_settings.run(message, region, wanted))

    return app
