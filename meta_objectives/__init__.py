"""What the outer loop optimises: a lifetime and a judgement, together an inner problem."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meta_objectives.problem import MetaObjective, MetaProblem
    from meta_objectives.returns import LifetimeReturn
    from meta_objectives.validation import PolicyGradientSurrogate

_HOME = {
    "LifetimeReturn": "meta_objectives.returns",
    "MetaObjective": "meta_objectives.problem",
    "MetaProblem": "meta_objectives.problem",
    "PolicyGradientSurrogate": "meta_objectives.validation",
}


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used: importing jax takes seconds, and a help text does not need it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


__all__ = ["LifetimeReturn", "MetaObjective", "MetaProblem", "PolicyGradientSurrogate"]
