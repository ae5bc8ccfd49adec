"""The template, held to what current Packer and its plugins accept, and to what a solorun image must be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest

PACKER = Path(__file__).parents[3] / "packer"
SCHEMA = json.loads(Path(__file__).with_name("packer-schema.json").read_text())["components"]
COMMON = {
    "source": {"name": "string"},
    "provisioner": {
        "only": "list(string)",
        "except": "list(string)",
        "pause_before": "string",
        "timeout": "string",
    },
    "post-processor": {"only": "list(string)", "except": "list(string)", "keep_input_artifact": "bool"},
}
"""What Packer itself adds to every component of a kind."""

Block = dict[str, Any]


@pytest.fixture(scope="module")
def template() -> Block:
    """The template as python-hcl2 reads it: labels and strings in quotes, expressions as `${…}`."""
    parsed: Block = hcl2.loads((PACKER / "solorun.pkr.hcl").read_text())
    return parsed


@pytest.fixture(scope="module")
def source(template: Block) -> Block:
    block: Block = template["source"][0]['"amazon-ebs"']['"solorun"']
    return block


def components(template: Block) -> Iterator[tuple[str, Block]]:
    """Every component in the template with its name in the schema."""
    for entry in template["data"]:
        for kind, named in entry.items():
            yield from ((f"data.{kind.strip(chr(34))}", body) for body in named.values())
    for entry in template["source"]:
        for kind, named in entry.items():
            yield from ((f"source.{kind.strip(chr(34))}", body) for body in named.values())
    build = template["build"][0]
    for label, entries in (
        ("provisioner", build["provisioner"]),
        ("post-processor", build["post-processor"]),
    ):
        for entry in entries:
            yield from ((f"{label}.{kind.strip(chr(34))}", body) for kind, body in entry.items())
    for entry in build["source"]:
        yield from ((f"source.{kind.strip(chr(34)).split('.')[0]}", body) for kind, body in entry.items())


def fits(value: Any, kind: str) -> bool:
    """Whether a literal has the schema's type; an expression may have any."""
    if isinstance(value, str) and value.startswith("${"):
        return True
    if kind == "string":
        return isinstance(value, str) and value.startswith('"')
    if kind == "bool":
        return isinstance(value, bool) or value in ("true", "false")
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind.startswith("list"):
        return isinstance(value, list)
    return kind.startswith("map") and isinstance(value, dict)


def problems(where: str, body: Block, known: dict[str, Any]) -> Iterator[str]:
    """What a block has that is not in `known`."""
    for name, value in body.items():
        if name.startswith("__"):
            continue
        kind = known.get(name)
        if kind is None:
            yield f"{where}.{name} is unknown"
        elif isinstance(kind, dict):
            inner = kind.get("block") or kind["blocks"]
            for block in value if isinstance(value, list) else [f"{where}.{name} is not a block"]:
                yield from problems(f"{where}.{name}", block, inner) if isinstance(block, dict) else [block]
        elif not fits(value, kind):
            yield f"{where}.{name} is no {kind}: {value!r}"


def test_holds_only_what_the_plugins_accept(template: Block) -> None:
    """Every block and attribute is one that current Packer and its plugins know, and of the right type."""
    found = list(components(template))
    assert {name for name, _ in found} == set(SCHEMA)
    wrong = [
        problem
        for name, body in found
        for problem in problems(name, body, SCHEMA[name] | COMMON.get(name.split(".")[0], {}))
    ]
    assert wrong == []


def test_the_check_sees_what_is_wrong() -> None:
    """A misspelt attribute, a wrong type and a stray attribute of a block are all named."""
    body = {"imds_suport": '"v2.0"', "ssh_port": '"22"', "metadata_options": [{"http_token": '"required"'}]}
    assert list(problems("s", body, SCHEMA["source.amazon-ebs"])) == [
        "s.imds_suport is unknown",
        "s.ssh_port is no number: '\"22\"'",
        "s.metadata_options.http_token is unknown",
    ]


