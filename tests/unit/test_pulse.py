"""The agent's sign of life to systemd."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.pulse import Notifier, Pulse
from tests.fakes.clock import ScriptedClock


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(10)
        yield listening


def test_ready_comes_first_then_signs_of_life(systemd: socket.socket) -> None:
    """systemd hears that the agent is up, then of its life for as long as its promise holds."""
    with Pulse(Notifier(systemd.getsockname()), 0.3, SystemClock()) as pulse:
        assert systemd.recv(100) == b"READY=1"
        pulse.expect(60)
        assert [systemd.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3


def _hear(systemd: socket.socket, times: int) -> None:
    for _ in range(times):
        systemd.recv(100)


def test_a_broken_promise_stops_the_pulse(systemd: socket.socket) -> None:
    """When what was promised does not come, nothing more is sent, though the thread lives on."""
    clock = ScriptedClock()
    with Pulse(Notifier(systemd.getsockname()), 0.3, clock) as pulse:
        systemd.recv(100)
        pulse.expect(5)
        assert systemd.recv(100) == b"WATCHDOG=1"
        clock.advance(6)
        assert not pulse.alive
        systemd.settimeout(0.5)
        with pytest.raises(TimeoutError):
            _hear(systemd, 20)  # some may have been on their way


def test_a_new_promise_takes_the_place_of_the_old() -> None:
    """Who is heard of in time goes on living."""
    clock = ScriptedClock()
    pulse = Pulse(Notifier(None), None, clock)
    pulse.expect(5)
    clock.advance(4)
    pulse.expect(5)
    clock.advance(4)
    assert pulse.alive


def test_an_abstract_address_is_understood() -> None:
    """systemd may name a socket that has no file: an @ before its name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # Linux gives it an abstract name of its own
        listening.settimeout(10)
        name: bytes = listening.getsockname()
        Notifier("@" + name[1:].decode()).tell("READY=1")
        assert listening.recv(100) == b"READY=1"


def test_nobody_who_listens_is_no_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Outside of systemd nothing is sent; a socket that is gone is logged, and the run goes on."""
    Notifier(None).tell("READY=1")
    assert not caplog.records
    Notifier(str(tmp_path / "gone")).tell("READY=1")
    assert "could not be told" in caplog.text
