"""YAML as the launcher reads it: one document, errors with their line, plain values only."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import yaml


class NotYaml(ValueError):
    """The text is not YAML; the message has line and column, counted from 1."""


def load(text: str) -> Any:
    """The value of a YAML (or JSON) document; dates stay strings, as JSON has none.

    Raises:
        NotYaml: the text does not parse.
    """
    try:
        return _plain(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise NotYaml(_problem(error)) from None
    except (ValueError, RecursionError) as error:
        raise NotYaml(str(error)) from None


def scalar(text: str) -> Any:
    """A value as typed on a command line: `3` is a number, `true` a truth, `[a, b]` a list, else text."""
    try:
        return load(text) if text.strip() else text
    except NotYaml:
        return text


def dump(value: Any) -> str:
    """The value as YAML, keys in the order they have."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False, width=100)


def _problem(error: yaml.YAMLError) -> str:
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return f"{where}{what}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, set):
        return sorted(str(item) for item in value)
    if isinstance(value, bytes):
        raise NotYaml("binary values cannot be passed on")
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise NotYaml("a number that is not finite cannot be passed on")
    return value


def _key(key: Any) -> str:
    # YAML reads an unquoted yes, no, on and off as a truth: a name that looks so is still a name
    if isinstance(key, bool):
        return "true" if key else "false"
    return key if isinstance(key, str) else str(key)
