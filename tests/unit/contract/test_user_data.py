"""The run pointer in user data: found in both forms, and never in somebody else's."""

import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract import ContractError, RunPointer, find_pointer, pointer_line

POINTER = RunPointer(
    run_id="20260101t080000-abc123",
    prefix="s3://bucket/work/.solorun/runs/20260101t080000-abc123",
    region="us-east-1",
    log_group="/solorun/runs",
)
WHOLE = POINTER.model_dump_json().encode()
SCRIPT = f"#!/bin/sh\n{pointer_line(POINTER)}\nset -eu\necho '{{\"solorun\": 7}}'\n".encode()


@pytest.mark.parametrize("data", [WHOLE, b" " + WHOLE + b"\n", SCRIPT, SCRIPT.replace(b"\nset", b"\r\nset")])
def test_a_pointer_is_found_alone_and_in_a_script(data: bytes) -> None:
    """The pointer is the whole of the user data, or a comment of the script that brings the agent."""
    assert find_pointer(data) == POINTER


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"#!/bin/sh\ntrue\n",
        b"#!/bin/sh\necho '" + WHOLE + b"'\n",
        b"#!/bin/sh\n  " + pointer_line(POINTER).encode() + b"\n",
        b"#cloud-config\n" + pointer_line(POINTER).encode() + b"\n",
        b"[1]",
        b'{"a": 1}',
        b"\x1f\x8b\x00\xff",
        b'"solorun"',
    ],
)
def test_user_data_of_somebody_else_are_left_alone(data: bytes | None) -> None:
    """A machine started by hand, with any user data or none, has no pointer; also where a script speaks of one."""
    assert find_pointer(data) is None


Form = Callable[[dict[str, object]], bytes]


def as_script(body: dict[str, object]) -> bytes:
    return f"#!/bin/sh\n# solorun-pointer: {json.dumps(body)}\n".encode()


@pytest.mark.parametrize("form", [lambda body: json.dumps(body).encode(), as_script])
def test_a_malformed_pointer_is_an_error_with_all_problems(form: Form) -> None:
    """User data that are meant to be ours are not passed over: every wrong field is named."""
    with pytest.raises(ContractError) as caught:
        find_pointer(form({"solorun": 1, "run_id": "x", "prefix": "y"}))
    assert {problem.split(":")[0] for problem in caught.value.problems} == {
        "run_id",
        "prefix",
        "region",
        "log_group",
    }


@pytest.mark.parametrize("form", [lambda body: json.dumps(body).encode(), as_script])
def test_a_newer_pointer_is_an_error_that_says_so(form: Form) -> None:
    """A pointer of a newer solorun asks for a newer machine image."""
    with pytest.raises(ContractError, match="newer solorun"):
        find_pointer(form(POINTER.model_dump() | {"solorun": 2, "more": 1}))


def test_a_cut_off_pointer_in_a_script_is_an_error() -> None:
    """The comment is there and is no JSON: it was meant to be ours."""
    with pytest.raises(ContractError, match="not JSON"):
        find_pointer(SCRIPT[:120])


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"#!", b"#!/bin/sh\n# solorun-pointer: ", b'{"solorun":'])
)
def test_nonsense_is_never_more_than_a_contract_error(body: bytes, start: bytes) -> None:
    """No user data can make the reader fail in another way than with a list of problems."""
    with suppress(ContractError):
        assert find_pointer(start + body) is None
