"""Secrets by reference."""

import pytest

from agent.contract import EnvVar, RunSpec, SecretRef, SecretStore, parse
from agent.errors import SecretUnavailable
from agent.secret_values import read_all, references, values_to_redact
from tests.unit.contract.test_contract import SAVED


class Vault:
    """Reads from a dictionary."""

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values

    def read(self, ref: SecretRef) -> str:
        if ref.id not in self.values:
            raise SecretUnavailable(f"{ref.id} is not there.")
        return self.values[ref.id]


def ref(env: str, name: str) -> SecretRef:
    return SecretRef(env=env, store=SecretStore.SSM, id=name)


def test_values_come_by_the_variable_that_carries_them() -> None:
    """Each reference becomes the value of its environment variable."""
    refs = (ref("A", "/a"), ref("B", "/b"))
    assert read_all(refs, Vault({"/a": "1", "/b": "2"})) == {"A": "1", "B": "2"}


def test_all_missing_secrets_are_named_at_once() -> None:
    """Two secrets that cannot be read are two problems of one error."""
    with pytest.raises(SecretUnavailable) as caught:
        read_all((ref("A", "/a"), ref("B", "/b")), Vault({}))
    assert len(caught.value.problems) == 2


def test_the_platform_token_is_one_of_the_references() -> None:
    """A run's secrets and its Platform token are all read."""
    spec = parse(RunSpec, (SAVED / "spec-v1-repository.json").read_bytes())
    assert [item.env for item in references(spec)] == ["DB_PASSWORD", "TOWER_ACCESS_TOKEN"]


def test_what_looks_like_a_secret_is_redacted_too() -> None:
    """A password that somebody gave as a plain variable stays out of the logs as well."""
    spec = parse(RunSpec, (SAVED / "spec-v1-folder.json").read_bytes()).model_copy(
        update={
            "environment": (
                EnvVar(name="LEVEL", value="high"),
                EnvVar(name="MY_db_password", value="hunter22"),
                EnvVar(name="EMPTY_TOKEN", value=""),
            )
        }
    )
    assert set(values_to_redact(spec, {"A": "from-the-store"})) == {"from-the-store", "hunter22"}
