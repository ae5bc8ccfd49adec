"""The agent's side of Docker against a real daemon; its fake keeps the same promises."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.clock import Deadline, SystemClock
from agent.container_plan import (
    ROLE_LABEL,
    RUN_LABEL,
    WORK_DIR_LABEL,
    ContainerPlan,
    Exited,
    Mount,
    Role,
    Running,
)
from agent.containers import Containers, open_containers
from agent.errors import DockerError, ImageUnavailable
from launcher.catalog import NEXTFLOW_IMAGE
from tests.fakes.containers import FakeContainers, Program
from tests.fakes.docker_relay import Relay

SAYS = ("/bin/sh", "-c", "echo one; echo two >&2; exit 3")
SLEEPS = ("/bin/sleep", "300")
IGNORES_TERM = ("/bin/sh", "-c", "trap '' TERM; while :; do /bin/sleep 1; done")
MISSING = "127.0.0.1:1/nobody/nothing:1"
Either = Containers | FakeContainers


@pytest.fixture
def docker() -> Iterator[Containers]:
    with open_containers() as containers:
        yield containers


@pytest.fixture(params=["docker", "fake"])
def containers(request: pytest.FixtureRequest, docker: Containers) -> Either:
    if request.param == "docker":
        return docker
    return FakeContainers(
        programs={
            SAYS: Program(b"one\ntwo\n", 3),
            SLEEPS: Program(code=None),
            IGNORES_TERM: Program(code=None, ignores_term=True),
        },
        images={NEXTFLOW_IMAGE},
    )


@pytest.fixture
def run_id(docker: Containers) -> Iterator[str]:
    run_id = f"test-{uuid.uuid4().hex[:12]}"
    yield run_id
    docker.sweep(run_id, in_seconds(30))


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "workload.log"


def in_seconds(seconds: float) -> Deadline:
    return Deadline.after(seconds, SystemClock())


def plan(
    run_id: str, command: tuple[str, ...], role: Role = Role.WORKLOAD, image: str = NEXTFLOW_IMAGE
) -> ContainerPlan:
    return ContainerPlan(
        image=image,
        command=command,
        name=f"{run_id}-{role}-{uuid.uuid4().hex[:6]}",
        labels={RUN_LABEL: run_id, ROLE_LABEL: role.value},
    )


# --- the contract, held by the fake as well -----------------------------------------------------------------


def test_output_is_the_spool(containers: Either, run_id: str, spool: Path) -> None:
    """Both streams of the command are appended to the spool, and the exit code is the command's."""
    spool.write_bytes(b"before\n")
    exit_ = containers.wait(containers.start(plan(run_id, SAYS), spool))
    assert (exit_.code, exit_.oom_killed, exit_.error) == (3, False, "")
    assert spool.read_bytes() == b"before\none\ntwo\n"


def test_find_follows_a_container(containers: Either, run_id: str, spool: Path) -> None:
    """A run's container is found while it runs and when it has ended, and not before it was started."""
    assert containers.find(run_id) is None
    container_id = containers.start(plan(run_id, SLEEPS), spool)
    running = containers.find(run_id)
    assert isinstance(running, Running)
    assert running.id == container_id
    containers.stop(container_id, 0)
    assert containers.wait(container_id).code in (137, 143)
    exited = containers.find(run_id)
    assert isinstance(exited, Exited)
    assert exited.id == container_id
    assert containers.find(run_id, Role.TASK) is None


def test_stop_kills_what_ignores_it(containers: Either, run_id: str, spool: Path) -> None:
    """A command that ignores TERM is killed after the grace."""
    container_id = containers.start(plan(run_id, IGNORES_TERM), spool)
    containers.stop(container_id, 1)
    assert containers.wait(container_id).code == 137


def test_what_is_gone_may_be_stopped_and_removed(containers: Either, run_id: str, spool: Path) -> None:
    """Stopping and removing again what has ended or is gone is no error; waiting for it is."""
    container_id = containers.start(plan(run_id, SAYS), spool)
    containers.wait(container_id)
    containers.stop(container_id, 1)
    containers.remove(container_id)
    containers.remove(container_id)
    containers.stop(container_id, 1)
    with pytest.raises(DockerError, match="not there any more"):
        containers.wait(container_id)


def test_sweep_takes_all_of_one_run(containers: Either, run_id: str, spool: Path) -> None:
    """Running and ended containers of the run are swept, tasks too; those of another run stay."""
    other = f"{run_id}-other"
    try:
        kept = containers.start(plan(other, SLEEPS), spool)
        ids = [containers.start(plan(run_id, SLEEPS, Role.TASK), spool) for _ in range(3)]
        containers.wait(containers.start(plan(run_id, SAYS), spool))
        assert {listed.id for listed in containers.running(run_id)} == set(ids)
        assert len(containers.sweep(run_id, in_seconds(30))) == 4
        assert containers.sweep(run_id, in_seconds(0)) == ()
        assert [listed.id for listed in containers.running(other)] == [kept]
    finally:
        containers.sweep(other, in_seconds(30))


