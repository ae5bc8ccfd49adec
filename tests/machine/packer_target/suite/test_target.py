"""In place of the machine's suite: run by packer/prove.yml on the target, over ssh."""

from typing import Any


def test_was_provisioned(host: Any) -> None:
    """The suite sees the machine with the roles on it, and before the last one."""
    files = host.run("ls /etc").stdout.split()
    assert any(name.startswith("solorun-") and not name.endswith("-clean") for name in files)
