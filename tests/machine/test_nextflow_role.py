"""The role that builds Nextflow's container image on the machine, from first to last."""

from __future__ import annotations

from pathlib import Path

from launcher.catalog import NEXTFLOW_IMAGE
from tests.machine.build import play
from tests.machine.conftest import Boot
from tests.machine.machine import Machine

ALONE = ("--tags=nextflow",)
BASE = "registry.invalid/debian:bookworm"
IMAGE = "solorun/nextflow:0.0.1"
# In place of containers/nextflow, with its stages and arguments, and nothing to fetch: machines here reach nobody.
DOCKERFILE = """ARG BASE=none
FROM ${BASE} AS plugins
ARG PLUGINS=""
RUN test -n "$PLUGINS" && echo "$PLUGINS" > /plugins
FROM ${BASE}
ARG NEXTFLOW_VERSION
COPY --from=plugins /plugins /plugins
RUN echo "${NEXTFLOW_VERSION:?}" > /version
CMD ["cat", "/version", "/plugins"]
"""
# As one with buildx, which Amazon's has: a build leaves files beside the settings.
KEEPING = """#!/bin/sh
settings=${DOCKER_CONFIG:-$HOME/.docker}
[ "$1" != build ] || mkdir -p "$settings/buildx"
exec /usr/bin/docker "$@"
"""


def docker(machine: Machine, *words: str) -> list[str]:
    """The lines that Docker answers with, in order."""
    return sorted(machine.exec("docker", *words).split())


def test_builds_the_image_on_the_machine_and_cleans_up(boot: Boot, tmp_path: Path) -> None:
    """It is of the pinned version and plugins, and of its making nothing stays; a second time nothing is left to do."""
    machine = boot(limits=None)
    machine.wait_up()
    machine.exec("docker", "tag", NEXTFLOW_IMAGE, BASE)
    before = docker(machine, "image", "ls", "--all", "--quiet", "--no-trunc")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "plugins.txt").write_text("nf-amazon@1.0.0\nnf-wave@2.0.0\n")
    variables = {"nextflow_image": IMAGE, "nextflow_context": str(tmp_path), "nextflow_base": BASE}

    machine.exec("sh", "-c", "cat > /usr/local/bin/docker && chmod 755 /usr/local/bin/docker", stdin=KEEPING)

    assert "nextflow : Build" in play(machine.leader, variables=variables, options=ALONE)

    said = machine.exec("docker", "run", "--rm", IMAGE)
    assert said.split() == ["0.0.1", "nf-amazon@1.0.0,nf-wave@2.0.0"]
    made = docker(machine, "image", "ls", "--quiet", "--no-trunc", IMAGE)
    dangling = docker(machine, "image", "ls", "--quiet", "--filter", "dangling=true")
    assert dangling == []
    assert set(docker(machine, "image", "ls", "--quiet", "--no-trunc")) == {*before, *made}
    assert docker(machine, "image", "ls", "--quiet", BASE) == []
    assert docker(machine, "container", "ls", "--all", "--quiet") == []
    assert "nextflow-build" not in machine.exec("ls", "/var/tmp").split()
    assert ".docker" not in machine.exec("ls", "--almost-all", "/root").split()
    assert play(machine.leader, variables=variables, options=ALONE) == []