def test_missing_image(containers: Either, run_id: str, spool: Path) -> None:
    """An image that cannot be had is named, with what the daemon said and what to do."""
    with pytest.raises(
        ImageUnavailable, match=f"{MISSING} is not on the machine and could not be pulled: .+"
    ):
        containers.ensure_image(MISSING)
    with pytest.raises(ImageUnavailable, match=MISSING):
        containers.start(plan(run_id, SAYS, image=MISSING), spool)
    containers.ensure_image(NEXTFLOW_IMAGE)


def test_an_archive_becomes_an_image(docker: Containers) -> None:
    """What `docker image save` wrote is loaded; one that is cut off or holds another image is an error."""
    image = f"solorun/test-archive:{uuid.uuid4().hex[:8]}"
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("file"))
        subprocess.run(
            ["docker", "import", "-", image], input=buffer.getvalue(), check=True, capture_output=True
        )
    try:
        saved = subprocess.run(["docker", "image", "save", image], check=True, capture_output=True).stdout
        subprocess.run(["docker", "image", "rm", image], check=True, capture_output=True)
        assert not docker.has_image(image)

        def cut_off() -> Iterator[bytes]:
            yield saved[:-2000]
            raise ImageUnavailable("cut off")

        with pytest.raises(ImageUnavailable, match="cut off"):
            docker.load_image(image, cut_off())
        assert not docker.has_image(image)
        with pytest.raises(ImageUnavailable, match="could not be loaded"):
            docker.load_image(image, iter([b"no archive at all"]))
        with pytest.raises(ImageUnavailable, match="holds another image"):
            docker.load_image(MISSING, iter([gzip.compress(saved)]))
        docker.load_image(image, iter([gzip.compress(saved)]))
        assert docker.has_image(image)
    finally:
        subprocess.run(["docker", "image", "rm", "--force", image], check=False, capture_output=True)


# --- Docker alone -------------------------------------------------------------------------------------------


def test_output_outlives_the_client(docker: Containers, run_id: str, spool: Path) -> None:
    """Output goes on when the client that started the container has gone; another one reads the exit code."""
    with open_containers() as first:
        script = 'while ! test -e "$0.go"; do /bin/sleep 0.05; done; echo after; exit 5'
        container_id = first.start(plan(run_id, ("/bin/sh", "-c", script, str(spool))), spool)
    Path(f"{spool}.go").touch()
    assert docker.wait(container_id).code == 5
    assert spool.read_text() == "after\n"


def test_plan_is_kept(docker: Containers, run_id: str, spool: Path, tmp_path: Path) -> None:
    """Environment, mounts, working folder and user are the plan's; values may hold anything."""
    value = "a $HOME `id` \"'\\ \n end"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("mounted\n")
    spec = ContainerPlan(
        image=NEXTFLOW_IMAGE,
        command=(
            "/bin/sh",
            "-c",
            'printf %s "$V"; cat /data/file; pwd; id -u; touch /data/x || echo read-only',
        ),
        name=run_id,
        labels={RUN_LABEL: run_id},
        environment={"V": value},
        mounts=(Mount(str(tmp_path / "in"), "/data", read_only=True),),
        working_dir="/opt",
        user="0:0",
        network_mode="none",
    )
    docker.wait(docker.start(spec, spool))
    said = spool.read_text()
    assert said.startswith(f"{value}mounted\n/opt\n0\n")
    assert said.endswith("read-only\n")


def test_image_without_shell(docker: Containers, run_id: str, spool: Path) -> None:
    """An image without /bin/sh is refused with a sentence that says so, and leaves no container."""
    image = f"solorun-test/empty:{run_id}"
    archive = io.BytesIO()
    tarfile.open(fileobj=archive, mode="w").close()
    subprocess.run(
        ["docker", "import", "-", image], input=archive.getvalue(), check=True, capture_output=True
    )
    try:
        with pytest.raises(DockerError, match="has no /bin/sh"):
            docker.start(plan(run_id, SAYS, image=image), spool)
        assert docker.find(run_id) is None
        assert docker.sweep(run_id, in_seconds(10)) == ()
    finally:
        subprocess.run(["docker", "rmi", image], check=True, capture_output=True)


def test_missing_command(docker: Containers, run_id: str, spool: Path) -> None:
    """A command that the image lacks ends with 127 and a line in the spool."""
    exit_ = docker.wait(docker.start(plan(run_id, ("no-such-command",)), spool))
    assert exit_.code == 127
    assert "no-such-command: not found" in spool.read_text()


