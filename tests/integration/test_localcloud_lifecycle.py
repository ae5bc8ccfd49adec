"""`up` and `down` of the local cloud: idempotent, closed to strangers, and nothing is left behind."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from launcher.clock import SystemClock
from launcher.commands.local import app
from launcher.errors import CloudError, NotThere, UserError
from launcher.localcloud import lifecycle
from launcher.localcloud.client import ControlClient
from launcher.localcloud.metadata_values import Credentials
from launcher.localcloud.processes import CLOUD_FOLDER, carrying
from launcher.localcloud.provision import Clients
from launcher.localcloud.state import current
from launcher.settings import Settings
from tests.integration.localcloud_tools import SERVER, CloudUser, cloud, containers_of, eventually, gone


def quiet(_text: str) -> None:
    """Nobody listens."""


def up_again(folder: Path) -> CloudUser:
    """`up`, whether or not it is up."""
    return CloudUser(lifecycle.up(folder, os.environ, SystemClock(), quiet, server_command=SERVER))


def test_up_is_idempotent_and_down_leaves_nothing(tmp_path: Path) -> None:
    """A second `up` finds the first; `down` ends live machines, containers and server, and removes every file."""
    folder = tmp_path / "localcloud"
    with cloud(folder) as user:
        assert up_again(folder).state == user.state
        assert current(folder) == user.state
        instance_id = user.start("hang with company")
        eventually((user.home(instance_id) / "company").exists, "company")
        pids = [user.state.pid, user.facts(instance_id)["pid"]]
    assert current(folder) is None
    assert containers_of(instance_id) == []
    assert all(gone(pid) for pid in pids)
    assert lifecycle.down(folder, os.environ, quiet) is False


def test_the_state_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """Its keys open everything, so nobody else may read it."""
    with cloud(tmp_path / "localcloud") as user:
        assert user.folder.state.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cleaned_by", ["up", "down"])
def test_a_crashed_server_is_cleaned_up_after(tmp_path: Path, cleaned_by: str) -> None:
    """After SIGKILL of the server its orphans are ended by the next `up`, or by `down`."""
    folder = tmp_path / "localcloud"
    with cloud(folder) as user:
        instance_id = user.start("hang with company")
        eventually((user.home(instance_id) / "company").exists, "company")
        orphans = [user.facts(instance_id)["pid"], int((user.home(instance_id) / "company").read_text())]
        server = psutil.Process(user.state.pid)
        server.kill()
        server.wait(60)
        assert current(folder) is None
        assert not any(gone(pid) for pid in orphans)
        assert len(containers_of(instance_id)) == 1
        if cleaned_by == "up":
            assert up_again(folder).state.cloud_id != user.state.cloud_id
            assert not user.home(instance_id).exists()
        else:
            assert lifecycle.down(folder, os.environ, quiet) is True
        assert all(gone(pid) for pid in orphans)
        assert containers_of(instance_id) == []


def test_sigterm_ends_the_server_in_order(tmp_path: Path) -> None:
    """A server that is told to end, by anybody, takes its machines along."""
    folder = tmp_path / "localcloud"
    with cloud(folder) as user:
        instance_id = user.start("hang with company")
        eventually((user.home(instance_id) / "company").exists, "company")
        os.kill(user.state.pid, signal.SIGTERM)
        eventually(lambda: gone(user.state.pid), "the server is gone")
        assert carrying(CLOUD_FOLDER, str(folder)) == []
        assert containers_of(instance_id) == []
        assert not user.folder.state.exists()


def test_strangers_are_refused_as_aws_does(tmp_path: Path) -> None:
    """A key that is not the cloud's own gets each service's own error, and starts nothing."""
    with cloud(tmp_path / "localcloud") as user:
        stranger = Clients(user.state.endpoint_url, Credentials("AKIASTRANGER", "x", ""))
        calls: dict[str, Callable[[], object]] = {
            "InvalidAccessKeyId": lambda: stranger.client("s3").list_buckets(),
            "AuthFailure": lambda: stranger.client("ec2").describe_instances(),
            "UnrecognizedClientException": lambda: stranger.client("logs").describe_log_groups(),
            "InvalidClientTokenId": lambda: stranger.client("sts").get_caller_identity(),
        }
        for code, call in calls.items():
            with pytest.raises(ClientError) as caught:
                call()
            assert caught.value.response["Error"]["Code"] == code
        with pytest.raises(CloudError):
            ControlClient(user.state.model_copy(update={"control_token": "wrong"})).machines()
        connection = http.client.HTTPConnection(user.state.endpoint_url.removeprefix("http://"), timeout=10)
        connection.request("POST", "/moto-api/reset")
        assert connection.getresponse().status == 403
        connection.close()
        assert user.clients.client("sts").get_caller_identity()["Account"] == "123456789012"


def test_what_the_launcher_expects_is_there(tmp_path: Path) -> None:
    """Bucket, log group, instance profile and the machine images' parameters exist from the start."""
    from launcher import catalog

    with cloud(tmp_path / "localcloud") as user:
        user.s3.head_bucket(Bucket="solorun-local")
        groups = user.clients.client("logs").describe_log_groups()["logGroups"]
        assert [group["logGroupName"] for group in groups] == [catalog.LOG_GROUP]
        user.clients.client("iam").get_instance_profile(InstanceProfileName="solorun-run-agent")
        for arch in catalog.Arch:
            parameter = user.clients.client("ssm").get_parameter(Name=catalog.image_parameter(arch))
            image_id = parameter["Parameter"]["Value"]
            images = user.ec2.describe_images(ImageIds=[image_id])["Images"]
            assert [image["Architecture"] for image in images] == [arch]


