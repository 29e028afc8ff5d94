"""What the outer loop optimises: a lifetime and a judgement, together an inner problem."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meta_objectives.belief import BeliefRegularised
    from meta_objectives.bootstrapped import Bootstrapped
    from meta_objectives.fresh import OnFreshSteps
    from meta_objectives.history import HistoryActorCritic
    from meta_objectives.lifetime import LifetimeSurrogate
    from meta_objectives.matching import Weighted, parameter_error, policy_kl, reverse_policy_kl, value_error
    from meta_objectives.outer_critic import OuterCritic
    from meta_objectives.problem import MetaObjective, MetaProblem
    from meta_objectives.returns import LifetimeReturn
    from meta_objectives.sampling import SamplingCorrected
    from meta_objectives.telescoped import Telescoped
    from meta_objectives.validation import PolicyGradientSurrogate, ValidationReturn

_HOME = {
    "BeliefRegularised": "meta_objectives.belief",
    "Bootstrapped": "meta_objectives.bootstrapped",
    "HistoryActorCritic": "meta_objectives.history",
    "LifetimeReturn": "meta_objectives.returns",
    "LifetimeSurrogate": "meta_objectives.lifetime",
    "MetaObjective": "meta_objectives.problem",
    "MetaProblem": "meta_objectives.problem",
    "OnFreshSteps": "meta_objectives.fresh",
    "OuterCritic": "meta_objectives.outer_critic",
    "PolicyGradientSurrogate": "meta_objectives.validation",
    "SamplingCorrected": "meta_objectives.sampling",
    "Telescoped": "meta_objectives.telescoped",
    "ValidationReturn": "meta_objectives.validation",
    "Weighted": "meta_objectives.matching",
    "parameter_error": "meta_objectives.matching",
    "policy_kl": "meta_objectives.matching",
    "reverse_policy_kl": "meta_objectives.matching",
    "value_error": "meta_objectives.matching",
}


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used: importing jax takes seconds, and a help text does not need it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


__all__ = [
    "BeliefRegularised",
    "Bootstrapped",
    "HistoryActorCritic",
    "LifetimeReturn",
    "LifetimeSurrogate",
    "MetaObjective",
    "MetaProblem",
    "OnFreshSteps",
    "OuterCritic",
    "PolicyGradientSurrogate",
    "SamplingCorrected",
    "Telescoped",
    "ValidationReturn",
    "Weighted",
    "parameter_error",
    "policy_kl",
    "reverse_policy_kl",
    "value_error",
]
