"""The agent's settings."""

from pathlib import Path

import pytest

from agent.metadata import ENDPOINT
from agent.settings import SettingsError, parse_settings


def test_without_a_word_nothing_can_be_turned_off() -> None:
    """The defaults are those of EC2, except that there is no shutdown command: a computer of a person stays on."""
    settings = parse_settings({})
    assert settings.shutdown_command is None
    assert settings.metadata_endpoint == ENDPOINT
    assert settings.endpoint_url is None
    assert settings.scratch.is_absolute()


def test_everything_can_be_set() -> None:
    """Each variable reaches its field."""
    settings = parse_settings(
        {
            "RUN_AGENT_SCRATCH": "/fast",
            "RUN_AGENT_SHUTDOWN_COMMAND": '["systemctl", "poweroff"]',
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1/",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:2",
            "RUN_AGENT_CPUS": "2",
            "RUN_AGENT_MEMORY_BYTES": "1000",
            "RUN_AGENT_CLAIMED_COMMAND": '["claimed"]',
            "NOTIFY_SOCKET": "/run/systemd/notify",
            "WATCHDOG_USEC": "60000000",
        }
    )
    assert settings.scratch == Path("/fast")
    assert settings.claimed_command == ("claimed",)
    assert (settings.notify_socket, settings.watchdog_s) == ("/run/systemd/notify", 60.0)
    assert settings.shutdown_command == ("systemctl", "poweroff")
    assert settings.metadata_endpoint == "http://127.0.0.1:1"
    assert settings.endpoint_url == "http://127.0.0.1:2"
    assert (settings.cpus, settings.memory_bytes) == (2, 1000)


@pytest.mark.parametrize("command", ["poweroff", "[]", "[1]", '{"a": 1}', ""])
def test_all_problems_come_at_once(command: str) -> None:
    """Every wrong variable is named, not only the first."""
    with pytest.raises(SettingsError) as caught:
        parse_settings(
            {"RUN_AGENT_SHUTDOWN_COMMAND": command, "RUN_AGENT_CPUS": "0", "RUN_AGENT_MEMORY_BYTES": "8G"}
        )
    named = {problem.split(":")[0] for problem in caught.value.problems}
    assert named == {"RUN_AGENT_SHUTDOWN_COMMAND", "RUN_AGENT_CPUS", "RUN_AGENT_MEMORY_BYTES"}
