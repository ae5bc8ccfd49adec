"""The contract: what both sides read and write, now and from earlier versions."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import contract
from agent.contract import (
    Claim,
    ContractError,
    RunSpec,
    RunState,
    RunStatus,
    StopReason,
    can_become,
    index_key,
    name_key,
    parse,
    program_key,
    run_id_of_index_key,
    run_key,
    run_prefix,
    split_s3_uri,
)
from agent.contract.base import Model

SAVED = Path(__file__).parent / "saved"
SCHEMA = Path(__file__).parents[3] / "docs" / "contract.schema.json"
MODELS: dict[str, type[Model]] = {"spec": RunSpec, "status": RunStatus, "claim": Claim}

run_ids = st.builds(
    lambda when, tail: when.strftime("%Y%m%dt%H%M%S-") + tail,
    st.datetimes(datetime(2024, 1, 1), datetime(2099, 1, 1)),
    st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=6, max_size=6),
)


@pytest.mark.parametrize("path", sorted(SAVED.glob("*.json")), ids=lambda path: path.name)
def test_saved_files_of_every_version_are_still_read(path: Path) -> None:
    """A file that any released version wrote is understood for ever, and comes out as it went in."""
    model = MODELS[path.name.split("-")[0]]
    parsed = parse(model, path.read_bytes())
    assert parse(model, parsed.model_dump_json()) == parsed


def test_there_are_saved_files_of_this_version() -> None:
    """Nobody raises the schema version without saving samples of it."""
    found = {path.name for path in SAVED.glob(f"*-v{contract.SCHEMA_VERSION}-*.json")}
    assert {name.split("-")[0] for name in found} == set(MODELS)


def test_the_checked_in_json_schema_is_the_code_s() -> None:
    """docs/contract.schema.json says what the code says (`make schema` writes it)."""
    assert json.loads(SCHEMA.read_text()) == contract.json_schema()


def test_a_spec_without_an_archive_has_not_even_the_field() -> None:
    """Agents from before the field take every spec that does not need it."""
    spec = parse(RunSpec, (SAVED / "spec-v1-folder.json").read_bytes())
    assert "container_archive_sha256" not in spec.model_dump_json()
    spec = parse(RunSpec, (SAVED / "spec-v1-archive.json").read_bytes())
    assert f'"container_archive_sha256":"{spec.container_archive_sha256}"' in spec.model_dump_json()


def test_all_problems_come_at_once_with_their_field_paths() -> None:
    """A spec altered to nonsense is answered with every wrong field by its path, and no value."""
    spec = json.loads((SAVED / "spec-v1-folder.json").read_text())
    spec["run_id"] = "nonsense"
    spec["time_limit_s"] = -1
    spec["workload"]["session_id"] = 7
    spec["workload"]["colour"] = "blue"
    spec["environment"] = [{"name": "A B", "value": "s3cret-value"}]
    with pytest.raises(ContractError) as caught:
        parse(RunSpec, json.dumps(spec))
    paths = {problem.split(":")[0] for problem in caught.value.problems}
    assert paths == {
        "run_id",
        "time_limit_s",
        "workload.session_id",
        "workload.colour",
        "environment.0.name",
    }
    assert "s3cret-value" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"text"'])
def test_what_is_no_json_object_is_said_so(body: bytes) -> None:
    """A file that is no JSON object gives one clear problem for the whole file."""
    with pytest.raises(ContractError) as caught:
        parse(RunSpec, body)
    assert caught.value.problems[0].startswith("(whole file)")


def test_an_older_reader_says_that_the_file_is_newer() -> None:
    """A newer schema version is one clear error that says what to update, not a list of odd fields."""
    body = json.dumps({"schema_version": contract.SCHEMA_VERSION + 1, "surprise": True})
    with pytest.raises(ContractError, match="newer solorun") as caught:
        parse(RunSpec, body)
    assert len(caught.value.problems) == 1


def test_a_source_is_a_repository_or_a_bundle() -> None:
    """Both kinds of source at once, or neither, is refused."""
    spec = json.loads((SAVED / "spec-v1-folder.json").read_text())
    spec["workload"]["source"]["repository"] = "https://example.org/a.git"
    with pytest.raises(ContractError, match="exactly one"):
        parse(RunSpec, json.dumps(spec))


def test_a_final_state_never_changes() -> None:
    """From a final state there is no way on, and UNKNOWN is never stored."""
    for old in RunState:
        for new in RunState:
            if old.final and new is not old:
                assert not can_become(old, new)
            if new is RunState.UNKNOWN and old is not new:
                assert not can_become(old, new)


@pytest.mark.parametrize("reason", StopReason)
def test_every_stop_reason_says_what_it_means_and_what_to_do(reason: StopReason) -> None:
    """Each stop reason leads to a final state and carries its meaning and advice."""
    assert reason.state.final
    assert len(reason.meaning) > 10
    assert reason.advice.endswith(".")
    assert StopReason(reason.value) is reason  # type: ignore[call-arg]  # mypy reads __new__ as the call


@given(older=run_ids, newer=run_ids)
def test_the_index_lists_newer_runs_first(older: str, newer: str) -> None:
    """S3 lists keys in ascending order: in the index that is newest first, to the second."""
    older, newer = sorted((older, newer))
    if older[:15] == newer[:15]:
        return
    assert index_key("s3://bucket/w", newer) < index_key("s3://bucket/w", older)


@given(run_id=run_ids, folder=st.sampled_from(["", "/", "/a", "/a/b/", "//a"]))
def test_keys_come_back_from_where_they_were_put(run_id: str, folder: str) -> None:
    """Index keys give the run id back, and a run's prefix names its key, wherever the work dir is."""
    work_dir = f"s3://bucket{folder}"
    assert run_id_of_index_key(index_key(work_dir, run_id)) == run_id
    bucket, key = split_s3_uri(run_prefix(work_dir, run_id))
    assert (bucket, key + "/") == ("bucket", run_key(work_dir, run_id))
    assert not run_key(work_dir, run_id).startswith("/")
    assert name_key(work_dir, "a") != name_key(work_dir, "b")
    assert not program_key(work_dir, "0" * 64).startswith(run_key(work_dir, run_id))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    params=st.dictionaries(st.text(max_size=12), json_values, max_size=5),
    run_id=run_ids,
    limit=st.integers(1, 30 * 24 * 3600),
    profiles=st.lists(st.text(max_size=10), max_size=3),
    submitted=st.datetimes(timezones=st.just(UTC)),
)
def test_a_spec_survives_the_journey(
    params: dict[str, object], run_id: str, limit: int, profiles: list[str], submitted: datetime
) -> None:
    """Whatever a person puts into params, the machine reads exactly what the launcher wrote."""
    spec = parse(RunSpec, (SAVED / "spec-v1-folder.json").read_bytes())
    workload = spec.workload.model_copy(update={"params": params, "profiles": tuple(profiles)})
    spec = spec.model_copy(
        update={
            "workload": workload,
            "run_id": run_id,
            "time_limit_s": limit,
            "submitted_at": submitted,
        }
    )
    assert parse(RunSpec, spec.model_dump_json()) == spec


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_nonsense_is_never_more_than_a_contract_error(body: bytes) -> None:
    """No bytes in S3 can make a reader fail in another way than with a list of problems."""
    for model in MODELS.values():
        with suppress(ContractError):
            assert parse(model, body)
