"""A program that stands for the run-agent: what it does is said by its instance's tag `act`.

It uses the same metadata service, environment and shutdown command as the real one. What it met is in
`facts.json` in its home.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from agent.contract import CLAIM, RunPointer, split_s3_uri
from agent.metadata import MetadataService, read_pointer
from launcher.catalog import NEXTFLOW_IMAGE

HOME = Path(os.environ["HOME"])


def main() -> int:
    with MetadataService(os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"]) as metadata:
        tags = metadata.tags()
        pointer = read_pointer(metadata)
        user_data = metadata.user_data()
        instance_id = metadata.instance_id()
        facts = {
            "environ": dict(os.environ),
            "instance_id": instance_id,
            "tags": tags,
            "user_data": user_data.decode() if user_data else None,
            "pid": os.getpid(),
            "starts": starts(),
        }
        write("facts.json", json.dumps(facts))
        print("the fake agent was here", flush=True)
        if pointer is not None:
            claim(pointer, instance_id)
        return act(tags.get("act", "finish"), metadata, instance_id)


def act(what: str, metadata: MetadataService, instance_id: str) -> int:
    if what == "finish":
        return shut_down()
    if what == "crash once" and starts() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "crash once":
        return shut_down()
    if what == "crash":
        return 1
    if what == "left alone":
        return 3
    if what == "shut down and hang":
        shut_down()
    if what == "hang with company":
        company(instance_id)
    if what == "wait for notice":
        while (notice := metadata.spot_action()) is None:
            time.sleep(0.05)
        write("notice", notice.time.isoformat())
    signal.pause()
    return 0


def company(instance_id: str) -> None:
    """A child that leaves the process group, and a container."""
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    subprocess.run(
        [
            "docker", "run", "--detach", "--rm", "--network=none", "--label", f"solorun.instance={instance_id}",
            "--entrypoint=sleep", NEXTFLOW_IMAGE, "1000",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    write("company", str(child.pid))


def claim(pointer: RunPointer, instance_id: str) -> None:
    """Claim the run as the real agent does, and make its folder."""
    import boto3  # long to import, for an agent that crashes six times within a minute

    bucket, prefix = split_s3_uri(pointer.prefix)
    s3 = boto3.client("s3")
    spec = json.load(s3.get_object(Bucket=bucket, Key=f"{prefix}/spec.json")["Body"])
    if "Contents" in s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/{CLAIM}"):
        return
    body = {"run_id": pointer.run_id, "claimed_by": instance_id, "claimed_at": "2026-01-01T00:00:00Z"}
    s3.put_object(Bucket=bucket, Key=f"{prefix}/{CLAIM}", Body=json.dumps(body))
    folder = Path(os.environ["RUN_AGENT_SCRATCH"]) / spec["workload"]["session_id"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text("x")


def shut_down() -> int:
    subprocess.run(json.loads(os.environ["RUN_AGENT_SHUTDOWN_COMMAND"]), check=True)
    return 0


def starts() -> int:
    return (HOME / "console.log").read_text().count("--- agent start")


def write(name: str, text: str) -> None:
    """A file that is whole as soon as it is there: the test waits for it and reads it."""
    draft = HOME / f"{name}.draft"
    draft.write_text(text)
    draft.rename(HOME / name)


if __name__ == "__main__":
    sys.exit(main())
