"""The container images, started for real: what is in them, and that the class-data archive is used."""

from __future__ import annotations

import io
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from launcher.catalog import NEXTFLOW_IMAGE, NEXTFLOW_VERSION

ROOT = Path(__file__).parents[2]
DEMO_TOOLS = "solorun/demo-tools:1"


def docker(*arguments: str) -> str:
    """What a docker command prints; both streams."""
    done = subprocess.run(
        ["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def in_nextflow_image(command: str, *options: str) -> str:
    """What a shell command prints in the image, without any network."""
    return docker(
        "run", "--rm", "--network", "none", "-w", "/tmp", *options, NEXTFLOW_IMAGE, "sh", "-c", command
    )


def labels() -> dict[str, str]:
    """The image's labels."""
    found: dict[str, str] = json.loads(
        docker("image", "inspect", "-f", "{{json .Config.Labels}}", NEXTFLOW_IMAGE)
    )
    return found


def test_version() -> None:
    """The image runs the Nextflow that its tag and its label name, and the catalog asks for."""
    assert f"version {NEXTFLOW_VERSION} " in docker("run", "--rm", NEXTFLOW_IMAGE)
    assert labels()["solorun.nextflow.version"] == NEXTFLOW_VERSION


def test_labels_say_where_it_came_from() -> None:
    """The labels name the source, and exactly the plugins that are in the image."""
    said = labels()["solorun.nextflow.plugins"]
    there = in_nextflow_image("ls $NXF_PLUGINS_DIR").split()
    assert labels()["solorun.nextflow.source"] == "maven-central"
    assert sorted(said.replace("@", "-").split(",") if said else []) == sorted(there)


def test_plugin_versions_are_nextflows_own() -> None:
    """The pinned plugins are those that this Nextflow asks for by itself."""
    pinned = (ROOT / "containers/nextflow/plugins.txt").read_text().split()
    jar = f"/opt/nextflow/lib/nextflow-{NEXTFLOW_VERSION}.jar"
    content = subprocess.run(
        ["docker", "run", "--rm", NEXTFLOW_IMAGE, "cat", jar], capture_output=True, check=True
    ).stdout
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        known = archive.read("META-INF/plugins-info.txt").decode().split()
    assert set(pinned) <= set(known)


def test_hello_as_any_user_without_network() -> None:
    """A pipeline runs as a user that the image does not know, with no network at all."""
    out = in_nextflow_image("nextflow run /opt/nextflow/hello", "--user", "4321:4321", "-e", "HOME=/tmp")
    assert "hello ONE" in out
    assert "hello TWO" in out


def test_archive_is_used() -> None:
    """Nextflow's own classes come out of the class-data archive, also with another heap and collector."""
    for more in ("", "-Xmx300m", "-XX:+UseG1GC"):
        out = in_nextflow_image("nextflow -version", "-e", f"NXF_OPTS={more} -Xlog:class+load:stdout")
        loaded = [line for line in out.splitlines() if " nextflow.cli.Launcher source:" in line]
        assert loaded, out[-2000:]
        assert "shared objects file (top)" in loaded[0]


def test_options_of_the_user_win() -> None:
    """NXF_OPTS and NXF_JVM_ARGS reach Java, after our own."""
    out = in_nextflow_image(
        "nextflow -version",
        "-e",
        "NXF_OPTS=-Dmine=1 -XX:+PrintFlagsFinal",
        "-e",
        "NXF_JVM_ARGS=-XX:TieredStopAtLevel=4",
    )
    flag = next(line for line in out.splitlines() if " TieredStopAtLevel " in line)
    assert " = 4 " in flag


def test_head_reaches_docker_over_the_socket() -> None:
    """The Docker client in the image talks to the daemon whose socket is mounted."""
    socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    names = docker(
        "run",
        "--rm",
        "-v",
        f"{socket}:/var/run/docker.sock",
        NEXTFLOW_IMAGE,
        "docker",
        "version",
        "-f",
        "{{.Server.Os}}",
    )
    assert names.strip() == "linux"


@pytest.mark.parametrize("program", ["git", "bash", "curl", "ps", "docker", "java"])
def test_programs_of_the_head(program: str) -> None:
    """What Nextflow's head calls is there."""
    assert in_nextflow_image(f"command -v {program}").strip()


@pytest.mark.parametrize("program", ["bwa", "samtools", "bcftools", "wgsim", "ps", "python3"])
def test_programs_of_the_demo(program: str) -> None:
    """What the demo pipeline calls is there."""
    assert docker("run", "--rm", "--network", "none", DEMO_TOOLS, "sh", "-c", f"command -v {program}").strip()


def test_genome_of_the_demo() -> None:
    """The genome is that of phage lambda: 48,502 bases under its accession."""
    fasta = docker(
        "run", "--rm", "--network", "none", DEMO_TOOLS, "cat", "/opt/genomes/lambda.fa"
    ).splitlines()
    assert fasta[0].startswith(">NC_001416.1")
    assert sum(len(line) for line in fasta[1:]) == 48_502
