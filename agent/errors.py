"""What can go wrong on the machine, as a value: each error knows the stop reason that it leads to."""

from agent.contract import StopReason


class AgentError(Exception):
    """The run cannot go on. Says what failed, why it probably did, and what to do next.

    `reason` is the stop reason of the run; `problems` lists every problem where there are several.
    """

    reason: StopReason = StopReason.AGENT_FAILED

    def __init__(self, message: str, *, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class StoreError(AgentError):
    """S3 did not do what was asked, after all retries."""


class KeyMissing(StoreError):
    """There is no object at this key."""


class SpecInvalid(AgentError):
    """The run spec in S3 cannot be understood."""

    reason = StopReason.SPEC_INVALID


class ImageUnavailable(AgentError):
    """A container image is neither on the machine nor to be pulled."""

    reason = StopReason.IMAGE_UNAVAILABLE


class DiskLost(AgentError):
    """The workload was started on this machine before, and nothing of it is there any more."""

    reason = StopReason.MACHINE_LOST


class SecretUnavailable(AgentError):
    """A secret that the run refers to could not be read."""

    reason = StopReason.SECRET_UNAVAILABLE


class DockerError(AgentError):
    """The Docker daemon did not do what was asked."""
