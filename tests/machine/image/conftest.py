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

from tests.machine import build, leftovers, reaching
from tests.machine.fabric import fabric
from tests.machine.machine import booted
from tests.machine.nsenter import inside


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """The machine under test, as root."""
    named = request.config.getoption("--hosts")
    if named:
        option: Any = request.config.getoption
        config, key, extra = (
            option(f"--{name}") for name in ("ssh-config", "ssh-identity-file", "ssh-extra-args")
        )
        try:
            hindrance = reaching.hindrance(reaching.way_to(named, key=key, config=config, extra=extra))
        except ValueError as error:
            hindrance = str(error)
        if hindrance:
            pytest.exit(hindrance, returncode=2)
        yield testinfra.get_host(
            named if "://" in named else f"ssh://{named}",
            sudo=True,
            ssh_config=config,
            ssh_identity_file=key,
            ssh_extra_args=extra,
        )
        return
    leftovers.clear()
    image = build.image()
    with fabric() as network, booted(image, network, build.FOLDER) as machine:
        machine.wait_up()
        yield inside(machine)