@pytest.mark.parametrize(
    ("docker_host", "path", "said"),
    [
        ("unix:///nonexistent/docker.sock", None, "does not run"),
        ("unix:///nonexistent/docker.sock", "/nonexistent", "not installed"),
        ("tcp://127.0.0.1:1", None, "does not run"),
    ],
)
def test_without_docker_nothing_is_started(
    tmp_path: Path, docker_host: str, path: str | None, said: str
) -> None:
    """No Docker, or none that answers: one clear sentence and what to do, before anything is started."""
    environ = {**os.environ, "DOCKER_HOST": docker_host, **({"PATH": path} if path else {})}
    folder = tmp_path / "localcloud"
    with pytest.raises(UserError, match=said) as caught:
        lifecycle.up(folder, environ, SystemClock(), quiet, server_command=SERVER)
    assert caught.value.hint
    assert caught.value.exit_code == 2
    assert carrying(CLOUD_FOLDER, str(folder)) == []


def test_a_server_that_cannot_start_is_told_with_its_log(tmp_path: Path) -> None:
    """When the server ends at once, the error carries the end of its log."""
    folder = tmp_path / "localcloud"
    (tmp_path / "path" / "moto").mkdir(parents=True)
    (tmp_path / "path" / "moto" / "__init__.py").write_text("raise ImportError('no moto today')")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "path")}
    with pytest.raises(UserError, match="ended with 1") as caught:
        lifecycle.up(folder, environ, SystemClock(), quiet, server_command=SERVER)
    assert "no moto today" in caught.value.hint
    assert carrying(CLOUD_FOLDER, str(folder)) == []
    lifecycle.down(folder, os.environ, quiet)
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A state folder that cannot be had is an error of the set-up, with the variable that chooses another."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be used") as caught:
        lifecycle.up(tmp_path / "file" / "localcloud", os.environ, SystemClock(), quiet)
    assert "SOLORUN_STATE_DIR" in caught.value.hint


def test_the_commands(tmp_path: Path) -> None:
    """up makes the compute environment, status tells as text and as JSON, an unknown run is one, down ends it."""
    environ = {
        **os.environ,
        "SOLORUN_STATE_DIR": str(tmp_path / "state"),
        "SOLORUN_CONFIG_DIR": str(tmp_path / "config"),
    }
    settings = Settings.from_environ(environ)
    runner = CliRunner()

    def launcher_local(*words: str) -> str:
        result = runner.invoke(app, words, obj=settings, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "down" in launcher_local("status")
    assert json.loads(launcher_local("status", "--json")) == {"up": False}
    with pytest.raises(UserError, match="is down"):
        launcher_local("spot-interrupt", "a-run")
    launcher_local("up")
    try:
        launcher_local("up")
        compute_env = (tmp_path / "config" / "compute-envs" / "local.yaml").read_text()
        assert "local: true" in compute_env
        status = json.loads(launcher_local("status", "--json"))
        assert status["up"] is True
        assert status["machines"] == []
        assert "secret_key" not in status
        assert status["endpoint_url"] in launcher_local("status")
        with pytest.raises(NotThere, match="No machine runs 'a-run'"):
            launcher_local("spot-interrupt", "a-run")
    finally:
        launcher_local("down", "--yes")
    assert "down" in launcher_local("status")
    assert not (tmp_path / "state" / "localcloud").exists()
