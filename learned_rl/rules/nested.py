"""Rules inside rules: how a combinator feeds what the rule inside would otherwise have of its own.

A combinator is a rule with a field `base`. A rule's coefficients and its optimizer are fields, so a schedule or a
learned optimizer is a rule that replaces the field before every update, traced values included. No rule has to know.
"""

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
