"""AWS as the instance reaches it, and the time by its answers."""

from __future__ import annotations

from typing import Final

from agent.doctor.checks import Check, Finding, Level, Part
from agent.doctor.facts import Instance, Reached, RunInS3, Silence

S3: Final = Check("s3", "S3 answers", Part.AWS, Level.REQUIRED)
RUN: Final = Check("run-in-s3", "The run's objects", Part.AWS, Level.REQUIRED)
LOGS: Final = Check("logs", "CloudWatch Logs", Part.AWS, Level.RECOMMENDED)
CLOCK: Final = Check("clock", "Clock", Part.AWS, Level.REQUIRED)

_MAX_SKEW_S: Final = 300.0
"""AWS refuses signatures that are older or younger than that; S3 allows 15 minutes."""
_NO_REGION: Final = "the metadata service does not tell the region"


def judge_cloud(
    instance: Instance | Silence,
    s3: Reached | Silence | None,
    run: RunInS3 | Silence | None,
    logs: Reached | Silence | None,
) -> tuple[Finding, ...]:
    """What of AWS answers. None where it was not asked: there is no region, or no run."""
    if isinstance(instance, Silence):
        return tuple(check.unknown(_NO_REGION) for check in (S3, RUN, LOGS, CLOCK))
    return (
        _endpoint(S3, s3, "S3 (a gateway endpoint for S3 costs nothing)"),
        _run(run),
        _endpoint(
            LOGS,
            logs,
            "CloudWatch Logs (an interface endpoint for logs). Logs are in S3 at the end, all the same",
        ),
        _clock(s3, logs),
    )


def _endpoint(check: Check, reached: Reached | Silence | None, route: str) -> Finding:
    if isinstance(reached, Reached):
        return check.met(reached.url)
    return check.not_met(
        reached.why if reached else "not asked",
        "Look at the subnet's route table, the security group's outbound rules and DNS: the subnet needs an internet "
        f"gateway with a public address, a NAT, or an endpoint for {route}.",
    )


def _run(run: RunInS3 | Silence | None) -> Finding:
    if run is None:
        return RUN.not_applicable("this machine has no run")
    if isinstance(run, Silence):
        return RUN.not_met(run.why, "Mend the way to S3, and the instance role's policy (docs/aws.md).")
    if run.problem is not None:
        return RUN.not_met(run.problem, "docs/aws.md has the instance role's policy.")
    claim = f"claimed by {run.claimed_by}" if run.claimed_by else "not claimed yet"
    return RUN.met(f"{run.prefix} is readable; the run is {claim}. Writing was not tried")


def _clock(*endpoints: Reached | Silence | None) -> Finding:
    skews = [reached.skew_s for reached in endpoints if isinstance(reached, Reached)]
    skew = next((skew for skew in skews if skew is not None), None)
    if skew is None:
        return CLOCK.unknown("no answer of AWS to compare it with")
    whole = round(abs(skew))
    found = (
        f"{whole} s {'ahead of' if skew > 0 else 'behind'} AWS" if whole else "less than a second from AWS"
    )
    if abs(skew) < _MAX_SKEW_S:
        return CLOCK.met(found)
    return CLOCK.not_met(
        found,
        "Enable time synchronisation (`systemctl enable --now chronyd`): AWS refuses requests from 5 minutes on.",
    )
