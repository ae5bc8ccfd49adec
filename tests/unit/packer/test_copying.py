"""Ctrl-C while images are copied: real threads and a real signal; what AWS answers is made up."""

from __future__ import annotations

import signal
import threading
import time
from datetime import UTC, datetime

import boto3
import pytest

from launcher.catalog import Arch
from launcher.errors import Interrupted
from packer.release.aws import Aws
from packer.release.copying import Copying
from packer.release.images import Images
from packer.release.model import Encryption, Image, RegionOutcome

REGIONS = ("eu-west-1", "eu-north-1", "sa-east-1")
SOURCE = Image("ami-1", "solorun-x", "us-east-1", Arch.ARM64, "available", datetime(2026, 11, 1, tzinfo=UTC))


class ForEver(Images):
    """Copies that never get ready."""

    def named(self, region: str, name: str) -> Image:
        return Image("ami-2", name, region, Arch.ARM64, "pending", SOURCE.created)


class CtrlC:
    """A clock that stands still. Ctrl-C comes when every region waits for the first time."""

    def __init__(self) -> None:
        self._all_wait = threading.Barrier(len(REGIONS), action=self._press)
        self._pressed = threading.Event()

    def _press(self) -> None:
        self._pressed.set()
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    def now(self) -> datetime:
        return SOURCE.created

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        assert seconds <= 1, "nobody who waits should have to wait longer for the end"
        if self._pressed.is_set():
            time.sleep(0.001)
        else:
            self._all_wait.wait()


@pytest.mark.timeout(30)
def test_ctrl_c_ends_the_waiting_in_every_region() -> None:
    """Ctrl-C while regions wait ends all threads at once, says what goes on in AWS, and counts no region as failed."""
    told: list[RegionOutcome] = []
    copying = Copying(ForEver(Aws(boto3.Session())), CtrlC(), Encryption())
    with pytest.raises(Interrupted, match="AWS goes on with the copies") as broken_off:
        copying.everywhere({Arch.ARM64: SOURCE}, REGIONS, told.append)
    assert "Run this again" in broken_off.value.hint
    for thread in threading.enumerate():
        if thread.name.startswith("region"):
            # It was being started when Ctrl-C came, too early for the pool to wait for it.
            thread.join(10)
            assert not thread.is_alive()
    assert told == []
