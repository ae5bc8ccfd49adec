"""The script that brings the agent: read by cloud-init, by a shell, and by the agent."""

from __future__ import annotations

import subprocess

import pytest

from agent.contract import RunPointer, find_pointer
from launcher.aws import Aws
from launcher.catalog import Arch
from launcher.errors import UserError
from launcher.store import Store
from launcher.user_data import MAX_BYTES, Links, script
from tests.unit.launcher.test_plan import CE

POINTER = RunPointer(
    run_id="20260401t120000-abc123",
    prefix="s3://bucket/it's/.solorun/runs/20260401t120000-abc123",
    region="eu-west-1",
    log_group="/solorun",
)
LINKS = Links("https://bucket.example/agent?a=1&b='$(touch /tmp/x)'", "https://bucket.example/report?a=1")


def test_the_script_is_one_and_carries_the_pointer() -> None:
    """A shell can read it, the agent finds its run in it, and no value in it is taken for a command."""
    text = script(POINTER, Arch.ARM64, "5f" * 32, LINKS)
    assert text.startswith("#!/bin/sh\n")
    assert find_pointer(text.encode()) == POINTER
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    head = "\n".join(text.splitlines()[:7]) + '\nprintf "%s|%s|%s" "$AGENT_URL" "$MACHINE" "$LIMIT_S"\n'
    said = subprocess.run(["sh"], input=head, text=True, check=True, capture_output=True).stdout
    assert said == f"{LINKS.agent}|aarch64|300"


def test_there_is_room_for_long_links() -> None:
    """Links with the session tokens of a company's sign-on are long; EC2 takes 16 KB, and more is refused here."""
    long = Links("https://x.example/?" + "t" * 4000, "https://x.example/?" + "t" * 4000)
    assert len(script(POINTER, Arch.X86_64, "5f" * 32, long).encode()) <= MAX_BYTES
    too_long = Links("https://x.example/?" + "t" * 9000, long.report)
    with pytest.raises(UserError, match="EC2 takes 16384"):
        script(POINTER, Arch.X86_64, "5f" * 32, too_long)


@pytest.mark.parametrize("region", ["eu-west-1", "us-east-1"])
def test_links_are_for_one_object_in_the_buckets_region(region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signed with version 4 for the regional endpoint, for an hour, with nothing that a plain client must add."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    store = Store(Aws(CE.model_copy(update={"region": region}), None), "my.bucket")
    for write in (False, True):
        link = store.link("work/.solorun/a.txt", seconds=3600, write=write)
        assert link.startswith(f"https://s3.{region}.amazonaws.com/my.bucket/work/.solorun/a.txt?")
        assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in link
        assert "X-Amz-Expires=3600" in link
        assert "X-Amz-SignedHeaders=host&" in link
        assert "checksum" not in link.lower()
        assert "made-up" not in link
