"""The CloudFormation template: valid, with no more rights than documented, and a function that wakes the build."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from cfnlint.api import lint_file

from launcher.catalog import REGIONS
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
def template() -> dict[str, Any]:
    text = (FOLLOW / "template.yml").read_text()
    found: dict[str, Any] = yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader with plain tags
    return found


@pytest.fixture(scope="module")
def resources(template: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"]
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


def test_the_build_may_keep_its_records_and_read_them(resources: dict[str, Any]) -> None:
    """Beside the release's rights the build has those on the stack's bucket that keeping records takes, and no more."""
    (policy,) = resources["BuildRole"]["Properties"]["Policies"]
    given = {
        (action, statement["Resource"])
        for statement in policy["PolicyDocument"]["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        if action.startswith("s3:")
    }
    below = "${Records.Arn}/ami/*"
    assert given == {("s3:ListBucket", "Records.Arn"), ("s3:GetObject", below), ("s3:PutObject", below)}


def test_listens_to_amazons_topic_only(resources: dict[str, Any]) -> None:
    """It is subscribed to Amazon's topic, and nothing else may call its function."""
    topic = "arn:aws:sns:us-east-1:137112412989:amazon-linux-2023-ami-updates"
    assert resources["Subscription"]["Properties"]["TopicArn"] == topic
    assert resources["WakePermission"]["Properties"]["SourceArn"] == topic


def spec() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLLOW / "buildspec.yml").read_text())
    return found


def test_buildspec_gets_what_it_uses(resources: dict[str, Any]) -> None:
    """The project's build specification is the file beside it, and the project gives it all variables that it names."""
    assert resources["Project"]["Properties"]["Source"]["BuildSpec"] == "packer/follow/buildspec.yml"
    given = resources["Project"]["Properties"]["Environment"]["EnvironmentVariables"]
    used = set(re.findall(r"\$\{?([A-Z_]+)", (FOLLOW / "buildspec.yml").read_text()))
    assert {entry["Name"] for entry in given} | set(spec()["env"]["variables"]) == used


def run_build(folder: Path, **environ: str) -> list[str]:
    """What the build's command calls, by a Python that only says so."""
    program = folder / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    (command,) = spec()["phases"]["build"]["commands"]
    unset = {"MESSAGE": "", "BRANCH": "main", "RECORDS": "kept", "WITHOUT": "", "SUBNET_ID": ""}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**unset, "ACCESS": "", "ENCRYPTION": "", "PATH": os.defpath, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_a_plain_stack_asks_for_a_plain_release(tmp_path: Path) -> None:
    """Where the stack's parameters are left alone, so are the options, and records go to the stack's bucket."""
    called = run_build(tmp_path)
    assert called[:3] == ["-m", "packer.follow", "run"]
    given = dict(zip(called[3::2], called[4::2], strict=True))
    assert given == {"--message": "", "--push-to": "main", "--records": "s3://kept/ami", "--without": ""}


def test_the_stacks_parameters_reach_the_release(tmp_path: Path) -> None:
    """Regions to leave out, the subnet, who may use the images and their encryption are options, each a word."""
    called = run_build(
        tmp_path,
        MESSAGE="2023.12.20260930 2023.13.20261015",
        WITHOUT="af-south-1,ap-east-1",
        SUBNET_ID="subnet-0123456789abcdef0",
        ACCESS="--share=111122223333,444455556666",
        ENCRYPTION="--encrypted --kms-key=alias/images",
    )
    assert called[called.index("--message") + 1] == "2023.12.20260930 2023.13.20261015"
    assert called[-7:] == [
        *("--without", "af-south-1,ap-east-1", "--var", "subnet_id=subnet-0123456789abcdef0"),
        *("--share=111122223333,444455556666", "--encrypted", "--kms-key=alias/images"),
    ]


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        ("Without", ("", "af-south-1", ",".join(REGIONS)), ("af-south", "af-south-1,", "af-south-1 --public", "$(id)")),
        ("SubnetId", ("", "subnet-0123456789abcdef0"), ("0123456789abcdef0", "subnet-1 --public", "subnet-$(id)")),
        ("Encryption", ("", "--encrypted", "--encrypted --kms-key=alias/images"), ("alias/x", "--encrypted; id")),
        ("Access", ("", "--public", "--share=111122223333"), ("--share=1", "--public --encrypted")),
    ],
)  # fmt: skip
def test_parameters_take_nothing_else(
    template: dict[str, Any], parameter: str, good: tuple[str, ...], bad: tuple[str, ...]
) -> None:
    """What reaches the build's shell is what was meant for it; anything else is refused when the stack is deployed."""
    pattern = template["Parameters"][parameter]["AllowedPattern"]
    assert template["Parameters"][parameter]["Default"] == ""
    assert [value for value in good if not re.search(pattern, value)] == []
    assert [value for value in bad if re.search(pattern, value)] == []


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
