"""The simulated metadata service answers as EC2's does."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.utils import InstanceMetadataFetcher

from agent.metadata import MetadataService, SpotNotice
from launcher.localcloud.metadata_service import MetadataServer, Question, by_secret_path
from launcher.localcloud.metadata_values import (
    Credentials,
    InstanceMetadata,
    Interruption,
    leaves,
    look_up,
)

NOW = datetime(2026, 1, 1, 8, 0, tzinfo=UTC)
ONE = InstanceMetadata(
    instance_id="i-1",
    instance_type="m5d.large",
    image_id="ami-1",
    architecture="x86_64",
    account_id="123456789012",
    region="us-east-1",
    availability_zone="us-east-1a",
    private_ip="10.0.0.1",
    pending_time=NOW - timedelta(minutes=1),
    user_data=b"\x00binary",
    tags={"Name": "one", "solorun:run": "r"},
    role="solorun-agent",
    credentials=Credentials("ASIAONE", "secret", "session"),
)


class Cloud:
    """Two instances, each under a secret of its own, on a clock that tests turn."""

    def __init__(self) -> None:
        self.now = NOW
        self.instances = {"s1": ONE, "s2": replace(ONE, instance_id="i-2", user_data=None, tags=None)}
        identify = by_secret_path(self.instances.get)
        self.server = MetadataServer(("127.0.0.1", 0), identify, now=lambda: self.now)

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, bytes]:
        address = self.server.endpoint_url.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=60)
        try:
            names = {"ttl": "X-aws-ec2-metadata-token-ttl-seconds", "token": "X-aws-ec2-metadata-token"}
            sent = {names.get(name, name.replace("_", "-")): value for name, value in headers.items()}
            connection.request(method, path, headers=sent)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def token(self, instance: str = "s1", ttl: str = "60") -> str:
        status, body = self.ask("PUT", f"/{instance}/latest/api/token", ttl=ttl)
        assert status == 200
        return body.decode()


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud()
    with made.server:
        yield made


@pytest.mark.parametrize("ttl", ["", "0", "21601", "-1", "x"])
def test_a_token_needs_a_time_to_live(cloud: Cloud, ttl: str) -> None:
    """Without a TTL of 1 to 21,600 seconds there is no token, but a 400."""
    assert cloud.ask("PUT", "/s1/latest/api/token", ttl=ttl)[0] == 400


def test_a_proxy_gets_no_token(cloud: Cloud) -> None:
    """A request that was forwarded is refused, as on EC2."""
    assert cloud.ask("PUT", "/s1/latest/api/token", ttl="60", X_Forwarded_For="10.0.0.9")[0] == 403


@pytest.mark.parametrize("path", ["user-data", "meta-data/instance-id", "meta-data/", "nothing"])
def test_nothing_is_said_without_a_token(cloud: Cloud, path: str) -> None:
    """Every read without a token, or with a wrong one, is a 401."""
    assert cloud.ask("GET", f"/s1/latest/{path}")[0] == 401
    assert cloud.ask("GET", f"/s1/latest/{path}", token="made up")[0] == 401


def test_a_token_is_good_for_its_time_and_its_instance(cloud: Cloud) -> None:
    """A token of one instance opens no other, and none after its time."""
    token = cloud.token(ttl="60")
    assert cloud.ask("GET", "/s1/latest/meta-data/instance-id", token=token) == (200, b"i-1")
    assert cloud.ask("GET", "/s2/latest/meta-data/instance-id", token=token)[0] == 401
    cloud.now += timedelta(seconds=61)
    assert cloud.ask("GET", "/s1/latest/meta-data/instance-id", token=token)[0] == 401


def test_strangers_are_not_known(cloud: Cloud) -> None:
    """Who does not know an instance's secret gets a 404 for everything."""
    assert cloud.ask("PUT", "/latest/api/token", ttl="60")[0] == 404
    assert cloud.ask("GET", "/s3/latest/user-data")[0] == 404


def test_versions_by_date_are_known(cloud: Cloud) -> None:
    """As cloud-init asks for them; what is no version is not there."""
    token = cloud.token()
    assert cloud.ask("GET", "/s1/2021-03-23/meta-data/instance-id", token=token) == (200, b"i-1")
    for path in ("/s1/2021-03/meta-data/instance-id", "/s1/latestmeta-data/instance-id"):
        assert cloud.ask("GET", path, token=token)[0] == 404


