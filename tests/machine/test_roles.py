"""The roles against a machine that they have made."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.catalog import NEXTFLOW_IMAGE
from tests.machine import build
from tests.machine.build import play, wheel_in
from tests.machine.conftest import Boot
from tests.machine.fabric import Fabric
from tests.machine.machine import Image, Machine, booted

VARIABLES = {"nextflow_image": NEXTFLOW_IMAGE}
SEALING = ("--tags=sysprep",)
"""The last role alone: what the others do is known by then."""


def ready(boot: Boot) -> Machine:
    """A machine without a run, on which the roles can work."""
    machine = boot(limits=None)
    machine.wait_up()
    return machine


@pytest.mark.parametrize("options", [(), ("--check",)], ids=["run", "check"])
def test_a_second_run_changes_nothing(image: Image, boot: Boot, options: tuple[str, ...]) -> None:
    """The roles find everything as they left it; asking first (`--check`) works too, and says the same."""
    machine = ready(boot)
    variables = {"run_agent_wheel": str(wheel_in(image.root)), **VARIABLES}
    assert play(machine.leader, variables=variables, options=options) == []


def test_asking_first_works_where_nothing_is_yet(network: Fabric, tmp_path: Path) -> None:
    """`--check` on a machine that no role has seen goes through all of them, and changes nothing."""
    (tmp_path / "plugins.txt").write_text("nf-amazon@1.0.0\n")
    more = {
        "nextflow_context": str(tmp_path),
        "studio_images": ["studio:1"],
        "sysprep_enabled": "true",
        "sysprep_through_ssm": "true",
    }
    with booted(Image(build.bare_root(), None), network, build.FOLDER) as machine:
        machine.wait_up()
        asked = build.play(machine.leader, variables={**VARIABLES, **more}, options=("--check",))
        assert machine.run("sh", "-c", "ls -d /opt/solorun /scratch /usr/bin/dockerd").stdout == b""
    roles = {name.split(" : ")[0] for name in asked}
    assert roles == {path.name for path in (build.REPOSITORY / "ansible/roles").iterdir()} - {"gpu"}


def test_a_sealed_machine_has_nothing_of_its_maker(boot: Boot) -> None:
    """After sysprep there is no machine id, key, log or credential; a second time there is nothing left to do."""
    machine = ready(boot)
    machine.exec(
        "sh",
        "-c",
        "mkdir -p /root/.aws /root/.ssh && touch /root/.aws/credentials /root/.ssh/authorized_keys",
    )
    machine.exec("sh", "-c", "mkdir -p /etc/ssh && touch /etc/ssh/ssh_host_ed25519_key /root/.bash_history")
    machine.exec("sh", "-c", "echo somebody | tee /var/log/btmp /var/log/wtmp /var/log/lastlog")
    changed = play(machine.leader, variables={"sysprep_enabled": "true", **VARIABLES}, options=SEALING)
    assert "sysprep : Remove it" in changed
    assert machine.exec("cat", "/etc/machine-id", "/var/log/btmp", "/var/log/wtmp", "/var/log/lastlog") == ""
    for gone in (
        "/root/.aws",
        "/root/.ssh/authorized_keys",
        "/etc/ssh/ssh_host_ed25519_key",
        "/root/.bash_history",
    ):
        assert machine.exec("sh", "-c", f"test -e {gone} && echo there", check=False) == "", gone


def test_what_cannot_be_sealed_is_no_image(boot: Boot) -> None:
    """Keys, credentials and too little room on the root disk end the build with one error that names them all, whatever
    is to be removed."""
    machine = ready(boot)
    left = ("/etc/ssh/ssh_host_ed25519_key", "/root/.aws", "/root/.ssh/id_ed25519", "/root/.netrc")
    machine.exec("mkdir", "-p", "/etc/ssh", "/root/.aws", "/root/.ssh")
    machine.exec("touch", *left)
    too_much = {"sysprep_enabled": "true", "sysprep_min_free_bytes": str(2**60), "sysprep_remove": []}
    with pytest.raises(RuntimeError, match="It cannot become an image") as refused:
        play(machine.leader, variables={**too_much, **VARIABLES}, options=SEALING)
    assert [path for path in (*left, str(2**60)) if path not in str(refused.value)] == []


def megabytes(machine: Machine, folder: str) -> int:
    """What a folder holds; Docker may be removing some of it meanwhile, of which du complains."""
    return int(machine.exec("du", "--summarize", "--block-size=1M", folder, check=False).split()[0])


def test_scratch_takes_dockers_data_and_keeps_the_baked_in_images(boot: Boot) -> None:
    """Docker's data are on the fast disk, its baked-in layers are not copied, and new containers write to the disk."""
    machine = boot()
    machine.wait_up()
    assert "/scratch" in machine.exec("cat", "/proc/1/mountinfo")
    assert megabytes(machine, "/scratch/docker") < 50
    assert NEXTFLOW_IMAGE in machine.exec("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
    machine.exec(
        "docker", "run", "--name=writes", NEXTFLOW_IMAGE, "sh", "-c", "head -c 60000000 /dev/zero > /file"
    )
    assert megabytes(machine, "/scratch/docker") >= 57
