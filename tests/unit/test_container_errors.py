"""What Docker says becomes what a person can do."""

from __future__ import annotations

import pytest

from agent.container_errors import load_failed, pull_failed, start_failed
from agent.container_plan import split_image


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("pull access denied for x, repository does not exist or may require 'docker login'", "private"),
        ("manifest for x:9 not found: manifest unknown", "no image of this name and tag"),
        ('Get "https://x/v2/": dial tcp: lookup x: no such host', "cannot be reached"),
        ("no basic auth credentials", "ContainerRegistryPullOnly"),
        ("toomanyrequests: You have reached your pull rate limit", "Try again later"),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "processor"),
        ("write /var/lib/docker/tmp/x: no space left on device", "larger boot disk"),
        ("invalid reference format", "no image name"),
        ("something new", "docker pull"),
    ],
)
def test_pull_failed(words: str, advice: str) -> None:
    """Image, the daemon's own words and the advice that fits them are in one line."""
    message = pull_failed("team/tool:9", words)
    assert message.startswith(
        "The container image team/tool:9 is not on the machine and could not be pulled: "
    )
    assert words in message
    assert advice in message.partition(words)[2]


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("write /layer.tar: no space left on device", "larger boot disk"),
        ("timeout: not complete after 1800 s", "faster network"),
        ("unexpected EOF", "make bundle"),
    ],
)
def test_load_failed(words: str, advice: str) -> None:
    """Only an archive that is itself wrong is to be built anew."""
    assert load_failed("team/tool:9", words).endswith(".")
    assert advice in load_failed("team/tool:9", words)
    assert ("make bundle" in load_failed("team/tool:9", words)) is (advice == "make bundle")


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ('exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown', "has no /bin/sh"),
        ('invalid mount config for type "bind": bind source path does not exist: /x', "not on the machine"),
        ("exec format error", "processor"),
        ("something new", "docker run"),
    ],
)
def test_start_failed(words: str, advice: str) -> None:
    """A container that cannot be started names its image, the daemon's words and the advice that fits."""
    message = start_failed("team/tool:9", words)
    assert "team/tool:9" in message
    assert advice in message


def test_long_words_are_cut() -> None:
    """A daemon that talks for pages does not fill the status."""
    assert len(start_failed("x", "word " * 1000)) < 500


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("ubuntu", ("ubuntu", "latest")),
        ("ubuntu:24.04", ("ubuntu", "24.04")),
        ("localhost:5000/a/b", ("localhost:5000/a/b", "latest")),
        ("localhost:5000/a/b:c", ("localhost:5000/a/b", "c")),
        ("a/b@sha256:00", ("a/b@sha256:00", None)),
    ],
)
def test_split_image(image: str, parts: tuple[str, str | None]) -> None:
    """An image without a tag is its `latest`, and never all its tags; a digest stays as it is."""
    assert split_image(image) == parts
