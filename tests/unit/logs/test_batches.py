"""Bytes to batches, within what PutLogEvents takes."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.logs.batches import BATCH_BYTES, BATCH_EVENTS, WINDOW_BYTES, Cut, Tail, cut
from agent.logs.events import EVENT_BYTES, EVENT_OVERHEAD
from agent.logs.redact import Redactor

NOTHING = Redactor()


def ship(data: bytes, redactor: Redactor = NOTHING, *, steps: list[int] | None = None) -> list[Cut]:
    """Cut a whole log as the shipper does; `steps` are the sizes it is seen to have on the way."""
    cuts: list[Cut] = []
    offset = 0
    for size in [*(steps or []), len(data)]:
        tail = Tail.END if size == len(data) else Tail.TAKE
        while True:
            window = data[offset : min(size, offset + WINDOW_BYTES + redactor.longest)]
            mid_line = offset > 0 and data[offset - 1 : offset] != b"\n"
            made = cut(window, redactor, mid_line=mid_line, tail=tail) if window else Cut(0, [])
            if not made.length:
                break
            again = cut(data[offset : offset + made.length], redactor, mid_line=mid_line, tail=Tail.END)
            assert again.length == made.length
            assert "".join(again.events) == "".join(made.events)
            cuts.append(made)
            offset += made.length
    assert offset == len(data)
    return cuts


def size_of(batch: Cut) -> int:
    """A batch's size as CloudWatch Logs counts it."""
    return sum(len(message.encode()) + EVENT_OVERHEAD for message in batch.events)


def events_of(cuts: list[Cut]) -> list[str]:
    """All messages in order."""
    return [message for batch in cuts for message in batch.events]


def text_of(data: bytes) -> str:
    """What the events of a log say together: its text without line ends, a blank line as one space."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return "".join(line.decode("utf-8", "backslashreplace") or " " for line in lines)


def assert_limits(cuts: list[Cut]) -> None:
    """Every batch is one that the service takes."""
    for batch in cuts:
        assert len(batch.events) <= BATCH_EVENTS
        assert size_of(batch) <= BATCH_BYTES
        assert all(batch.events)
        assert all(len(message.encode()) <= EVENT_BYTES for message in batch.events)


LINES = st.lists(
    st.one_of(
        st.just(b""),
        st.binary(max_size=20),
        st.text(max_size=20).map(str.encode),
        st.sampled_from(
            [b"10%\r20%\r", b"\0", "ä€😀".encode(), b"\xff\xfe", b"hunter2!", b"say hunter2! twice hunter2!"]
        ),
    ),
    max_size=30,
)


@given(LINES, st.lists(st.integers(0, 300), max_size=5), st.booleans())
def test_events_restore_the_text(lines: list[bytes], steps: list[int], ended: bool) -> None:
    """Put together, the events are the log, however it grew; and its blank lines are there."""
    data = b"\n".join(lines) + (b"\n" if ended and lines else b"")

    cuts = ship(data, steps=sorted(step for step in steps if step < len(data)))

    assert "".join(events_of(cuts)) == text_of(data)
    assert_limits(cuts)


@given(LINES)
def test_a_line_is_an_event(lines: list[bytes]) -> None:
    """A log of ordinary lines has one event for each of them, in order."""
    lines = [line.replace(b"\n", b"") for line in lines]
    data = b"".join(line + b"\n" for line in lines)

    assert events_of(ship(data)) == [line.decode("utf-8", "backslashreplace") or " " for line in lines]


@given(LINES, st.lists(st.integers(0, 300), max_size=5))
def test_no_secret_at_any_border(lines: list[bytes], steps: list[int]) -> None:
    """Wherever the log happened to end when it was looked at, no secret comes through in pieces."""
    redactor = Redactor(["hunter2!"])
    data = b"\n".join(lines)

    cuts = ship(data, redactor, steps=sorted(step for step in steps if step < len(data)))

    assert "".join(events_of(cuts)) == text_of(redactor.redact(data))


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"a", b"\xff", "€".encode(), b"hunter2!", b"\n", b"\0"]), st.integers(1, 300_000)
        ),
        min_size=1,
        max_size=6,
    ),
    st.lists(st.floats(0, 1), max_size=3),
    st.booleans(),
)
def test_huge_lines(runs: list[tuple[bytes, int]], steps: list[float], secret: bool) -> None:
    """Lines and batches that are far too long are divided within all limits, and nothing is lost."""
    redactor = Redactor(["hunter2!"] if secret else [])
    data = b"".join((unit * count)[: count + 8] for unit, count in runs)

    cuts = ship(data, redactor, steps=sorted(int(step * len(data)) for step in steps))

    assert_limits(cuts)
    whole = "".join(events_of(cuts))
    assert whole == text_of(redactor.redact(data))
    assert not secret or "hunter2!" not in whole


def test_a_full_batch() -> None:
    """Lines of 120 bytes fill a batch to less than one line below the limit."""
    batch = cut(b"x" * 119 + b"\n", NOTHING)
    assert batch == Cut(120, ["x" * 119])

    batch = cut((b"x" * 120 + b"\n") * 9000, NOTHING)

    assert len(batch.events) == BATCH_BYTES // 146
    assert BATCH_BYTES - 146 < size_of(batch) <= BATCH_BYTES


def test_blank_lines_fill_by_count() -> None:
    """Ten thousand events are a batch, though they are small."""
    assert cut(b"\n" * 12_000, NOTHING) == Cut(BATCH_EVENTS, [" "] * BATCH_EVENTS)


def test_a_line_of_100_mb() -> None:
    """A line of 100 MB becomes full batches, from windows of little more than one."""
    window = b"x" * (WINDOW_BYTES + 100)

    batch = cut(window, NOTHING)

    assert batch.length == 4 * EVENT_BYTES
    assert size_of(batch) == BATCH_BYTES


def test_characters_are_not_divided() -> None:
    """A long line of characters of three bytes is cut between them."""
    batch = cut("€".encode() * 200_000 + b"\n", NOTHING)

    assert "\\" not in "".join(batch.events)
    assert "".join(batch.events) == "€" * 200_000


def test_invalid_utf8_is_visible() -> None:
    """A byte that is no text is shown as an escape."""
    assert cut(b"caf\xe9 \x00\n", NOTHING).events == ["caf\\xe9 \x00"]


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (Tail.WAIT, Cut(0, [])),
        (Tail.TAKE, Cut(9, ["50 % and "])),
        (Tail.END, Cut(13, ["50 % and hunt"])),
    ],
)
def test_a_line_without_end(tail: Tail, expected: Cut) -> None:
    """It waits, or is taken but for what may be the beginning of a secret, or is taken whole."""
    assert cut(b"50 % and hunt", Redactor(["hunter2!"]), tail=tail) == expected


def test_half_a_character_waits() -> None:
    """A character that is not whole yet is left for later."""
    assert cut("ab€".encode()[:-1], NOTHING, tail=Tail.TAKE) == Cut(2, ["ab"])


def test_the_end_of_a_line_that_was_taken() -> None:
    """The line end that comes later makes no blank line of its own."""
    assert cut(b"\nnext\n", NOTHING, mid_line=True) == Cut(6, ["next"])
    assert cut(b"\n", NOTHING, mid_line=True) == Cut(1, [])
    assert cut(b"\n", NOTHING) == Cut(1, [" "])


def test_progress_stays_as_printed() -> None:
    """A carriage return ends no line: a progress bar is one event."""
    events = cut(b"10%\r50%\r100%\ndone\r\n", NOTHING).events

    assert [re.sub("\r", "<", event) for event in events] == ["10%<50%<100%", "done<"]
