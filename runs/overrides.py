"""Changing settings from the command line by dotted path, and writing them down the same way.

Settings are nested frozen dataclasses. Libraries that build a command line from annotations (tyro, simple-parsing) do
not fit: the fields of an experiment are typed by *protocols* (`rule: Rule`, `estimator: GradientEstimator`), which say
nothing about what can be set. The object at hand does: if the recipe chose persistent evolution strategies, then
`outer.estimator.std` exists. So the walk follows the instance, and only at the leaf is the declared type read.
"""

import dataclasses
import functools
import hashlib
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from runs.errors import ConfigurationError, nearest

Settings = TypeVar("Settings")
Scalar = str | int | float | bool

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", types.NoneType: "none"}


def apply_overrides(settings: Settings, overrides: Mapping[str, str]) -> Settings:
    """Returns `settings` with the fields at the dotted paths replaced by the parsed texts.

    `{"outer.estimator.std": "0.03", "tasks.0.size": "5", "network.widths": "64,64"}`: fields of dataclasses by name,
    elements of tuples by index. All fields of one dataclass change at once: its own checks see the final combination.

    Raises:
      ConfigurationError: with *every* mistake, one a line: dotted path, what was given, what is allowed, nearest names.
    """
    mistakes: list[str] = []
    changed = _rebuild(settings, "", _as_tree(overrides, mistakes), mistakes)
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    return changed


def flatten(settings: Any) -> dict[str, Scalar]:
    """Writes settings as `{dotted path: scalar}`, for the record of a run.

    A nested dataclass appears as its type name under its own path, followed by its fields; functions as their names;
    tuples of scalars in the form that `apply_overrides` reads.
    """
    return {path: value for path, value in _leaves(settings, "") if path}


