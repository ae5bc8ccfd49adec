"""Reading a file of the contract: all problems at once, each with its field path."""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from agent.contract.base import SCHEMA_VERSION, Model
from agent.contract.keys import CLAIM, SPEC, STATUS, STOP
from agent.contract.spec import RunSpec
from agent.contract.status import Claim, RunPointer, RunStatus, StopRequest


class ContractError(ValueError):
    """A file that is not what the contract says. `problems` has every one, `field.path: what is wrong`."""

    def __init__(self, what: str, problems: tuple[str, ...]) -> None:
        super().__init__(f"{what}: " + "; ".join(problems))
        self.what = what
        self.problems = problems


M = TypeVar("M", bound=Model)


def parse(model: type[M], data: bytes | str) -> M:
    """Read a file of the contract.

    Raises:
        ContractError: not JSON, of a newer schema version, or with any wrong field; all problems at once.
    """
    what = _FILE_NAMES.get(model, model.__name__)
    try:
        raw: Any = json.loads(data)
    except ValueError as error:
        raise ContractError(what, (f"(whole file): not JSON: {error}",)) from None
    if not isinstance(raw, dict):
        raise ContractError(what, (f"(whole file): a JSON object is expected, not {type(raw).__name__}",))
    version = raw.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ContractError(
            what,
            (
                f"schema_version: written by a newer solorun (schema {version}; this one reads up to "
                f"{SCHEMA_VERSION}): update solorun here, or the machine image it runs on",
            ),
        )
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise ContractError(what, problems_of(error)) from None


def problems_of(error: ValidationError) -> tuple[str, ...]:
    """Every problem of a validation, `field.path: what is wrong`; never the value, which may be secret."""
    return tuple(
        f"{'.'.join(str(part) for part in item['loc']) or '(whole file)'}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False)
    )


_FILE_NAMES: Final[dict[type[BaseModel], str]] = {
    RunSpec: SPEC,
    RunStatus: STATUS,
    Claim: CLAIM,
    StopRequest: STOP,
    RunPointer: "user data",
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of every file of the contract, under the file's name."""
    return {name: model.model_json_schema() for model, name in _FILE_NAMES.items()}
