"""The CloudFormation template: valid, with no more rights than documented, and a function that wakes the build."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from cfnlint.api import lint_file

from packer.follow.claims import ATTEMPTS

FOLLOW = Path(__file__).parents[3] / "packer" / "follow"


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as plain values."""


_Loader.add_multi_constructor("!", lambda loader, _tag, node: _plain(loader, node))


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    text = (FOLLOW / "template.yml").read_text()
    found: dict[str, Any] = yaml.load(text, Loader=_Loader)["Resources"]  # noqa: S506  # a SafeLoader with plain tags
    return found


def test_is_valid() -> None:
    """cfn-lint finds nothing to say."""
    assert [str(match) for match in lint_file(FOLLOW / "template.yml")] == []


def test_gives_the_release_what_the_docs_say(resources: dict[str, Any]) -> None:
    """The build's rights are packer/policy.json, statement by statement."""
    policy = json.loads((FOLLOW.parent / "policy.json").read_text())
    given = resources["ReleasePolicy"]["Properties"]["PolicyDocument"]
    assert given["Statement"] == policy["Statement"]


def test_the_alarm_says_when_a_person_is_needed(resources: dict[str, Any]) -> None:
    """Who is told of a failure is told that the checks go on with it, and after which attempt they do not."""
    said = resources["ReleaseFailed"]["Properties"]["AlarmDescription"]
    assert ATTEMPTS == 3
    assert "up to three attempts; after the third nothing is tried until a person" in said


def test_listens_to_amazons_topic_only(resources: dict[str, Any]) -> None:
    """It is subscribed to Amazon's topic, and nothing else may call its function."""
    topic = "arn:aws:sns:us-east-1:137112412989:amazon-linux-2023-ami-updates"
    assert resources["Subscription"]["Properties"]["TopicArn"] == topic
    assert resources["WakePermission"]["Properties"]["SourceArn"] == topic


def test_buildspec_runs_the_check(resources: dict[str, Any]) -> None:
    """The project's build specification is the file beside it, and runs the check with the message."""
    assert resources["Project"]["Properties"]["Source"]["BuildSpec"] == "packer/follow/buildspec.yml"
    spec = yaml.safe_load((FOLLOW / "buildspec.yml").read_text())
    assert "packer.follow run" in " ".join(spec["phases"]["build"]["commands"])
    known = {
        entry["Name"] for entry in resources["Project"]["Properties"]["Environment"]["EnvironmentVariables"]
    }
    used = {"RECORDS", "BRANCH", "ACCESS", "PACKER_VERSION", "COMMITTER_NAME", "COMMITTER_EMAIL"}
    assert known == used
    assert all(f"${name}" in (FOLLOW / "buildspec.yml").read_text() for name in used)


@pytest.fixture
def started(resources: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The function of the template, with a CodeBuild that writes down what it is asked for."""
    calls: list[dict[str, Any]] = []
    client = SimpleNamespace(start_build=lambda **asked: calls.append(asked))
    monkeypatch.setitem(sys.modules, "boto3", SimpleNamespace(client=lambda _service: client))
    monkeypatch.setenv("PROJECT", "follow")
    scope: dict[str, Any] = {}
    exec(resources["Wake"]["Properties"]["Code"]["ZipFile"], scope)  # noqa: S102  # our own template's code

    def handle(event: Any) -> list[dict[str, Any]]:
        scope["handler"](event, None)
        return calls

    return handle


def test_function_passes_on_only_releases(started: Any) -> None:
    """What reaches the build of a message is the releases that it names, and nothing that a shell could read."""
    message = "2023.13.20261015 $(reboot) 2023.12.20260930; 2023.13.20261015"
    calls = started({"Records": [{"Sns": {"Subject": "x", "Message": message}}]})
    (call,) = calls
    assert call["projectName"] == "follow"
    assert call["environmentVariablesOverride"] == [
        {"name": "MESSAGE", "value": "2023.12.20260930 2023.13.20261015", "type": "PLAINTEXT"}
    ]


def test_function_ignores_garbage(started: Any) -> None:
    """A message without a release starts no build."""
    assert started({"Records": [{"Sns": {"Subject": None, "Message": "hello"}}]}) == []
