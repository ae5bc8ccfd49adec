"""Which machine the suite looks at: one that is named by --hosts, or else a booted test machine.

Three uses: in the image's build over ssh, before the snapshot; against the test machine; against any instance,
`make test-image HOST=ssh://ec2-user@ADDRESS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

from tests.machine import build, leftovers
from tests.machine.fabric import fabric
from tests.machine.machine import booted
from tests.machine.nsenter import inside


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """The machine under test, as root."""
    named = request.config.getoption("--hosts")
    if named:
        option: Any = request.config.getoption
        yield testinfra.get_host(
            named if "://" in named else f"ssh://{named}",
            sudo=True,
            ssh_config=option("--ssh-config"),
            ssh_identity_file=option("--ssh-identity-file"),
            ssh_extra_args=option("--ssh-extra-args"),
        )
        return
    leftovers.clear()
    image = build.image()
    with fabric() as network, booted(image, network, build.FOLDER) as machine:
        machine.wait_up()
        yield inside(machine)
