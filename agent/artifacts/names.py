"""File names as keys in S3: what a name becomes, why some cannot, how they are told, and content types."""

from __future__ import annotations

import mimetypes
import os
from typing import Final

MAX_KEY_BYTES: Final = 1024

_TYPES: Final = {
    ".bai": "application/octet-stream",
    ".bam": "application/octet-stream",
    ".bcf": "application/octet-stream",
    ".bed": "text/plain",
    ".command": "text/plain",
    ".cram": "application/octet-stream",
    ".fa": "text/plain",
    ".fai": "text/plain",
    ".fasta": "text/plain",
    ".fastq": "text/plain",
    ".fq": "text/plain",
    ".gff": "text/plain",
    ".gtf": "text/plain",
    ".gz": "application/gzip",
    ".jsonl": "application/jsonl",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".nf": "text/plain",
    ".parquet": "application/vnd.apache.parquet",
    ".sam": "text/plain",
    ".sh": "text/plain",
    ".tsv": "text/tab-separated-values",
    ".vcf": "text/plain",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zst": "application/zstd",
}
"""What the standard library does not know, or says otherwise on every machine."""
_UNKNOWN: Final = "application/octet-stream"
_TEXTS: Final = ("text/", "application/json", "application/jsonl", "application/yaml")
_MIMETYPES: Final = mimetypes.MimeTypes()
"""The library's own table, without the machine's /etc/mime.types: the same everywhere."""


def content_type(name: str) -> str:
    """The content type of a file by its name; text is declared to be UTF-8, so that browsers show it right."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - Path() costs ten times as much, for every file
    kind = _TYPES.get(suffix)
    if kind is None:
        guessed, encoding = _MIMETYPES.guess_type(name)
        kind = guessed if guessed and not encoding else _UNKNOWN
    return f"{kind}; charset=utf-8" if kind.startswith(_TEXTS) else kind


def why_no_key(key: str) -> str | None:
    """Why S3, or our client, cannot hold this key; None where it can.

    S3 takes any UTF-8 of up to 1,024 bytes, but its listings are XML, which has no control characters.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "the name is not valid UTF-8"
    if size > MAX_KEY_BYTES:
        return f"the key would have {size} bytes, S3 takes {MAX_KEY_BYTES}"
    if any(ord(char) < 0x20 or char == "\x7f" for char in key):
        return "the name has control characters"
    if any(segment in {"", ".", ".."} for segment in key.split("/")):
        return "the name is not a file's"
    return None


def escaped(name: str) -> str:
    r"""The name as printable text: control characters and bytes that are no UTF-8 become `\xNN`."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def manifest_line(sha256: str, name: str) -> str:
    """One line as `sha256sum` prints it, and `sha256sum --check` reads it."""
    if "\\" in name:
        return f"\\{sha256}  {name.replace(chr(92), chr(92) * 2)}\n"
    return f"{sha256}  {name}\n"
