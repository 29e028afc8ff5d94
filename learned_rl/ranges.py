"""What task families draw from, as plain JSON, and what two of them have in common: whether one is held out of another.

A description is `{"name": ..., "environment": ..., "ranges": {parameter: range}}`, a range as in `learned_rl.samplers`.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from learned_rl.samplers import Sampler
from learned_rl.types import TaskFamily

SAME_TASKS = ("label", "credited")
"""Fields that change what a family is called or what its rewards are like, and not what is drawn from it."""

Range: TypeAlias = Mapping[str, Any]
Description: TypeAlias = Mapping[str, Any]


@runtime_checkable
class Described(Protocol):
    """A family that says itself what it draws: an adapter, whose fields are what differs from somebody's defaults."""

    @property
    def environment(self) -> str:
        """What has to be the same for two families to overlap at all."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Every parameter, those that are as usual included: a sampler, or the value that it always has."""
        ...


def describe(tasks: TaskFamily) -> dict[str, Any]:
    """The description of a family.

    For a family that is not `Described`, its type is the environment and its fields are the parameters, except for
    `SAME_TASKS`; a family in a field, as in `Trials`, belongs to the environment.
    """
    found = _parameters(tasks) if isinstance(tasks, Described) else _fields(tasks, "")
    return {"name": tasks.name, "environment": _environment(tasks), "ranges": dict(found)}


def overlap(one: Description, other: Description) -> dict[str, Range] | None:
    """What two families have in common, parameter by parameter; None if no task can be drawn from both.

    They are apart if they differ in the environment, or if the ranges of one parameter have no value in common. A
    parameter that only one of them knows does not tell them apart. Between whole numbers, ranges of reals count.
    """
    if one["environment"] != other["environment"]:
        return None
    common = {}
    for name in one["ranges"]:
        if name in other["ranges"]:
            common[name] = shared(one["ranges"][name], other["ranges"][name])
            if common[name] is None:
                return None
    return common


def shared(one: Range, other: Range) -> Range | None:
    """The values that are in both ranges, as a range; None if there are none."""
    if "is" in one and "is" in other:
        return one if one["is"] == other["is"] else None
    mine, theirs = _ends(one), _ends(other)
    if mine is None or theirs is None:
        return None
    low = max(mine[0], theirs[0])
    high, included = min(mine[1:], theirs[1:])  # of equal ends, the one that is not included is the lower one
    if low > high or (low == high and not included):
        return None
    return {"is": low} if low == high else {"from": low, "to" if included else "below": high}


def text(values: Range) -> str:
    """A range in the notation of intervals."""
    if "is" in values:
        return str(values["is"])
    return f"[{values['from']:g}, {values['to']:g}]" if "to" in values else f"[{values['from']:g}, {values['below']:g})"


def _ends(values: Range) -> tuple[float, float, bool] | None:
    """Lowest value, highest value, whether that one is included; None if these are no numbers."""
    if "is" in values:
        value = values["is"]
        return (value, value, True) if isinstance(value, int | float) else None
    return (values["from"], values["to"], True) if "to" in values else (values["from"], values["below"], False)


def _environment(tasks: Any) -> str:
    if isinstance(tasks, Described):
        return tasks.environment
    inner = [_environment(value) for _, value in _settings(tasks) if isinstance(value, TaskFamily)]
    return type(tasks).__name__ + (f"({', '.join(inner)})" if inner else "")


def _parameters(tasks: Described) -> Iterator[tuple[str, Range]]:
    for name, value in tasks.parameters.items():
        yield name, _range(value)


def _fields(value: Any, path: str) -> Iterator[tuple[str, Range]]:
    """The ranges inside a dataclass, by dotted path."""
    for name, part in _settings(value):
        where = f"{path}{name}"
        if isinstance(part, Described):
            yield from ((f"{where}.{inner}", found) for inner, found in _parameters(part))
        elif dataclasses.is_dataclass(part) and not isinstance(part, Sampler):
            yield from _fields(part, f"{where}.")
        elif isinstance(part, tuple) and any(map(dataclasses.is_dataclass, part)):
            yield where, {"is": len(part)}
            for i, element in enumerate(part):
                yield from _fields(element, f"{where}.{i}.")
        else:
            yield where, _range(part)


def _settings(value: Any) -> list[tuple[str, Any]]:
    return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init and f.name not in SAME_TASKS]


def _range(value: Any) -> Range:
    return value.range if isinstance(value, Sampler) else {"is": _plain(value)}


def _plain(value: Any) -> Any:
    """As JSON. A function by its name, anything else by its type."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, tuple | list):
        return [_plain(element) for element in value]
    if hasattr(value, "dtype") and hasattr(value, "__array__"):
        return _plain(np.asarray(value).tolist())
    return getattr(value, "__name__", type(value).__name__)
