"""What the instance was started with, as its metadata service tells."""

from __future__ import annotations

from typing import Final

from agent.doctor.checks import Check, Finding, Level, Part
from agent.doctor.facts import Instance, Silence

METADATA: Final = Check("metadata", "Metadata service", Part.INSTANCE, Level.REQUIRED)
HOPS: Final = Check("hop-limit", "Metadata in tasks", Part.INSTANCE, Level.RECOMMENDED)
USER_DATA: Final = Check("user-data", "User data", Part.INSTANCE, Level.REQUIRED)
PROFILE: Final = Check("instance-profile", "Instance profile", Part.INSTANCE, Level.REQUIRED)


def judge_instance(instance: Instance | Silence) -> tuple[Finding, ...]:
    """What EC2 was told when the instance was started."""
    if isinstance(instance, Silence):
        return (
            METADATA.not_met(
                instance.why,
                "On an EC2 instance: `aws ec2 modify-instance-metadata-options --instance-id ID "
                "--http-endpoint enabled --http-tokens required`, and look at firewall rules for 169.254.169.254. "
                "A computer that is no instance cannot execute runs of AWS.",
            ),
            *(check.unknown("the metadata service does not tell") for check in (HOPS, USER_DATA, PROFILE)),
        )
    return (
        METADATA.met(f"version 2: {instance.instance_id}, {instance.instance_type}, {instance.region}"),
        _hops(instance),
        _user_data(instance),
        _profile(instance),
    )


def _hops(instance: Instance) -> Finding:
    if instance.two_hops:
        return HOPS.met("its answers travel two hops or more")
    return HOPS.not_met(
        "its tokens end at the machine (hop limit 1), so containers get no credentials",
        f"`aws ec2 modify-instance-metadata-options --instance-id {instance.instance_id} "
        "--http-endpoint enabled --http-put-response-hop-limit 2`; the launcher starts machines so.",
    )


def _user_data(instance: Instance) -> Finding:
    if instance.pointer_problem is not None:
        return USER_DATA.not_met(
            instance.pointer_problem,
            "Start the run again with a launcher and a machine image of the same version.",
        )
    if instance.pointer is None:
        return USER_DATA.not_applicable("no run pointer: started by hand, and left alone by the agent")
    return USER_DATA.met(f"points to run {instance.pointer.run_id}")


def _profile(instance: Instance) -> Finding:
    if instance.role is not None:
        return PROFILE.met(f"role {instance.role}")
    return PROFILE.not_met(
        "the instance has none, so it may do nothing in AWS",
        f"`aws ec2 associate-iam-instance-profile --instance-id {instance.instance_id} --iam-instance-profile "
        "Name=NAME`; docs/aws.md has the role's policy.",
    )
