"""The doctor's eyes on a real machine."""

from __future__ import annotations

from agent.clock import Clock
from agent.contract import RunPointer
from agent.doctor.examination import Eyes
from agent.doctor.facts import RunInS3
from agent.doctor.looking.cloud import look_at_run, reach
from agent.doctor.looking.docker import look_at_docker, look_at_docker_settings
from agent.doctor.looking.host import look_at_disk, look_at_host
from agent.doctor.looking.metadata import look_at_instance
from agent.endpoints import service_endpoint
from agent.machine import read_machine
from agent.settings import Settings
from agent.store import open_store


def open_eyes(settings: Settings, clock: Clock) -> Eyes:
    """Looks at this machine, with the agent's own settings and its own ways to AWS."""
    aws = settings.endpoint_url

    def look_at_the_run(pointer: RunPointer) -> RunInS3:
        store = open_store(
            pointer.prefix,
            pointer.region,
            endpoint_url=aws,
            metadata_endpoint=settings.metadata_endpoint,
            clock=clock,
        )
        return look_at_run(store, clock)

    return Eyes(
        host=lambda: look_at_host(
            read_machine(max_cpus=settings.cpus, max_memory_bytes=settings.memory_bytes)
        ),
        docker=lambda: look_at_docker(settings.docker_host),
        docker_settings=look_at_docker_settings,
        instance=lambda: look_at_instance(settings.metadata_endpoint),
        disk=look_at_disk,
        s3=lambda region: reach(aws or service_endpoint("s3", region), clock),
        logs=lambda region: reach(aws or service_endpoint("logs", region), clock),
        run=look_at_the_run,
    )
