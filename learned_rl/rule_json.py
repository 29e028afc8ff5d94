"""`rule.json`: what a rule file says of itself, read without trust."""

import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np

from learned_rl.rule_settings import RuleRefused, decode, encode, same_names
from learned_rl.types import Rule

SCHEMA = "1.0"
MAX_BYTES = 2**20
MAX_DEPTH = 32
_KEYS = {"schema", "rule", "heads", "versions", "record"}
_LIBRARIES = ("learned-rl", "jax", "jaxlib", "flax", "numpy", "safetensors")


def write(rule: Rule, record: Mapping[str, Any]) -> bytes:
    """The file's content.

    Raises:
      ValueError: a rule outside the closed list, or a record that is not plain, finite JSON.
    """
    spec = {
        "schema": SCHEMA,
        "rule": encode(rule),
        "heads": heads(rule),
        "versions": {name: _version(name) for name in _LIBRARIES} | {"python": platform.python_version()},
        "record": dict(record),
    }
    try:
        content = json.dumps(spec, indent=2, allow_nan=False, default=_number).encode() + b"\n"
    except TypeError as error:
        raise ValueError(f"record: {error}") from error
    read(content)  # what could not be read again is not written
    return content


def read(content: bytes) -> dict[str, Any]:
    """The specification in a file's bytes; its `rule` is still to be decoded.

    Raises:
      RuleRefused: malformed, duplicate keys, NaN or infinity, too large, too deep, a newer schema, wrong keys.
    """
    spec = _parse(content)
    if not isinstance(spec, dict) or not isinstance(spec.get("schema"), str):
        raise RuleRefused("rule.json: no schema")
    _check_schema(spec)
    same_names(set(spec), _KEYS, "rule.json")
    if not all(isinstance(spec[key], dict) for key in _KEYS - {"schema"}):
        raise RuleRefused("rule.json: rule, heads, versions and record are objects")
    return spec


def rule_of(spec: dict[str, Any]) -> Rule:
    """The rule of a specification.

    Raises:
      RuleRefused: its settings are refused, or its heads are not the ones the rule asks for.
    """
    rule = decode(spec["rule"])
    if spec["heads"] != heads(rule):
        raise RuleRefused(f"rule.json: heads differ from those the rule asks for, {heads(rule)}")
    return rule


def heads(rule: Rule) -> dict[str, dict[str, int]]:
    """What an agent's network must output for the rule, for readers that do not have its code."""
    return {"flat": dict(rule.heads.flat), "per_action": dict(rule.heads.per_action)}


def _check_schema(spec: dict[str, Any]) -> None:
    parts = spec["schema"].split(".")
    if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) < 5 for p in parts):
        raise RuleRefused(f"rule.json: schema {spec['schema'][:20]!r} is not MAJOR.MINOR")
    if tuple(map(int, parts)) > tuple(map(int, SCHEMA.split("."))):
        versions = spec.get("versions")
        maker = versions.get("learned-rl", "?") if isinstance(versions, dict) else "?"
        raise RuleRefused(
            f"made by learned-rl {str(maker)[:20]!r} with schema {spec['schema']}; this is {_version('learned-rl')}, "
            f"which reads up to {SCHEMA}: upgrade learned-rl"
        )
    if spec["schema"] != SCHEMA:
        raise RuleRefused(f"rule.json: there was never a schema {spec['schema']}")


def _parse(content: bytes) -> Any:
    if len(content) > MAX_BYTES:
        raise RuleRefused(f"rule.json: {len(content)} bytes, more than the {MAX_BYTES} allowed")
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise RuleRefused(f"rule.json: nested deeper than {MAX_DEPTH}") from None
    except RuleRefused:
        raise
    except ValueError as error:  # malformed JSON or UTF-8, or an integer of thousands of digits
        raise RuleRefused(f"rule.json: {error}") from None
    if _depth(value) > MAX_DEPTH:
        raise RuleRefused(f"rule.json: nested deeper than {MAX_DEPTH}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise RuleRefused("rule.json: a key stands twice in one object")
    return result


def _refuse_constant(name: str) -> Any:
    raise RuleRefused(f"rule.json: {name} is not JSON")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise RuleRefused(f"rule.json: {text[:40]} is not a finite number")
    return number


def _depth(value: Any) -> int:
    """Level by level: recursion would be bounded by the very thing that is measured."""
    depth, level = 0, [value]
    while level := [
        item for v in level if isinstance(v, dict | list) for item in (v.values() if isinstance(v, dict) else v)
    ]:
        depth += 1
    return depth


def _number(value: Any) -> Any:
    """numpy and jax scalars, as metrics come."""
    if isinstance(value, np.generic) or getattr(value, "shape", None) == ():
        return np.asarray(value).item()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
