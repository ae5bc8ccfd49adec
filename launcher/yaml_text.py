"""YAML as the launcher reads it: one document, errors with their line, plain values only."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import yaml


class NotYaml(ValueError):
    """The text is not YAML; the message has line and column, counted from 1."""


def load(text: str) -> Any:
    """The value of a YAML or JSON document; dates stay strings, as JSON has none.

    Raises:
        NotYaml: the text is neither.
    """
    problem = ""
    if text.lstrip()[:1] in tuple('{["'):
        # JSON first: YAML forbids the tabs that JSON may be indented with, and reads its escapes differently
        try:
            return _plain(json.loads(text))
        except json.JSONDecodeError as error:
            problem = f"as JSON: line {error.lineno}, column {error.colno}: {error.msg}; as YAML: "
        except RecursionError as error:
            raise NotYaml(str(error)) from None
    try:
        return _plain(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise NotYaml(problem + _problem(error)) from None
    except NotYaml:
        raise
    except (ValueError, RecursionError) as error:
        raise NotYaml(problem + str(error)) from None


def scalar(text: str) -> Any:
    """A value as typed on a command line: `3` is a number, `true` a truth, `[a, 1]` a list; else text.

    Stricter than YAML, which takes `no` for a truth, `007` for 7 and `12:30` for 750: those stay text.
    """
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        if text[:1] in tuple("{['\""):
            return load(text)
        return _plain(json.loads(text))
    except ValueError:
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
    if isinstance(value, str):
        return _text(value)
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
    return _text(key) if isinstance(key, str) else str(key)


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise NotYaml("half of a character (a lone surrogate) cannot be passed on") from None
    return value
