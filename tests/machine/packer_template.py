"""The template of packer/ as Packer can run it against moto and a machine of the tests' own.

A current Packer gets the template with a few attributes more: where the machine is, no talk to the real AWS. Debian's
Packer is 1.6.6 of 2020: for it, everything that it does not know is left out, and the list of that is in this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import hcl2

from launcher.catalog import Arch

ROOT: Final = Path(__file__).parents[2]
TEMPLATE: Final = ROOT / "packer" / "solorun.pkr.hcl"

LEFT_OUT: Final = {
    "metadata_options": "IMDSv2 for the building machine",
    "imds_support": "IMDSv2 as the image's own default",
    "deprecate_at": "the image's deprecation",
    "temporary_key_pair_type": "ed25519 keys: 1.6.6 makes RSA",
    "temporary_security_group_source_public_ip": "the narrowed security group; the test names the addresses",
    "skip_ami_run_tags": "run tags on the image",
}
"""Attributes and blocks of `amazon-ebs` that 1.6.6 does not know."""

Block = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """What Packer's ssh reaches, in place of the machines that moto only speaks of."""

    hosts: Mapping[Arch, str]
    """The address of the machine for each processor."""
    key: Path
    """The private key, whose public half the machines trust."""
    key_name: str
    """The key pair's name in moto."""
    aws: str
    """Where moto listens, as Packer sees it."""


def quoted(text: str) -> str:
    """A string as HCL writes it."""
    return f'"{text}"'


def user_data() -> str:
    """What the building machine executes at its first boot, as cloud-init gets it."""
    source = hcl2.loads(TEMPLATE.read_text())["source"][0][quoted("amazon-ebs")][quoted("solorun")]
    lines = source["user_data"].strip('"').splitlines()
    assert lines[0].startswith("<<-")
    return dedent("\n".join(lines[1:-1])) + "\n"


def derived(target: Target, playbooks: Path | None, *, old: bool) -> str:
    """The template, for this target; `old`: for Packer 1.6.6.

    A playbook in the folder `playbooks` takes the place of the template's of the same file name.
    """
    template: Block = hcl2.loads(TEMPLATE.read_text())
    source = template["source"][0][quoted("amazon-ebs")][quoted("solorun")]
    source.update(_for_moto(target))
    for override in template["build"][0]["source"]:
        changes = override[quoted("amazon-ebs.solorun")]
        changes["ssh_host"] = quoted(target.hosts[Arch(changes["name"].strip('"'))])
    # moto refuses tags on snapshots when an image is made of a machine.
    del source["snapshot_tags"]
    if playbooks:
        for provisioner in template["build"][0]["provisioner"]:
            ansible = provisioner.get(quoted("ansible"), {})
            instead = playbooks / Path(ansible.get("playbook_file", "").strip('"')).name
            if ansible and instead.is_file():
                ansible["playbook_file"] = quoted(str(instead))
    if old:
        _leave_out(template, source)
    return hcl2.dumps(template)


def _for_moto(target: Target) -> Block:
    """moto's machines have no ssh: it goes to ones that have."""
    return {
        "ssh_keypair_name": quoted(target.key_name),
        "ssh_private_key_file": quoted(str(target.key)),
        "custom_endpoint_ec2": quoted(target.aws),
        "skip_credential_validation": "true",
        "skip_region_validation": "true",
        "skip_metadata_api_check": "true",
        "aws_polling": [{"delay_seconds": 1, "max_attempts": 60, "__is_block__": True}],
    }


def _leave_out(template: Block, source: Block) -> None:
    del template["packer"]
    del template["data"]
    for name in LEFT_OUT:
        source.pop(name)
    tags = template["locals"][0]["tags"]
    tags.pop(quoted("solorun:packer"))
    # 1.6.6 names all builds of one source alike in its manifest: each gets a source of its own.
    build = template["build"][0]
    build["sources"] = []
    template["source"] = []
    template["variable"].append({quoted("source_ami"): {"type": "${map(string)}", "__is_block__": True}})
    for override in build.pop("source"):
        changes = dict(override[quoted("amazon-ebs.solorun")])
        arch = changes.pop("name").strip('"')
        changes["source_ami"] = f'${{var.source_ami["{arch}"]}}'
        template["source"].append({quoted("amazon-ebs"): {quoted(arch): {**source, **changes}}})
        build["sources"].append(quoted(f"source.amazon-ebs.{arch}"))