def test_user_data_are_given_byte_by_byte(cloud: Cloud) -> None:
    """User data come back as they were given; where there are none, a 404."""
    assert cloud.ask("GET", "/s1/latest/user-data", token=cloud.token()) == (200, b"\x00binary")
    assert cloud.ask("GET", "/s2/latest/user-data", token=cloud.token("s2"))[0] == 404


def test_lists_name_what_is_below() -> None:
    """A folder answers with its entries, those with more below them with a slash."""
    values = leaves(ONE, NOW)
    assert look_up(values, "/meta-data/tags/instance/") == b"Name\nsolorun:run"
    assert look_up(values, "/meta-data/iam/security-credentials/") == b"solorun-agent"
    assert look_up(values, "/") == b"dynamic/\nmeta-data/\nuser-data"
    assert look_up(values, "/meta-data/spot/instance-action") is None


def test_the_identity_document_says_who_the_instance_is() -> None:
    """Account, region, id, type, architecture and the start are in the document."""
    document = json.loads(leaves(ONE, NOW)["dynamic/instance-identity/document"])
    assert document["instanceId"] == "i-1"
    assert document["region"] == "us-east-1"
    assert document["accountId"] == "123456789012"
    assert document["architecture"] == "x86_64"
    assert document["pendingTime"] == "2026-01-01T07:59:00Z"


def test_an_interruption_shows_in_all_three_places() -> None:
    """A notice is in instance-action, termination-time and the rebalance recommendation."""
    ends_at = NOW + timedelta(seconds=120)
    values = leaves(replace(ONE, interruption=Interruption(NOW, ends_at)), NOW)
    assert json.loads(values["meta-data/spot/instance-action"]) == {
        "action": "terminate",
        "time": "2026-01-01T08:02:00Z",
    }
    assert values["meta-data/spot/termination-time"] == b"2026-01-01T08:02:00Z"
    assert json.loads(values["meta-data/events/recommendations/rebalance"]) == {
        "noticeTime": "2026-01-01T08:00:00Z"
    }


def test_no_profile_means_no_credentials() -> None:
    """An instance without a role has nothing below iam/."""
    assert look_up(leaves(replace(ONE, role=None), NOW), "/meta-data/iam/security-credentials/") is None


def test_the_agents_client_understands_it(cloud: Cloud) -> None:
    """The agent reads identity, tags and a Spot notice through its own client."""
    with MetadataService(cloud.server.endpoint_url + "/s1") as metadata:
        assert metadata.user_data() == b"\x00binary"
        assert metadata.tags() == {"Name": "one", "solorun:run": "r"}
        assert metadata.pending_time() == NOW - timedelta(minutes=1)
        assert metadata.spot_action() is None
        cloud.instances["s1"] = replace(ONE, interruption=Interruption(NOW, NOW + timedelta(minutes=2)))
        assert metadata.spot_action() == SpotNotice("terminate", NOW + timedelta(minutes=2))


def test_botocore_gets_its_credentials_here(cloud: Cloud) -> None:
    """botocore's own provider finds temporary credentials with an end."""
    cloud.now = datetime.now(UTC)
    fetcher = InstanceMetadataFetcher(
        timeout=60, num_attempts=1, base_url=cloud.server.endpoint_url + "/s1/", env={}, config={}
    )
    found = fetcher.retrieve_iam_role_credentials()
    assert found["role_name"] == "solorun-agent"
    assert (found["access_key"], found["secret_key"], found["token"]) == ("ASIAONE", "secret", "session")
    assert datetime.fromisoformat(found["expiry_time"]) > cloud.now + timedelta(hours=5)


def test_machines_may_be_known_by_their_address() -> None:
    """A server on a socket of the caller's, with a hop limit, tells machines by who asks."""
    listening = socket.create_server(("127.0.0.1", 0))
    machines = {"127.0.0.1": replace(ONE, hop_limit=2)}

    def identify(address: str, path: str) -> Question | None:
        return Question(machines[address], path) if address in machines else None

    with (
        MetadataServer(listening, identify) as server,
        MetadataService(server.endpoint_url) as metadata,
    ):
        assert metadata.instance_id() == "i-1"
        machines.clear()
        assert metadata.user_data() is None
