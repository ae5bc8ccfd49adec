"""What the benches compute: figures that are read from elsewhere, and the unit that stands in the agent's place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.bare_unit import AGENT_UNIT, BareUnit, unit_order
from tests.bench.boot_times import parse_boot_times

AGENTS_UNIT = """[Unit]
Description=Executes the run
Wants=network-online.target docker.socket
After=network-online.target docker.socket
# Before anything else? No.
OnFailure=gave-up.service
[Service]
ExecStart=/opt/agent
"""


def bare() -> BareUnit:
    return BareUnit("tools:1", ("echo", "it's done"), Path("/scratch/bare"))


def test_a_boot_that_is_over_has_a_length() -> None:
    """The difference between userspace's begin and the last job's end, in seconds."""
    times = parse_boot_times("UserspaceTimestampMonotonic=1000000\nFinishTimestampMonotonic=2669000\n")
    assert times.userspace_s == pytest.approx(1.669)


def test_a_boot_that_goes_on_has_none() -> None:
    """systemd shows 0 for what has not happened."""
    assert (
        parse_boot_times("UserspaceTimestampMonotonic=1000000\nFinishTimestampMonotonic=0\n").userspace_s
        is None
    )


@pytest.mark.parametrize(
    "shown", ["", "UserspaceTimestampMonotonic=1\n", "UserspaceTimestampMonotonic=n/a\n"]
)
def test_an_answer_without_the_figures_is_an_error(shown: str) -> None:
    """Silence is never taken for a boot of no time."""
    with pytest.raises(ValueError, match="FinishTimestampMonotonic"):
        parse_boot_times(shown)


def test_the_bare_unit_is_ordered_as_the_agents(tmp_path: Path) -> None:
    """It starts after and with the same, and is not asked anything else of the agent's unit."""
    unit = tmp_path / AGENT_UNIT
    unit.parent.mkdir(parents=True)
    unit.write_text(AGENTS_UNIT)
    text = bare().files(tmp_path)[f"/{AGENT_UNIT}"]
    assert unit_order(text) == unit_order(AGENTS_UNIT)
    assert "OnFailure" not in text
    assert "/opt/agent" not in text


def test_a_unit_without_an_order_is_an_error(tmp_path: Path) -> None:
    """A comparison with a unit that starts at another moment would mean nothing."""
    unit = tmp_path / AGENT_UNIT
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/opt/agent\n")
    with pytest.raises(ValueError, match="starts after"):
        bare().files(tmp_path)


def test_the_bare_unit_takes_its_words_as_they_are(tmp_path: Path) -> None:
    """Quotes in the command are the container's; `ended` is made when the container is gone, before the power off."""
    unit = tmp_path / AGENT_UNIT
    unit.parent.mkdir(parents=True)
    unit.write_text(AGENTS_UNIT)
    files = bare().files(tmp_path)
    program = next(text for path, text in files.items() if path != f"/{AGENT_UNIT}")
    made, run, ended, off = program.splitlines()
    assert made == "mkdir -p /scratch/bare"
    assert run.endswith("""/scratch/bare/output echo 'it'"'"'s done'""")
    assert (ended, off) == ("touch /scratch/bare/ended", "systemctl poweroff")
