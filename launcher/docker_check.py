"""Whether this computer's Docker answers: the machines of the local cloud run their containers with it."""

from __future__ import annotations

from launcher.errors import UserError


def check_docker() -> None:
    """Ask the Docker daemon for a sign of life.

    Raises:
        UserError: there is no Docker, or its daemon does not answer.
    """
    # imported here: only the local cloud needs it
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=10)
        try:
            client.ping()
        finally:
            client.close()
    except DockerException as error:
        raise UserError(
            f"Docker does not answer on this computer: {error}",
            hint="The local cloud runs containers with it. Start it (sudo systemctl start docker), or install it, "
            "and see that you may use it: docker info",
        ) from None