def test_every_reference_is_declared(template: Block) -> None:
    """No variable is used that is not declared, and none is declared without a word on what it is."""
    text = (PACKER / "solorun.pkr.hcl").read_text()
    declared = {name.strip('"'): body for entry in template["variable"] for name, body in entry.items()}
    used = {word.split("var.")[1] for word in _words(text) if word.startswith("var.")}
    assert used == set(declared)
    assert all(body.get("description") for body in declared.values())


def _words(text: str) -> set[str]:
    kept = "".join(char if char.isalnum() or char in "._" else " " for char in text)
    return set(kept.split())


def test_pins_name_what_the_template_asks_for(template: Block) -> None:
    """The pin file sets exactly the variables that are pinned, and its images are of the pinned release and kernel."""
    pins = json.loads((PACKER / "pins.auto.pkrvars.json").read_text())
    declared = {name.strip('"'): body for entry in template["variable"] for name, body in entry.items()}
    given_by_make = {"wheel", "ssh_folder"}
    assert set(pins) == {name for name, body in declared.items() if "default" not in body} - given_by_make
    for arch, name in pins["source_ami_name"].items():
        assert name.startswith(f"al2023-ami-{pins['releasever']}.")
        assert name.endswith(f"-kernel-{pins['kernel']}-{arch}")


def test_source_image_is_amazons(template: Block) -> None:
    """Both source images are looked up by their exact name in Amazon's account, also when they are deprecated."""
    images = [named for entry in template["data"] for named in entry['"amazon-ami"'].values()]
    assert len(images) == 2
    for image in images:
        assert image["owners"] == ['"137112412989"']
        assert image["filters"]["name"].startswith("${var.source_ami_name[")
        assert str(image["include_deprecated"]).lower() == "true"


def test_machine_and_image_take_imdsv2_only(source: Block) -> None:
    """The building machine asks for tokens with two hops, and the image says so for every machine made of it."""
    options = source["metadata_options"][0]
    assert options["http_tokens"] == '"required"'
    assert options["http_put_response_hop_limit"] == 2
    assert source["imds_support"] == '"v2.0"'


def test_a_building_machine_that_is_forgotten_is_gone(source: Block) -> None:
    """It turns itself off after a time by a unit in memory, and a machine that turns itself off is terminated."""
    script = source["user_data"].strip('"').splitlines()[1:-1]
    assert [line.strip() for line in script] == [
        "#!/bin/sh",
        "exec systemd-run --unit=building-cap --on-active=3h systemctl poweroff --force --force",
    ]
    assert source["shutdown_behavior"] == '"terminate"'


def test_disk_is_50_gb_of_gp3() -> None:
    """The root disk is gp3 with its 3000 IOPS and 125 MB/s named, 50 GB unless asked otherwise."""
    parsed = hcl2.loads((PACKER / "solorun.pkr.hcl").read_text())
    disk = parsed["source"][0]['"amazon-ebs"']['"solorun"']["launch_block_device_mappings"][0]
    assert (disk["device_name"], disk["volume_type"]) == ('"/dev/xvda"', '"gp3"')
    assert (disk["iops"], disk["throughput"]) == (3000, 125)
    sizes = [
        body["default"]
        for entry in parsed["variable"]
        for name, body in entry.items()
        if name == '"volume_size"'
    ]
    assert sizes == [50]


def test_nobody_else_reaches_the_building_machine(source: Block) -> None:
    """The temporary security group is open to named addresses, or to the one that Packer runs at; never to all."""
    assert source["temporary_security_group_source_cidrs"] == "${var.ssh_cidrs}"
    assert source["temporary_security_group_source_public_ip"].startswith("${length(var.ssh_cidrs) == 0")
    assert source["temporary_key_pair_type"] == '"ed25519"'
    assert "0.0.0.0" not in (PACKER / "solorun.pkr.hcl").read_text()  # noqa: S104  # looked for, not bound to
