"""Toggles: an estimator with some of its settings changed, wherever in it they are."""

import dataclasses
from collections.abc import Iterator
from typing import Any, TypeVar

Settings = TypeVar("Settings")


def changed(settings: Settings, **values: Any) -> Settings:
    """`settings` with every field of these names replaced, in nested settings too (`base.std`, `tail.std`).

    Names that occur nowhere are passed over: an estimator without `std` has no smoothing to change.

    Raises:
      ValueError: the estimator refuses the values.
    """
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        return settings
    changes = {}
    for field in dataclasses.fields(settings):
        if not field.init:
            continue
        value = getattr(settings, field.name)
        changes[field.name] = values[field.name] if field.name in values else _inside(value, values)
    return dataclasses.replace(settings, **changes)  # type: ignore[type-var]


def found(settings: Any, name: str) -> Any:
    """The value of the first field of that name, in nested settings too; None if there is none."""
    return next(_values(settings, name), None)


def _inside(value: Any, values: dict[str, Any]) -> Any:
    if type(value) is tuple:
        return tuple(changed(part, **values) for part in value)
    return changed(value, **values)


def _values(settings: Any, name: str) -> Iterator[Any]:
    if type(settings) is tuple:
        for part in settings:
            yield from _values(part, name)
    elif dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        for field in dataclasses.fields(settings):
            if field.name == name:
                yield getattr(settings, name)
        for field in dataclasses.fields(settings):
            yield from _values(getattr(settings, field.name), name)
