"""Durations, names, YAML values, near names."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import contract
from launcher import yaml_text
from launcher.catalog import Arch, arch_of
from launcher.names import new_run_id, new_run_name, new_session_id
from launcher.text import did_you_mean, duration, parse_duration, size
from launcher.trace import parse_trace


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("90m", 5400),
        ("4h", 14400),
        ("1d12h", 129600),
        ("1h 30m".replace(" ", ""), 5400),
        ("30d", 2592000),
    ],
)
def test_durations_are_read(text: str, seconds: int) -> None:
    """Units from days to seconds, in that order."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "4", "h", "-1h", "0s", "31d", "1h1d", "4 hours", "1.5h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A number without a unit too: 4 might mean hours or seconds."""
    with pytest.raises(ValueError, match=r"duration|range"):
        parse_duration(text)


def test_sizes_and_durations_are_said_shortly() -> None:
    """As a person would."""
    assert [duration(value) for value in (0, 59.6, 61, 3700, 90000)] == [
        "0s",
        "1m 00s",
        "1m 01s",
        "1h 01m",
        "1d 01h",
    ]
    assert [size(value) for value in (0, 1023, 1536, 5 << 30, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
        "3.0 TiB",
    ]


@given(st.datetimes(datetime(2020, 1, 1), datetime(2099, 1, 1)), st.integers(1, 10**6), st.integers())
def test_run_ids_sort_by_time_and_fit_the_contract(moment: datetime, later: int, seed: int) -> None:
    """An id of a later second is greater, and its index key is smaller."""
    rng = random.Random(seed)  # noqa: S311 - ids, not keys
    first = new_run_id(moment.replace(tzinfo=UTC), rng)
    second = new_run_id(moment.replace(tzinfo=UTC) + timedelta(seconds=later), rng)
    assert re.match(contract.RUN_ID_PATTERN, first)
    assert first < second
    assert contract.index_key("s3://bucket", first) > contract.index_key("s3://bucket", second)


def test_made_up_names_are_run_names() -> None:
    """Every adjective and every scientist gives a name that Nextflow takes; sessions are UUIDs."""
    rng = random.Random(1)  # noqa: S311 - names, not keys
    for name in {new_run_name(rng) for _ in range(3000)}:
        assert re.match(contract.RUN_NAME_PATTERN, name)
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", new_session_id(rng)
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("2.5", 2.5),
        ("true", True),
        ("null", None),
        ("[a, 1]", ["a", 1]),
        ("s3://bucket/a b", "s3://bucket/a b"),
        ("2026-01-02", "2026-01-02"),
        ("", ""),
        ("a: b: c", "a: b: c"),
        ("'7'", "7"),
        (".inf", ".inf"),
        ("NaN", "NaN"),
        ("no", "no"),
        ("007", "007"),
        ("12:30", "12:30"),
        ("True", True),
        ("1e3", 1000.0),
        ("{a: 1}", {"a": 1}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        ('"\\ud83d"', '"\\ud83d"'),
        ("[1", "[1"),
    ],
)
def test_values_on_the_command_line_are_typed(text: str, value: object) -> None:
    """Numbers, truths, lists and mappings; all else is text, also what YAML would make something odd of."""
    assert yaml_text.scalar(text) == value


def test_near_names_are_offered_and_far_ones_are_not() -> None:
    """A mistyped name brings the right one, nonsense brings nothing."""
    assert did_you_mean("mian", ["main", "gpu"]) == "Did you mean main?"
    assert did_you_mean("zzz", ["main", "gpu"]) == ""


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("m5d.large", Arch.X86_64),
        ("m6gd.large", Arch.ARM64),
        ("c7g.metal", Arch.ARM64),
        ("g4dn.xlarge", Arch.X86_64),
        ("g5g.xlarge", Arch.ARM64),
        ("im4gn.large", Arch.ARM64),
        ("a1.large", Arch.ARM64),
        ("t3.micro", Arch.X86_64),
        ("u-6tb1.metal", Arch.X86_64),
        ("p5.48xlarge", Arch.X86_64),
    ],
)
def test_an_instance_types_name_tells_its_processor(name: str, arch: Arch) -> None:
    """A `g` after the generation means Graviton; one before it means graphics."""
    assert arch_of(name) is arch


def test_a_torn_trace_is_read_as_far_as_it_is_whole() -> None:
    """The agent may be in the middle of writing a line; an empty or odd file has no tasks."""
    trace = parse_trace('name\texit\nA "quoted\t0\nB\t-\nC')
    assert [(task["name"], task["exit"]) for task in trace.tasks] == [('A "quoted', "0"), ("B", "")]
    assert trace.columns() == ("name", "exit")
    assert parse_trace("").tasks == ()


def test_raw_numbers_of_a_trace_get_their_units() -> None:
    """The trace is written raw, for programs; people see seconds and bytes."""
    trace = parse_trace("name\tduration\trealtime\tpeak_rss\texit\nA\t1611\t61000\t62800\t0\n")
    assert trace.rows() == [["A", "0", "1.6s", "1m 01s", "61.3 KiB"]]
