"""Secrets out of logs."""

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.logs.redact import MASK, Redactor, redacted_copy

SECRET = "p/ss+w0rd=ä!"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps({"token": SECRET}),
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(b"user:" + SECRET.encode() + b"@host").decode(),
        base64.urlsafe_b64encode(b"ab" + SECRET.encode()).decode(),
    ],
)
def test_forms(form: str) -> None:
    """A secret is found as it is, in a URL, in JSON, and in base64 at any place of a longer text."""
    redacted = Redactor([SECRET]).redact(f"before {form} after".encode())

    assert MASK in redacted
    assert redacted.startswith(b"before ")
    assert redacted.endswith(b" after")


def test_lines_of_a_key() -> None:
    """Every line of a secret of several lines is masked by itself, whatever the line ends are."""
    key = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEA\nshort\n-----END KEY-----\n"

    redactor = Redactor([key])

    assert redactor.redact(b"  MIIEowIBAAKCAQEA\r\nshort\r\n") == b"  [redacted]\r\nshort\r\n"
    assert redactor.too_short == 1


def test_short_values_stay() -> None:
    """A value shorter than six bytes is no secret to look for, and empty ones are ignored."""
    redactor = Redactor(["true", "", b"12345"])

    assert not redactor.active
    assert redactor.redact(b"true 12345") == b"true 12345"
    assert redactor.too_short == 2


def test_no_secret_no_copy() -> None:
    """Where nothing is found, the very same object comes back."""
    data = b"nothing here" * 1000

    assert Redactor([SECRET]).redact(data) is data
    assert Redactor().redact(data) is data


def test_longer_secret_first() -> None:
    """Of two secrets where one begins with the other, nothing of the longer one is left."""
    assert (
        Redactor(["secret-value", "secret-value-and-more"]).redact(b"<secret-value-and-more>")
        == b"<[redacted]>"
    )


def test_text_with_a_lone_surrogate() -> None:
    """Text that UTF-8 has no bytes for is redacted all the same."""
    assert Redactor(["s3cret-value"]).redact_text("\udcff s3cret-value") == "\\udcff [redacted]"


@given(
    words=st.lists(st.sampled_from(["hunter2!", "correct horse", "hunter", "\n", "x", "ä"]), max_size=40),
    chunk=st.integers(1, 50),
)
def test_stream_at_every_border(words: list[str], chunk: int) -> None:
    """A stream is redacted as the whole would be, wherever its chunks end."""
    redactor = Redactor(["hunter2!", "correct horse"])
    data = "".join(words).encode()
    chunks = (data[start : start + chunk] for start in range(0, len(data), chunk))

    assert b"".join(redactor.stream(chunks)) == redactor.redact(data)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 10))
def test_safe_cut(before: int, cut: int, after: int) -> None:
    """A cut is never inside of a secret, moves no farther than the secret reaches, and makes progress."""
    redactor = Redactor(["hunter2!"])
    data = b"." * before + b"hunter2!" + b"." * after
    cut = min(max(cut, 1), len(data))

    safe = redactor.safe_cut(data, 0, cut)

    assert 0 < safe <= len(data)
    assert not before < safe < before + 8
    assert abs(safe - cut) < 8


@pytest.mark.parametrize(
    ("data", "held"), [(b"say hunter2", 7), (b"say h", 1), (b"say hunter2!", 0), (b"", 0)]
)
def test_held_back(data: bytes, held: int) -> None:
    """The beginning of a secret at the end of the data is known, a whole one is none."""
    assert Redactor(["hunter2!"]).held_back(data) == held


def test_copy_of_a_huge_line(tmp_path: Path) -> None:
    """A log of one line is copied without its secrets, which lie across the chunks of the copy too."""
    source, target = tmp_path / "log", tmp_path / "copy"
    block = b"." * (1 << 20)
    source.write_bytes(block[:-4] + b"hunter2!" + block + b"hunter2!" + block)

    written = redacted_copy(source, target, Redactor(["hunter2!"]))

    copy = target.read_bytes()
    assert copy == block[:-4] + MASK + block + MASK + block
    assert written == len(copy)
