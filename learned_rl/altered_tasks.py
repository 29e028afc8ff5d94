"""Tasks, altered: combinators over any family, for what a rule must bear that it was not learned for.

Keys reach the task inside as they are, and what a combinator draws itself it draws from keys folded for it: at the same
seed an altered life is the unaltered one, but for the alteration.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray, PyTree

from learned_rl.types import Actions, Discrete, TaskFamily, TimeStep

_OWN = 0x616C7465  # more than any number of keys that a family splits its own into


@dataclass(frozen=True)
class Altered:
    """A family like `tasks` in everything; what a combinator alters, it overrides."""

    tasks: TaskFamily

    @property
    def name(self) -> str:
        return self.tasks.name

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return self.tasks.obs_shape

    @property
    def actions(self) -> Actions:
        return self.tasks.actions

    def draw(self, key: PRNGKeyArray) -> PyTree:
        return self.tasks.draw(key)

    def reset(self, task: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, "*obs"]]:
        return self.tasks.reset(task, key)

    def step(
        self, task: PyTree, state: PyTree, action: Num[Array, "*action"], key: PRNGKeyArray
    ) -> tuple[PyTree, TimeStep]:
        return self.tasks.step(task, state, action, key)


@dataclass(frozen=True)
class PaidOtherwise(Altered):
    """r' = scale r + shift, in every step.

    A shift leaves what is best to do as it is where episodes are equally long; where an agent can end them, it may turn
    it round. A negative scale always does: what was to be reached is to be avoided (`inverted`).

    Raises:
      ValueError: a scale of 0, which leaves nothing to learn.
    """

    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self):
        if not self.scale:
            raise ValueError("scale=0 leaves nothing to learn")

    @property
    def name(self) -> str:
        scaled = f"-reward-x{self.scale:g}" if self.scale != 1 else ""
        return f"{self.tasks.name}{scaled}" + (f"-reward{self.shift:+g}" if self.shift else "")

    def step(
        self, task: PyTree, state: PyTree, action: Num[Array, "*action"], key: PRNGKeyArray
    ) -> tuple[PyTree, TimeStep]:
        state, out = self.tasks.step(task, state, action, key)
        return state, out._replace(reward=self.scale * out.reward + self.shift)


def inverted(tasks: TaskFamily) -> PaidOtherwise:
    """`tasks` with goals to avoid instead of to reach, and penalties to seek."""
    return PaidOtherwise(tasks, scale=-1.0)


class Permuted(NamedTuple):
    """A task, and the place in the flattened observation that each number of it is taken from."""

    task: PyTree
    order: Int[Array, " n"]


@dataclass(frozen=True)
class PermutedObservations(Altered):
    """The numbers of an observation in another order, drawn with the task and kept for life."""

    @property
    def name(self) -> str:
        return f"{self.tasks.name}-permuted"

    def draw(self, key: PRNGKeyArray) -> Permuted:
        order = jax.random.permutation(jax.random.fold_in(key, _OWN), int(np.prod(self.obs_shape)))
        return Permuted(self.tasks.draw(key), order)

    def reset(self, task: Permuted, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, "*obs"]]:
        state, obs = self.tasks.reset(task.task, key)
        return state, self._permuted(task, obs)

    def step(
        self, task: Permuted, state: PyTree, action: Num[Array, "*action"], key: PRNGKeyArray
    ) -> tuple[PyTree, TimeStep]:
        state, out = self.tasks.step(task.task, state, action, key)
        return state, out._replace(next_obs=self._permuted(task, out.next_obs))

    def _permuted(self, task: Permuted, obs: Float[Array, "*obs"]) -> Float[Array, "*obs"]:
        return obs.ravel()[task.order].reshape(obs.shape)


@dataclass(frozen=True)
class DuplicatedActions(Altered):
    """Every action `copies` times: of n actions, a of the n `copies` new ones does what a mod n did.

    Raises:
      ValueError: actions are continuous, or `copies` is below 1.
    """

    copies: int = 2

    def __post_init__(self):
        if self.copies < 1:
            raise ValueError(f"copies={self.copies} must be at least 1")
        if not isinstance(self.tasks.actions, Discrete):
            raise ValueError(f"the actions of {self.tasks.name} are continuous: there is nothing to duplicate")

    @property
    def name(self) -> str:
        return f"{self.tasks.name}-actions-x{self.copies}"

    @property
    def actions(self) -> Discrete:
        return Discrete(self._count * self.copies)

    @property
    def _count(self) -> int:
        assert isinstance(self.tasks.actions, Discrete)
        return self.tasks.actions.count

    def step(
        self, task: PyTree, state: PyTree, action: Num[Array, "*action"], key: PRNGKeyArray
    ) -> tuple[PyTree, TimeStep]:
        return self.tasks.step(task, state, action % self._count, key)


@dataclass(frozen=True)
class Distracted(Altered):
    """The observation, flattened, followed by `extra` standard normal numbers that mean nothing, new in every step.

    Raises:
      ValueError: `extra` is below 1.
    """

    extra: int = 8

    def __post_init__(self):
        if self.extra < 1:
            raise ValueError(f"extra={self.extra} must be at least 1")

    @property
    def name(self) -> str:
        return f"{self.tasks.name}-distracted-{self.extra}"

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return (int(np.prod(self.tasks.obs_shape)) + self.extra,)

    def reset(self, task: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, " n"]]:
        state, obs = self.tasks.reset(task, key)
        return state, self._beside(obs, key)

    def step(
        self, task: PyTree, state: PyTree, action: Num[Array, "*action"], key: PRNGKeyArray
    ) -> tuple[PyTree, TimeStep]:
        state, out = self.tasks.step(task, state, action, key)
        return state, out._replace(next_obs=self._beside(out.next_obs, key))

    def _beside(self, obs: Float[Array, "*obs"], key: PRNGKeyArray) -> Float[Array, " n"]:
        return jnp.concatenate([obs.ravel(), jax.random.normal(jax.random.fold_in(key, _OWN), (self.extra,))])
