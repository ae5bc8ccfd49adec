"""Secrets by reference become values here, and go nowhere but into one container's environment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from agent.contract import EnvVar, RunSpec, SecretRef, SecretStore
from agent.errors import SecretUnavailable

if TYPE_CHECKING:
    import boto3


class SecretReader(Protocol):
    """Reads one secret."""

    def read(self, ref: SecretRef) -> str:
        """The secret's value.

        Raises:
            SecretUnavailable: it is not there, or the instance role may not read it.
        """


class AwsSecretReader:
    """Reads from Parameter Store and Secrets Manager with the machine's own role."""

    def __init__(self, session: boto3.Session, region: str) -> None:
        self._session = session
        self._region = region

    def read(self, ref: SecretRef) -> str:
        """The secret's value; raises SecretUnavailable."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if ref.store is SecretStore.SSM:
                ssm = self._session.client("ssm", region_name=self._region)
                return ssm.get_parameter(Name=ref.id, WithDecryption=True)["Parameter"]["Value"]
            manager = self._session.client("secretsmanager", region_name=self._region)
            answer = manager.get_secret_value(SecretId=ref.id)
        except (ClientError, BotoCoreError) as error:
            action = "ssm:GetParameter" if ref.store is SecretStore.SSM else "secretsmanager:GetSecretValue"
            raise SecretUnavailable(
                f"The secret for {ref.env} ({ref.store}:{ref.id}) could not be read: {error}. "
                f"Check its name, its region ({self._region}), and that the instance role allows {action}."
            ) from error
        if "SecretString" not in answer:
            raise SecretUnavailable(
                f"The secret for {ref.env} ({ref.store}:{ref.id}) is binary; store it as text."
            )
        return answer["SecretString"]


def read_all(refs: Iterable[SecretRef], reader: SecretReader) -> dict[str, str]:
    """The value of every reference by the name of its environment variable.

    Raises:
        SecretUnavailable: one or more cannot be read; `problems` lists each.
    """
    values: dict[str, str] = {}
    problems: list[str] = []
    for ref in refs:
        try:
            values[ref.env] = reader.read(ref)
        except SecretUnavailable as error:
            problems.append(str(error))
    if problems:
        raise SecretUnavailable(" ".join(problems), problems=tuple(problems))
    return values


_SECRET_NAME: Final = re.compile(
    r"(PASSWORD|PASSWD|SECRET|TOKEN|PRIVATE_KEY|ACCESS_KEY|SECRET_KEY|API_KEY|CONNECTION_STRING)$",
    re.IGNORECASE,
)
"""Names whose values are kept out of logs even where they were given in the open (after Buildkite's list)."""


def values_to_redact(spec: RunSpec, secrets: Mapping[str, str]) -> tuple[str, ...]:
    """Everything that must not appear in a log: the secrets, and plain variables with a secret's name."""
    in_the_open = (variable.value for variable in spec.environment if _looks_secret(variable))
    return tuple(value for value in (*secrets.values(), *in_the_open) if value)


def _looks_secret(variable: EnvVar) -> bool:
    return _SECRET_NAME.search(variable.name) is not None


def references(spec: RunSpec) -> tuple[SecretRef, ...]:
    """Every secret that the run refers to."""
    token = spec.workload.platform_token
    return (*spec.secrets, *((token,) if token is not None else ()))
