"""Sets of tasks of one shape, graded in how they differ. One function a set; `runs.catalogue` lists them from here.

They were declared, with the sizes of all training runs, before any distance or transfer was measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from learned_rl import families
from learned_rl.given_tasks import Given, Reordered
from learned_rl.gymnax_tasks import GymnaxTask
from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.rules.drift import Drift
from learned_rl.types import Rule
from runs.trials import Trial


@dataclass(frozen=True)
class TaskSet:
    """Tasks of one family.

    Attributes:
      trial: the family, and how agents are trained on a task of it.
      names: of the tasks.
      tasks: leaves `[n, ...]`.
      horizon: steps within which an episode ends.
      rule: how agents learn.
    """

    trial: Trial
    names: tuple[str, ...]
    tasks: PyTree
    horizon: int
    rule: Rule = Drift()

    def __len__(self) -> int:
        return len(self.names)

    def lifetime(self, task: PyTree, updates: int = 0) -> Lifetime:
        """A training run on one of the tasks, which may be traced; by default as long as the trial."""
        t = self.trial
        return Lifetime(Given(t.tasks, task), self.rule, t.network, t.streams, t.steps, updates or t.updates)


def _physics(env: str, variants: Mapping[str, Mapping[str, float]], trial: Mapping[str, Any], horizon: int) -> TaskSet:
    """A gymnax environment with physical parameters multiplied by factors."""
    family = getattr(families, env)()
    default = type(jax.eval_shape(family.draw, jax.eval_shape(jax.random.key, 0)).params)()

    def variant(factors: Mapping[str, float]) -> GymnaxTask:
        params = family.derive(default.replace(**{f: getattr(default, f) * factor for f, factor in factors.items()}))
        return GymnaxTask(jax.tree.map(lambda x: np.asarray(x, jnp.result_type(x)), params), {})

    return TaskSet(Trial(family, **trial), tuple(variants), _stacked([*map(variant, variants.values())]), horizon)


def _stacked(tasks: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *x: np.stack(x), *tasks)


def cartpole() -> TaskSet:
    """CartPole: the strength and the direction of the push, the length of the pole, or both."""
    variants = {
        "usual": {},
        "push x2": {"force_mag": 2.0},
        "push x0.5": {"force_mag": 0.5},
        "push x-0.5": {"force_mag": -0.5},
        "push x-1": {"force_mag": -1.0},
        "pole x0.3": {"length": 0.3},
        "pole x3": {"length": 3.0},
        "pole x3, push x-1": {"length": 3.0, "force_mag": -1.0},
    }
    return _physics("cartpole", variants, {"streams": 8, "steps": 64, "updates": 100}, 500)


def acrobot() -> TaskSet:
    """Acrobot: lengths and masses of its links."""
    variants = {
        "usual": {},
        "links x0.7": {"link_length_1": 0.7, "link_length_2": 0.7},
        "links x1.2": {"link_length_1": 1.2, "link_length_2": 1.2},
        "upper x0.6": {"link_length_1": 0.6},
        "lower x0.6": {"link_length_2": 0.6},
        "masses x0.6": {"link_mass_1": 0.6, "link_mass_2": 0.6},
        "upper mass x2": {"link_mass_1": 2.0},
        "lower mass x0.4": {"link_mass_2": 0.4},
    }
    return _physics("acrobot", variants, {"streams": 8, "steps": 64, "updates": 100}, 500)


def rooms() -> TaskSet:
    """Four rooms with a table for an agent: the place of the goal, the order of the actions, or both."""
    usual, turned, opposite = (0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1)
    variants = {
        "top right": (4, usual),
        "below top right": (9, usual),
        "bottom right": (24, usual),
        "bottom left": (20, usual),
        "right of bottom left": (21, usual),
        "top right, turned": (4, turned),
        "top right, opposite": (4, opposite),
        "bottom left, turned": (20, turned),
    }
    tasks = [(np.int32(goal), np.asarray(order, np.int32)) for goal, order in variants.values()]
    trial = Trial(Reordered(families.empty_rooms()), Network(MLP(())), streams=8, steps=32, updates=100)
    return TaskSet(trial, tuple(variants), _stacked(tasks), 30)


def navigation() -> TaskSet:
    """A walk in the plane: eight goals on a circle."""
    angles = (0, 15, 30, 60, 90, 135, 180, 270)
    goals = 0.4 * np.stack([np.cos(np.deg2rad(angles)), np.sin(np.deg2rad(angles))], axis=1)
    trial = Trial(families.navigation(20), streams=8, steps=40, updates=100)
    return TaskSet(trial, tuple(f"{a} degrees" for a in angles), goals.astype(np.float32), 20)