def _as_tree(overrides: Mapping[str, str], mistakes: list[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, text in overrides.items():
        *parents, last = path.split(".")
        node: Any = tree
        for name in parents:
            node = node.setdefault(name, {}) if isinstance(node, dict) else node
        if not isinstance(node, dict) or isinstance(node.get(last), dict):
            mistakes.append(f"{path} = {text}: set both as a whole and in part")
        else:
            node[last] = text
    return tree


def _rebuild(value: Any, path: str, tree: dict[str, Any], mistakes: list[str]) -> Any:
    parts = _parts(value)
    hints = _declared(value)
    changes = {}
    for name, change in tree.items():
        where = f"{path}.{name}" if path else name
        if name not in parts:
            mistakes.append(_unknown(where, name, change, parts, value))
        elif isinstance(change, dict):
            changes[name] = _rebuild(parts[name], where, change, mistakes)
        else:
            try:
                changes[name] = _parse(change, hints.get(name, Any), parts[name])
            except ValueError as error:
                mistakes.append(f"{where} = {change}: {error}")
    if not changes:
        return value
    if isinstance(value, tuple):
        elements = [changes.get(name, element) for name, element in parts.items()]
        return type(value)(*elements) if hasattr(value, "_fields") else tuple(elements)
    try:
        return dataclasses.replace(value, **changes)
    except (ValueError, TypeError) as error:  # raised by the dataclass's own checks
        given = ", ".join(f"{name} = {change}" for name, change in tree.items() if not isinstance(change, dict))
        mistakes.append(f"{path or type(value).__name__}: {error}" + (f" (given {given})" if given else ""))
        return value


def _parts(value: Any) -> dict[str, Any]:
    """What can be addressed inside `value`, by name."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, tuple):
        return dict(zip(getattr(value, "_fields", map(str, range(len(value)))), value, strict=True))
    return {}


def _declared(value: Any) -> Mapping[str, Any]:
    try:
        hints = typing.get_type_hints(type(value))
    except (NameError, TypeError):  # a name that exists only for the type checker: the present values decide
        hints = {}
    return hints


def _unknown(where: str, name: str, change: Any, parts: Mapping[str, Any], value: Any) -> str:
    given = f"{where} = {change}" if isinstance(change, str) else where
    if not parts:
        return f"{given}: {type(value).__name__} has no settings inside"
    parent = where.removesuffix(name)
    near = nearest(name, parts)
    hint = near.replace("meant ", f"meant {parent}").replace(" or ", f" or {parent}") + "; " if near else ""
    return f"{given}: no such setting; {hint}allowed: {', '.join(parts)}"


def _parse(text: str, declared: Any, present: Any) -> Any:
    """Reads `text` as the declared type; where that is a protocol or a function type, as the type of what is there."""
    readers = list(_readers(declared)) or list(_readers(type(present)))
    if type(present) is tuple and present and not readers:
        readers = list(_readers(tuple[type(present[0]), ...]))
    for _, read in readers:
        try:
            return read(text)
        except ValueError:
            continue
    allowed = " or ".join(name for name, _ in readers)
    if allowed:
        raise ValueError(f"expected {allowed}" + _suggestion(text, declared))
    inside = ", ".join(_parts(present))
    kind = getattr(present, "__name__", type(present).__name__)
    raise ValueError(f"{kind} is chosen by the recipe" + (f"; settings inside it: {inside}" if inside else ""))


def _suggestion(text: str, declared: Any) -> str:
    if typing.get_origin(declared) is not typing.Literal:
        return ""
    near = nearest(text, map(str, typing.get_args(declared)))
    return f"; {near}" if near else ""


def _readers(declared: Any) -> Iterator[tuple[str, Callable[[str], Any]]]:
    """The ways to read a text as `declared`: (what is allowed, function that raises ValueError)."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin in (typing.Union, types.UnionType):
        for member in sorted(arguments, key=lambda member: member is str):  # text accepts everything: it comes last
            yield from _readers(member)
    elif origin is typing.Annotated:
        yield from _readers(arguments[0])
    elif origin is typing.Literal:
        yield f"one of {', '.join(map(str, arguments))}", functools.partial(_read_choice, arguments)
    elif origin is tuple and arguments:
        elements = [list(_readers(argument)) for argument in arguments if argument is not Ellipsis]
        if all(elements):
            count = None if Ellipsis in arguments else len(elements)
            name = f"{count or 'any number of'} values between commas, each {elements[0][0][0]}"
            yield name, functools.partial(_read_tuple, [readers[0][1] for readers in elements], count)
    elif declared in _NAMES:
        yield _NAMES[declared], functools.partial(_read_scalar, declared)


def _read_scalar(kind: type, text: str) -> Any:
    if kind is bool or kind is types.NoneType:
        words = _WORDS if kind is bool else {"none": None}
        if text.strip().lower() not in words:
            raise ValueError(text)
        return words[text.strip().lower()]
    value = kind(text)
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(text)
    return value


def _read_choice(choices: tuple[Any, ...], text: str) -> Any:
    for choice in choices:
        if str(choice) == text:
            return choice
    raise ValueError(text)


def _read_tuple(readers: list[Callable[[str], Any]], count: int | None, text: str) -> tuple[Any, ...]:
    inner = text.strip().removeprefix("(").removesuffix(")").strip().removesuffix(",")
    texts = [part.strip() for part in inner.split(",")] if inner else []
    if count is not None and len(texts) != count:
        raise ValueError(text)
    return tuple(read(part) for read, part in zip(readers if count else readers * len(texts), texts, strict=True))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Scalar]]:
    parts = value if isinstance(value, Mapping) else _parts(value)
    plain = type(value) is tuple and not any(_parts(part) or callable(part) for part in value)
    if (parts and not plain) or dataclasses.is_dataclass(value):
        if not isinstance(value, Mapping) and type(value) is not tuple:
            yield path, type(value).__name__
        for name, part in parts.items():
            yield from _leaves(part, f"{path}.{name}" if path else str(name))
    else:
        yield path, _scalar(value)


def _scalar(value: Any) -> Scalar:
    if value is None:
        return "none"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return ",".join(str(_scalar(part)) for part in value) or "()"
    if hasattr(value, "dtype") and hasattr(value, "tobytes"):
        if value.ndim == 0:
            return _scalar(value.item())
        return f"{value.dtype}{list(value.shape)} {hashlib.sha256(value.tobytes()).hexdigest()[:12]}"
    return getattr(value, "__name__", type(value).__name__)  # never repr: it may hold a memory address