def test_missing_mount(docker: Containers, run_id: str, spool: Path) -> None:
    """A folder that is to be mounted and is not there is an error, and is not made by Docker."""
    spec = plan(run_id, SAYS)
    spec = ContainerPlan(
        spec.image, spec.command, spec.name, spec.labels, mounts=(Mount("/nowhere/at/all", "/x"),)
    )
    with pytest.raises(DockerError, match="not on the machine"):
        docker.start(spec, spool)
    assert not Path("/nowhere").exists()


def test_never_started_container_is_replaced(docker: Containers, run_id: str, spool: Path) -> None:
    """A container that was made but never started, as the agent was killed in between, does not count."""
    spec = plan(run_id, SAYS)
    subprocess.run(
        ["docker", "create", "--name", spec.name, "--label", f"{RUN_LABEL}={run_id}",
         "--label", f"{ROLE_LABEL}={Role.WORKLOAD}", NEXTFLOW_IMAGE, "true"],
        check=True, capture_output=True,
    )  # fmt: skip
    assert docker.find(run_id) is None
    assert docker.wait(docker.start(spec, spool)).code == 3


def test_out_of_memory_is_seen(docker: Containers, run_id: str) -> None:
    """A task that the kernel killed for want of memory is named, though its container has removed itself."""
    since = datetime.now(UTC) - timedelta(seconds=2)
    name = f"nxf-{run_id}"
    # The shell outlives what is killed: Docker may lose the report of a container that is over at once.
    script = "sleep 1; tail /dev/zero; sleep 2"
    subprocess.run(
        ["docker", "run", "--rm", "--name", name, "--label", f"{RUN_LABEL}={run_id}",
         "--label", f"{WORK_DIR_LABEL}=/work/ab", "--memory", "64m",
         "--memory-swap", "64m", "--network", "none", NEXTFLOW_IMAGE, "sh", "-c", script],
        check=False, capture_output=True,
    )  # fmt: skip
    assert docker.out_of_memory(run_id, since) == ("/work/ab",)
    assert docker.out_of_memory(f"{run_id}-other", since) == ()


def test_plugins_by_label(docker: Containers) -> None:
    """Our image without plugins says so; of an image that says nothing they are assumed."""
    label = subprocess.run(
        ["docker", "inspect", "-f", '{{index .Config.Labels "solorun.nextflow.plugins"}}', NEXTFLOW_IMAGE],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert docker.has_plugins(NEXTFLOW_IMAGE) is bool(label.stdout.strip())


def test_no_daemon(tmp_path: Path) -> None:
    """Without a daemon the error says that it does not answer and where to look."""
    with (
        pytest.raises(DockerError, match=r"daemon does not answer.*systemctl status docker"),
        open_containers(f"unix://{tmp_path}/no.sock"),
    ):
        pass


def test_sweep_is_bounded(docker: Containers, run_id: str, spool: Path) -> None:
    """When the deadline has passed the sweep names what is left instead of going on."""
    spec = plan(run_id, SLEEPS)
    docker.start(spec, spool)
    with pytest.raises(DockerError, match=f"1 containers .*{spec.name}"):
        docker.sweep(run_id, in_seconds(0))


# --- a daemon that comes and goes ---------------------------------------------------------------------------


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    relay = Relay(
        Path(os.path.relpath(tmp_path)) / "d.sock" if len(str(tmp_path)) > 90 else tmp_path / "d.sock"
    )
    yield relay
    relay.close()


def waiting(containers: Containers, container_id: str) -> tuple[threading.Thread, list[object]]:
    """A thread that waits for the container, and what came of it."""
    results: list[object] = []

    def wait() -> None:
        try:
            results.append(containers.wait(container_id))
        except DockerError as error:
            results.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread, results


def test_wait_survives_a_lost_connection(docker: Containers, run_id: str, spool: Path, relay: Relay) -> None:
    """A wait whose connection is cut, again and again, still ends with the container's exit code."""
    container_id = docker.start(plan(run_id, SLEEPS), spool)
    with open_containers(relay.url, pause=lambda _seconds: None) as through:
        thread, results = waiting(through, container_id)
        for _ in range(3):
            assert relay.accepted.acquire(timeout=60)
            relay.cut()
        docker.stop(container_id, 0)
        thread.join(60)
    assert [getattr(result, "code", result) for result in results] == [137]


def test_wait_gives_up_on_a_daemon_that_stays_away(
    docker: Containers, run_id: str, spool: Path, relay: Relay
) -> None:
    """A daemon that stays away for two minutes ends the wait with an error that says so."""

    class Jumping(SystemClock):
        ahead = 0.0

        def monotonic(self) -> float:
            return super().monotonic() + self.ahead

    clock = Jumping()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        clock.ahead += 30.0

    container_id = docker.start(plan(run_id, SLEEPS), spool)
    with open_containers(relay.url, clock, pause) as through:
        relay.refuse = True
        relay.cut()
        thread, results = waiting(through, container_id)
        thread.join(60)
    assert isinstance(results[0], DockerError)
    assert "does not answer" in str(results[0])
    assert 3 <= len(pauses) <= 5
