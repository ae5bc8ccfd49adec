"""Containers in memory, with the methods of agent.containers.Containers; the same contract tests run against both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from agent.clock import Deadline
from agent.container_errors import load_failed, pull_failed
from agent.container_plan import (
    ROLE_LABEL,
    RUN_LABEL,
    ContainerExit,
    ContainerPlan,
    Exited,
    Listed,
    Role,
    Running,
)
from agent.errors import AgentError, DockerError, ImageUnavailable

KILLED = 137
TERMINATED = 143


@dataclass(frozen=True)
class Program:
    """What a command does: what it prints, and its exit code; None for one that runs until it is stopped."""

    prints: bytes = b""
    code: int | None = 0
    ignores_term: bool = False


@dataclass
class FakeContainer:
    """One container; `exit` is None while it runs."""

    id: str
    plan: ContainerPlan
    program: Program
    exit: ContainerExit | None = None


@dataclass
class FakeContainers:
    """A machine's Docker daemon, as far as the agent uses it. A command that no one scripted raises."""

    programs: dict[tuple[str, ...], Program] = field(default_factory=dict)
    """What each command does; `()` stands for all commands that are not named."""
    images: set[str] = field(default_factory=set)
    """On the machine."""
    registry: set[str] = field(default_factory=set)
    """To be pulled."""
    images_without_plugins: set[str] = field(default_factory=set)
    failures: list[AgentError] = field(default_factory=list)
    """Raised by the next calls, one each."""
    on_start: Callable[[ContainerPlan], None] | None = None
    """Called when a container has been started: the workload's own doings."""
    containers: dict[str, FakeContainer] = field(default_factory=dict)
    pulled: list[str] = field(default_factory=list)
    stops: list[tuple[str, float]] = field(default_factory=list)
    """Ids and graces, in the order in which they were stopped."""
    killed_for_memory: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """A condition that is told of every change."""
        self._changed = threading.Condition(threading.RLock())

    # --- as agent.containers.Containers ---

    def ensure_image(self, image: str, timeout_s: float = 0.0) -> None:  # noqa: ARG002  # as the real one
        """Have the image; raises ImageUnavailable."""
        self._fail()
        if image in self.images:
            return
        if image not in self.registry:
            raise ImageUnavailable(pull_failed(image, "manifest unknown"))
        self.pulled.append(image)
        self.images.add(image)

    def has_image(self, image: str) -> bool:
        """Whether the image is on the machine."""
        self._fail()
        return image in self.images

    def load_image(self, image: str, archive: Iterator[bytes], timeout_s: float = 0.0) -> None:  # noqa: ARG002  # as the real one
        """An archive that is read to its end holds the image that is its text; raises ImageUnavailable."""
        self._fail()
        if b"".join(archive) != image.encode():
            raise ImageUnavailable(load_failed(image, "the archive holds another image"))
        self.images.add(image)

    def has_plugins(self, image: str) -> bool:
        """Whether the image was not said to be without."""
        self._fail()
        return image not in self.images_without_plugins

    def start(self, plan: ContainerPlan, spool: Path) -> str:
        """Start what the command stands for; it ends at once where its exit code is scripted."""
        self._fail()
        if plan.image not in self.images:
            raise ImageUnavailable(pull_failed(plan.image, "no such image"))
        program = self.programs.get(plan.command) or self.programs[()]
        with self._changed:
            if any(container.plan.name == plan.name for container in self.containers.values()):
                raise DockerError(f"a container {plan.name} is already in use")
            container_id = f"{len(self.containers) + 1:064x}"
            self.containers[container_id] = FakeContainer(container_id, plan, program)
        with spool.open("ab") as file:
            file.write(program.prints)
        if self.on_start is not None:
            self.on_start(plan)
        if program.code is not None:
            self.end(container_id, program.code)
        return container_id

    def find(self, run_id: str, role: Role = Role.WORKLOAD) -> Running | Exited | None:
        """The run's container of this role."""
        self._fail()
        with self._changed:
            for container in self._of(run_id):
                if container.plan.labels.get(ROLE_LABEL) == role:
                    if container.exit is not None:
                        return Exited(container.id, container.exit)
                    return Running(container.id, "2026-01-01T12:00:00Z")
        return None

    def wait(self, container_id: str) -> ContainerExit:
        """Wait for its end; raises DockerError where it was removed."""
        self._fail()
        with self._changed:
            while True:
                container = self.containers.get(container_id)
                if container is None:
                    raise DockerError(f"Container {container_id[:12]} is not there any more.")
                if container.exit is not None:
                    return container.exit
                self._changed.wait()

    def stop(self, container_id: str, grace_s: float) -> None:
        """End it: with 143, or 137 where it ignores TERM."""
        self._fail()
        self.stops.append((container_id, grace_s))
        container = self.containers.get(container_id)
        if container is not None and container.exit is None:
            self.end(container_id, KILLED if container.program.ignores_term else TERMINATED)

    def remove(self, container_id: str) -> None:
        """Forget it."""
        self._fail()
        with self._changed:
            self.containers.pop(container_id, None)
            self._changed.notify_all()

    def running(self, run_id: str) -> tuple[Listed, ...]:
        """Those of the run that run."""
        self._fail()
        with self._changed:
            return tuple(
                Listed(container.id, container.plan.name, container.plan.labels.get(ROLE_LABEL, ""))
                for container in self._of(run_id)
                if container.exit is None
            )

    def out_of_memory(self, run_id: str, since: datetime) -> tuple[str, ...]:  # noqa: ARG002  # as the real one
        """What the test says."""
        self._fail()
        return self.killed_for_memory

    def sweep(self, run_id: str, deadline: Deadline) -> tuple[str, ...]:  # noqa: ARG002  # nothing takes time here
        """Forget all of the run's."""
        self._fail()
        with self._changed:
            swept = self._of(run_id)
            for container in swept:
                del self.containers[container.id]
            self._changed.notify_all()
        return tuple(container.plan.name for container in swept)

    # --- for tests ---

    def end(self, container_id: str, code: int, *, oom_killed: bool = False, error: str = "") -> None:
        """The container ends by itself."""
        with self._changed:
            self.containers[container_id].exit = ContainerExit(code, oom_killed, error)
            self._changed.notify_all()

    def _of(self, run_id: str) -> list[FakeContainer]:
        return [c for c in self.containers.values() if c.plan.labels.get(RUN_LABEL) == run_id]

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
