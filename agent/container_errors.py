"""What Docker says when it cannot have an image or start a container, in words that say what to do."""

from __future__ import annotations

import re
from typing import Final

_PULL_CAUSES: Final[tuple[tuple[str, str], ...]] = (
    (
        r"no basic auth|unauthorized|authentication required|authorization token",
        "The registry wants to know who asks: the machine has no (or expired) credentials for it. For ECR the "
        "instance role needs AmazonEC2ContainerRegistryPullOnly.",
    ),
    (
        r"pull access denied|denied:|may require 'docker login'|insufficient_scope",
        "Either there is no such image, or it is private. Check the name for a typing error, and the "
        "machine's right to pull it.",
    ),
    (
        r"manifest unknown|manifest for .* not found|name unknown|repository .* not found|no such image",
        "The registry has no image of this name and tag. Check both.",
    ),
    (
        r"no matching manifest|no match for platform",
        "The image does not exist for this machine's processor. Use another instance type, or an image that "
        "is built for several.",
    ),
    (
        r"toomanyrequests|rate limit",
        "The registry allows no more pulls for now. Try again later, or use a copy in a registry of your own.",
    ),
    (
        r"no space left",
        "The machine's disk is full. Use a larger boot disk.",
    ),
    (
        r"no such host|lookup |dial tcp|timeout|deadline exceeded|connection (refused|reset)|timed out|"
        r"network is unreachable|TLS handshake|certificate|proxyconnect",
        "The registry cannot be reached from this machine. Check the registry's name, and that the subnet has "
        "a way out (an internet gateway with public addresses, a NAT gateway, or VPC endpoints for ECR).",
    ),
    (
        r"invalid reference format|invalid tag",
        "This is no image name. It looks like `registry/name:tag`, in small letters.",
    ),
)

_LOAD_CAUSES: Final[tuple[tuple[str, str], ...]] = (
    (
        r"no space left",
        "The machine's disk is full. Use a larger boot disk.",
    ),
    (
        r"^timeout",
        "Try again; where it happens again, use a machine type with a faster network and disk.",
    ),
)

_START_CAUSES: Final[tuple[tuple[str, str], ...]] = (
    (
        r"exec:? \"?/bin/sh\"?.*(no such file|not found|stat /bin/sh)",
        "The image has no /bin/sh, which is needed to send the output to a file. Use an image with a shell.",
    ),
    (
        r"bind source path does not exist|invalid mount config",
        "A folder that it needs is not on the machine.",
    ),
    (
        r"exec format error",
        "The image is built for another kind of processor than this machine has.",
    ),
    (
        r"no space left",
        "The machine's disk is full. Use a larger boot disk.",
    ),
    (
        r"already in use",
        "A container of the same name is left of something else. Remove it with `docker rm -f`.",
    ),
    (
        r"unable to find user|no matching entries in passwd",
        "The user that it should run as does not exist in the image.",
    ),
)


def pull_failed(image: str, words: str) -> str:
    """Why the image cannot be had: name, the daemon's words, probable cause, next step."""
    said = _line(words)
    return f"The container image {image} is not on the machine and could not be pulled: {said}. {pull_advice(words)}"


def load_failed(image: str, words: str) -> str:
    """Why the image cannot be had from its archive: name, what went wrong, next step."""
    advice = _cause(_LOAD_CAUSES, words, "Build its archive anew (`make bundle`) and submit the run again.")
    return f"{_not_loaded(image)}: {_line(words)}. {advice}"


def fetch_failed(image: str, words: str) -> str:
    """Why the archive of the image could not be read: name, and S3's words whole, which end with the next step."""
    return f"{_not_loaded(image)}: {words.rstrip('.')}."


def _not_loaded(image: str) -> str:
    return f"The container image {image} is not on the machine and could not be loaded from the work bucket"


def pull_advice(words: str) -> str:
    """The probable cause of a pull that failed with these words, and the next step."""
    return _cause(
        _PULL_CAUSES, words, "Check the image's name, and try `docker pull` on a machine like this."
    )


def start_failed(image: str, words: str) -> str:
    """Why a container cannot be started: image, the daemon's words, probable cause, next step."""
    advice = _cause(_START_CAUSES, words, "Try `docker run` with this image on a machine like this.")
    return f"A container of image {image} could not be started: {_line(words)}. {advice}"


def _cause(causes: tuple[tuple[str, str], ...], words: str, otherwise: str) -> str:
    for pattern, advice in causes:
        if re.search(pattern, words, re.IGNORECASE | re.DOTALL):
            return advice
    return otherwise


def _line(words: str, limit: int = 300) -> str:
    line = " ".join(words.split()).rstrip(".")
    return line if len(line) <= limit else line[: limit - 1] + "…"
