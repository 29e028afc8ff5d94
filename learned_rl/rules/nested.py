"""Rules inside rules: how a combinator feeds what the rule inside would otherwise have of its own.

A combinator is a rule with a field `base`. A rule's coefficients and its optimizer are fields, so a schedule or a
learned optimizer is a rule that replaces the field before every update, traced values included. No rule has to know.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from learned_rl.types import Rule


def part(rule: Rule, name: str) -> Any:
    """The field `name` of the outermost rule that has one: `rule`, its `base`, the base of that, ...

    Raises:
      ValueError: none of them has.
    """
    return getattr(_owner(rule, name), name)


def fed(rule: Rule, name: str, value: Any) -> Rule:
    """`rule` with another value in the field that `part` finds.

    Raises:
      ValueError: there is no such field.
    """
    if _has(rule, name):
        return replace(rule, **{name: value})  # type: ignore[type-var]
    _owner(rule, name)
    return replace(rule, base=fed(rule.base, name, value))  # type: ignore[type-var,attr-defined]


def parts(rule: Rule, name: str) -> tuple[Any, ...]:
    """The fields `name` of all rules of a nest that have one, the outermost first; at least one.

    Raises:
      ValueError: none of them has.
    """
    owner = _owner(rule, name)
    inside = getattr(owner, "base", None)
    more = parts(inside, name) if inside is not None and _somewhere(inside, name) else ()
    return (getattr(owner, name), *more)


def fed_all(rule: Rule, name: str, values: Sequence[Any]) -> Rule:
    """`rule` with other values in all the fields that `parts` finds.

    Raises:
      ValueError: there is no such field, or not as many as there are values.
    """
    if len(values) != len(parts(rule, name)):
        raise ValueError(f"{len(values)} values for {len(parts(rule, name))} fields called {name}")
    if not _has(rule, name):
        return replace(rule, base=fed_all(rule.base, name, values))  # type: ignore[type-var,attr-defined]
    if len(values) > 1:
        rule = replace(rule, base=fed_all(rule.base, name, values[1:]))  # type: ignore[type-var,attr-defined]
    return replace(rule, **{name: values[0]})  # type: ignore[type-var]


def _somewhere(rule: Rule, name: str) -> bool:
    return _has(rule, name) or (_has(rule, "base") and _somewhere(rule.base, name))  # type: ignore[attr-defined]


def _owner(rule: Rule, name: str) -> Rule:
    inside = [rule]
    while not _has(inside[-1], name):
        if not _has(inside[-1], "base"):
            chain = " around ".join(type(r).__name__ for r in inside)
            raise ValueError(f"base: a {chain} has no {name} that could be fed")
        inside.append(inside[-1].base)  # type: ignore[attr-defined]
    return inside[-1]


def _has(rule: Rule, name: str) -> bool:
    return any(field.name == name for field in fields(rule))  # type: ignore[arg-type]
