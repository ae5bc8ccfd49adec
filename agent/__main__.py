"""`run-agent`: environment, wiring, exit codes. The only place that reads the environment or exits."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from typing import Final, NoReturn

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from agent.clock import SystemClock
from agent.containers import Containers, open_containers
from agent.contract import RunPointer, RunSpec, log_stream
from agent.logs.agentlog import AgentLog
from agent.logs.cloudwatch import CloudWatchSink
from agent.logs.sink import LogSink
from agent.machine import read_machine
from agent.metadata import MetadataService, MetadataUnavailable
from agent.pulse import Notifier, Pulse
from agent.run import AgentExit, live
from agent.secret_values import AwsSecretReader, SecretReader
from agent.settings import Settings, SettingsError, parse_settings
from agent.store import Store, open_store
from agent.world import World

log = logging.getLogger("agent")

PowerOff = Callable[[], None]
_SHUTDOWN_S: Final = 20.0
"""systemd answers at once; a command that hangs is given up and tried again."""


def main() -> NoReturn:
    """Execute this machine's run and exit with an AgentExit."""
    parser = argparse.ArgumentParser(
        prog="run-agent",
        description="Executes the run that this machine was started for, then shuts the machine down. "
        "It is started at boot by run-agent.service; on a machine without a run it says so and does nothing.",
        epilog="Environment: RUN_AGENT_SCRATCH, RUN_AGENT_LOG_FILE, RUN_AGENT_SHUTDOWN_COMMAND and "
        "RUN_AGENT_CLAIMED_COMMAND (JSON lists), "
        "RUN_AGENT_CPUS, RUN_AGENT_MEMORY_BYTES, DOCKER_HOST, AWS_ENDPOINT_URL, "
        "AWS_EC2_METADATA_SERVICE_ENDPOINT.",
    )
    parser.add_argument("--version", action="version", version=f"run-agent {version('solorun')}")
    doctor = parser.add_subparsers(dest="command", title="instead of executing the run").add_parser(
        "doctor",
        help="say what this machine lacks to execute runs, and what to do about it",
        description="Says which requirements of a machine that executes runs are met, and what to do about each "
        "that is not. It changes nothing, on the machine or in AWS, and answers within half a minute whatever "
        "hangs. Best as root; as another user it says what it could not find out.",
        epilog="Exit codes: 0 all that is required is met; 2 the settings of run-agent.service are wrong; "
        "6 something required is not met; 7 something required could not be found out.",
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    arguments = parser.parse_args()
    try:
        exit_code = _examine(as_json=arguments.json) if arguments.command else _execute()
    except SettingsError as error:
        for problem in error.problems:
            print(f"run-agent: {problem}", file=sys.stderr)
        sys.exit(AgentExit.SETTINGS)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of the S3 client may come back while the interpreter is torn down, which aborts it: see agent/store.py.
    # And a look of the doctor that hangs is not waited for.
    os._exit(exit_code)


def _execute() -> AgentExit:
    settings = parse_settings(os.environ)
    with ExitStack() as stack:
        return _live(settings, stack)


def _examine(*, as_json: bool) -> AgentExit:
    # Imported here: a run does not wait for what only the doctor needs.
    from agent.doctor.asking import Asked
    from agent.doctor.checks import Verdict
    from agent.doctor.environment import agents_environment
    from agent.doctor.examination import SYSTEMD_S, examine
    from agent.doctor.facts import Silence
    from agent.doctor.looking.systemd import AGENT_UNIT, environment_of, look_at_systemd
    from agent.doctor.rendering import print_report
    from agent.doctor.wiring import open_eyes

    clock = SystemClock()
    systemd = Asked(look_at_systemd, SYSTEMD_S, clock).answer()
    units = None if isinstance(systemd, Silence) else environment_of(systemd.unit(AGENT_UNIT))
    environment = agents_environment(os.environ, units)
    os.environ.clear()
    os.environ.update(environment)
    settings = parse_settings(environment)
    report = examine(
        open_eyes(settings, clock),
        systemd,
        scratch=settings.scratch,
        agent_version=version("solorun"),
        user_id=os.geteuid(),
        clock=clock,
    )
    print_report(report, as_json=as_json)
    return {
        Verdict.READY: AgentExit.DONE,
        Verdict.NOT_READY: AgentExit.NOT_READY,
        Verdict.UNSURE: AgentExit.UNSURE,
    }[report.verdict]


def _live(settings: Settings, stack: ExitStack) -> AgentExit:
    pulse = stack.enter_context(Pulse(Notifier(settings.notify_socket), settings.watchdog_s, SystemClock()))
    agent_log = stack.enter_context(AgentLog(settings.log_file))
    console = logging.StreamHandler()
    console.setFormatter(agent_log.formatter)
    logging.getLogger().addHandler(console)
    metadata = stack.enter_context(MetadataService(settings.metadata_endpoint))
    turned_off = True

    def power_off() -> None:
        nonlocal turned_off
        turned_off = _power_off(settings.shutdown_command)

    try:
        exit_code = live(_world(settings, metadata, agent_log, pulse, power_off, stack))
    except MetadataUnavailable as error:
        log.error("%s", error)
        return AgentExit.METADATA
    return exit_code if turned_off else AgentExit.STILL_ON


def _world(
    settings: Settings,
    metadata: MetadataService,
    agent_log: AgentLog,
    pulse: Pulse,
    power_off: PowerOff,
    stack: ExitStack,
) -> World:
    clock = SystemClock()
    endpoint_url = settings.endpoint_url

    def store(prefix: str) -> Store:
        return open_store(
            prefix,
            metadata.region(),
            endpoint_url=endpoint_url,
            metadata_endpoint=settings.metadata_endpoint,
            clock=clock,
        )

    def containers() -> Containers:
        return stack.enter_context(open_containers(settings.docker_host, clock))

    def sink(pointer: RunPointer) -> LogSink:
        return CloudWatchSink(
            pointer.region, pointer.log_group, log_stream(pointer.run_id), endpoint_url=endpoint_url
        )

    def ship_agent_log(pointer: RunPointer) -> None:
        agent_log.attach(
            pointer.region,
            pointer.log_group,
            log_stream(pointer.run_id, agent=True),
            endpoint_url=endpoint_url,
        )

    def secret_reader(region: str) -> SecretReader:
        # Imported here: most runs have no secrets, and boto3 takes half a second.
        import boto3

        return AwsSecretReader(boto3.Session(region_name=region), region)

    return World(
        metadata=metadata,
        open_store=store,
        open_containers=containers,
        open_sink=sink,
        open_secret_reader=secret_reader,
        agent_log=agent_log,
        ship_agent_log=ship_agent_log,
        machine=read_machine(max_cpus=settings.cpus, max_memory_bytes=settings.memory_bytes),
        scratch=settings.scratch,
        clock=clock,
        pulse=pulse,
        tell_machine=lambda spec, left_s: _tell_machine(settings.claimed_command, spec, left_s),
        power_off=power_off,
    )


def _tell_machine(command: tuple[str, ...] | None, spec: RunSpec, left_s: float) -> bool:
    """The machine's own switch takes the run's limit in place of the cap from boot; False while that cap holds."""
    if command is None:
        return True
    words = (*command, str(int(left_s)), spec.run_id, spec.log_group)
    try:
        subprocess.run(words, check=True, timeout=_SHUTDOWN_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        log.error("the machine could not be told of the run, so the cap from its boot holds: %s", error)
        return False
    return True


def _power_off(command: tuple[str, ...] | None) -> bool:
    """End the machine; False where that did not work, so that the unit's exit code calls the next layer."""
    if command is None:
        log.error("no RUN_AGENT_SHUTDOWN_COMMAND is set, so this machine is not turned off by its agent")
        return False
    log.info("shutting down: %s", " ".join(command))
    retrying = Retrying(
        retry=retry_if_exception_type((OSError, subprocess.SubprocessError)),
        stop=stop_after_attempt(3),
        wait=wait_fixed(1),
        reraise=True,
    )
    try:
        retrying(subprocess.run, command, check=True, timeout=_SHUTDOWN_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        log.error("the shutdown command failed: %s", error)
        return False
    return True


if __name__ == "__main__":
    main()
