"""Cpu, memory, disk and network of the machine and of the run's containers, a JSON object a line.

A sample takes well under a millisecond beside one short question to Docker every ten seconds: the agent must
not take from the machine what it measures.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

from agent.cgroups import CGROUP_ROOT, read_usage
from agent.clock import Clock
from agent.container_plan import Listed
from agent.errors import DockerError
from agent.folder import RunFolder

log = logging.getLogger(__name__)

LIST_S: Final = 10.0
"""Docker is asked for the run's containers at most this often."""


class RunningContainers(Protocol):
    """Knows which containers of a run are there."""

    def running(self, run_id: str) -> Sequence[Listed]:
        """The run's containers that run now.

        Raises:
            DockerError: the daemon does not answer.
        """


@dataclass(frozen=True)
class ContainerSample:
    """One container: totals since its start, and its memory now."""

    id: str
    """The first twelve characters."""
    name: str
    role: str
    work_dir: str
    """Of a task, where it is known."""
    cpu_s: float
    memory_bytes: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class Sample:
    """The machine at one moment. Rates are means since the sample before; the first has zeros there."""

    at: str
    """UTC, ISO 8601."""
    cpu_percent: float
    """Of all cpus together, 0 to 100."""
    load_1m: float
    memory_used_bytes: int
    """What new programs could not have: total less available."""
    memory_total_bytes: int
    swap_used_bytes: int
    disk_used_bytes: int
    """Of the file system that holds the run's folder."""
    disk_free_bytes: int
    disk_read_bytes_s: float
    disk_written_bytes_s: float
    network_received_bytes_s: float
    network_sent_bytes_s: float
    containers: tuple[ContainerSample, ...]


@dataclass(frozen=True)
class _Totals:
    at: float
    read: int
    written: int
    received: int
    sent: int


class Metrics:
    """Samples of one run, appended to its metrics file."""

    def __init__(
        self,
        folder: RunFolder,
        containers: RunningContainers,
        run_id: str,
        clock: Clock,
        cgroup_root: Path = CGROUP_ROOT,
    ) -> None:
        self._folder = folder
        self._containers = containers
        self._run_id = run_id
        self._clock = clock
        self._cgroups = cgroup_root
        self._listed: Sequence[Listed] = ()
        self._listed_at: float | None = None
        self._before: _Totals | None = None

    def sample(self) -> Sample:
        """Measure, and append a line to the metrics file; one that cannot be written is lost, and logged."""
        sample = self.measure()
        try:
            self._append(sample)
        except OSError as error:
            log.warning("metrics not written: %s", error)
        return sample

    def measure(self) -> Sample:
        """The machine and the run's containers now."""
        import psutil

        totals, before = self._totals(), self._before
        self._before = totals
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self._folder.root))
        return Sample(
            at=self._clock.now().isoformat(timespec="milliseconds"),
            cpu_percent=psutil.cpu_percent(interval=None),
            load_1m=round(psutil.getloadavg()[0], 2),
            memory_used_bytes=memory.total - memory.available,
            memory_total_bytes=memory.total,
            swap_used_bytes=psutil.swap_memory().used,
            disk_used_bytes=disk.used,
            disk_free_bytes=disk.free,
            disk_read_bytes_s=_rate(totals, before, lambda t: t.read),
            disk_written_bytes_s=_rate(totals, before, lambda t: t.written),
            network_received_bytes_s=_rate(totals, before, lambda t: t.received),
            network_sent_bytes_s=_rate(totals, before, lambda t: t.sent),
            containers=self._container_samples(),
        )

    def _append(self, sample: Sample) -> None:
        import orjson

        line = orjson.dumps(asdict(sample)) + b"\n"
        with self._folder.metrics.open("ab") as file:
            file.write(line)

    def _totals(self) -> _Totals:
        import psutil

        disk, network = psutil.disk_io_counters(), psutil.net_io_counters()
        return _Totals(
            at=self._clock.monotonic(),
            read=disk.read_bytes if disk else 0,
            written=disk.write_bytes if disk else 0,
            received=network.bytes_recv,
            sent=network.bytes_sent,
        )

    def _container_samples(self) -> tuple[ContainerSample, ...]:
        samples = []
        for container in self._running():
            usage = read_usage(container.id, self._cgroups)
            if usage is not None:
                samples.append(
                    ContainerSample(
                        id=container.id[:12],
                        name=container.name,
                        role=container.role,
                        work_dir=container.work_dir,
                        **asdict(usage),
                    )
                )
        return tuple(samples)

    def _running(self) -> Sequence[Listed]:
        now = self._clock.monotonic()
        if self._listed_at is None or now - self._listed_at >= LIST_S:
            self._listed_at = now
            try:
                self._listed = self._containers.running(self._run_id)
            except DockerError as error:
                log.warning("metrics without containers: %s", error)
                self._listed = ()
        return self._listed


def _rate(totals: _Totals, before: _Totals | None, of: Callable[[_Totals], int]) -> float:
    if before is None or totals.at <= before.at:
        return 0.0
    return round(max(0, of(totals) - of(before)) / (totals.at - before.at), 1)
