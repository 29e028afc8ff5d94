"""Explaining a rule: what each of its parts does, measured on declared inputs and drawn beside what is known.

Adding a kind of part is adding a function and a row in `EXPLAINERS`.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from learned_rl.rules.anneal import Anneal
from learned_rl.rules.disco.rule import Disco
from learned_rl.rules.drift import Drift
from learned_rl.rules.intrinsic.rule import Intrinsic
from learned_rl.rules.lpg import LPG
from learned_rl.rules.metagenrl import MetaGenRL
from learned_rl.rules.optimised import Optimised
from learned_rl.rules.schedule import Schedule
from learned_rl.rules.self_tuning import SelfTuning
from learned_rl.types import Rule, Theta
from runs.explain import drifts, objectives, optimizers, rewards, schedules
from runs.explain.explanation import Explanation

Explainer = Callable[[Any, Theta], Iterator[Explanation]]
EXPLAINERS: Mapping[type, Explainer] = {
    Anneal: schedules.annealed,
    Disco: objectives.disco,
    Drift: drifts.drift,
    Intrinsic: rewards.intrinsic,
    LPG: objectives.lpg,
    MetaGenRL: objectives.metagenrl,
    Optimised: optimizers.optimised,
    Schedule: schedules.schedule,
    SelfTuning: schedules.tuned,
}


def explanations(rule: Rule, theta: Theta) -> Iterator[Explanation]:
    """Of every part of a rule, the outermost first; nothing of parts that no function here knows."""
    for part, its in parts(rule, theta):
        if type(part) in EXPLAINERS:
            yield from EXPLAINERS[type(part)](part, its)


def parts(rule: Any, theta: Theta) -> Iterator[tuple[Any, Theta]]:
    """A rule and the rules inside it, each with its own theta."""
    while True:
        yield rule, theta
        if not hasattr(rule, "base"):
            return
        rule = rule.base
        theta = theta["base"] if isinstance(theta, Mapping) and "base" in theta else theta


def explain(rule: Rule, theta: Theta, folder: Path) -> list[Path]:
    """Draws every explanation into `folder`; returns the files, each with its sentence inside."""
    return [explanation.save(folder) for explanation in explanations(rule, theta)]
