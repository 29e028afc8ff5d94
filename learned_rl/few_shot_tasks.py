"""The tasks of the first few-shot results (Duan et al. 2016, sections 3.1 and 3.2), to be played in `Trials`.

One *pull* of a bandit is an episode of one step; n pulls are `Trials(Bandit(k), n)`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, UInt32

from learned_rl.types import Discrete, TimeStep


@dataclass(frozen=True)
class Bandit:
    """`arms` arms that pay 1 with probabilities drawn from U(0, 1), else 0; every pull terminates an episode.

    There is nothing to see: the observation is `[1]`.
    """

    arms: int = 5

    def __post_init__(self):
        if self.arms < 1:
            raise ValueError(f"arms={self.arms} must be at least 1")

    @property
    def name(self) -> str:
        return f"Bandit-{self.arms}"

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return (1,)

    @property
    def actions(self) -> Discrete:
        return Discrete(self.arms)

    def draw(self, key: PRNGKeyArray) -> Float[Array, " arms"]:
        return jax.random.uniform(key, (self.arms,))

    def reset(self, task: Float[Array, " arms"], key: PRNGKeyArray) -> tuple[tuple[()], Float[Array, " 1"]]:
        return (), jnp.ones(1)

    def step(
        self, task: Float[Array, " arms"], state: tuple[()], action: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[tuple[()], TimeStep]:
        paid = (jax.random.uniform(key) < task[action]).astype(jnp.float32)
        return (), TimeStep(paid, jnp.zeros(()), jnp.ones((), bool), jnp.ones(1))

    def credit(self, task: Float[Array, " arms"], state: tuple[()], action: Int[Array, ""]) -> Float[Array, ""]:
        """Of an action, for `Trials`: minus the regret, p_a - max p."""
        return task[action] - jnp.max(task)


class Chances(NamedTuple):
    """A Markov decision process that was drawn.

    Attributes:
      reward: means.
      following: probabilities of the next state.
    """

    reward: Float[Array, "S A"]
    following: Float[Array, "S A S"]


class Place(NamedTuple):
    """The state of an episode."""

    state: Int[Array, ""]
    steps: Int[Array, ""]


@dataclass(frozen=True)
class TabularMDP:
    """A random Markov decision process: mean rewards N(1, 1), unit noise on each, transitions from a flat Dirichlet.

    Episodes begin in state 0 and are cut after `horizon` steps; the observation is the state, one-hot.
    """

    states: int = 10
    choices: int = 5
    horizon: int = 10

    def __post_init__(self):
        if min(self.states, self.choices, self.horizon) < 1:
            raise ValueError(f"states, choices and horizon must be at least 1: {self}")

    @property
    def name(self) -> str:
        return f"TabularMDP-{self.states}x{self.choices}"

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return (self.states,)

    @property
    def actions(self) -> Discrete:
        return Discrete(self.choices)

    def draw(self, key: PRNGKeyArray) -> PyTree:
        """A `Chances`."""
        key_reward, key_following = jax.random.split(key)
        pairs = (self.states, self.choices)
        # A flat Dirichlet is a vector of exponentials over their sum.
        weights = jax.random.exponential(key_following, (*pairs, self.states))
        return Chances(1.0 + jax.random.normal(key_reward, pairs), weights / weights.sum(axis=-1, keepdims=True))

    def reset(self, task: PyTree, key: PRNGKeyArray) -> tuple[Place, Float[Array, " states"]]:
        zero = jnp.zeros((), jnp.int32)
        return Place(zero, zero), jax.nn.one_hot(zero, self.states)

    def step(self, task: PyTree, state: Place, action: Int[Array, ""], key: PRNGKeyArray) -> tuple[Place, TimeStep]:
        key_reward, key_following = jax.random.split(key)
        mean, chances = self.row(task, state.state, action)
        # By inversion: one uniform number. The last sum may fall short of 1 by rounding.
        reached = jnp.cumsum(chances) <= jax.random.uniform(key_following)
        following = jnp.minimum(jnp.sum(reached), self.states - 1).astype(jnp.int32)
        after = Place(following, state.steps + 1)
        return after, TimeStep(
            mean + jax.random.normal(key_reward),
            jnp.ones(()),
            after.steps >= self.horizon,
            jax.nn.one_hot(following, self.states),
        )

    def credit(self, task: PyTree, state: Place, action: Int[Array, ""]) -> Float[Array, ""]:
        """Of an action, for `Trials`: its mean reward."""
        return self.row(task, state.state, action)[0]

    def row(
        self, task: PyTree, state: Int[Array, ""], action: Int[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, " S"]]:
        """`(mean reward, chances of the next state)` of an action in a state."""
        return task.reward[state, action], task.following[state, action]


@dataclass(frozen=True)
class SeededMDP(TabularMDP):
    """`TabularMDP` whose task is a seed: a row of its tables is drawn when it is looked at, the same every time.

    The distribution is the same, the draws are others. It is for `Trials`, which draw a task at every step in case a
    trial ends there: two numbers instead of 550.
    """

    def draw(self, key: PRNGKeyArray) -> UInt32[Array, "2"]:
        return jax.random.key_data(key)

    def row(
        self, task: UInt32[Array, "2"], state: Int[Array, ""], action: Int[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, " S"]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(task), state * self.choices + action)
        key_reward, key_following = jax.random.split(key)
        weights = jax.random.exponential(key_following, (self.states,))
        return 1.0 + jax.random.normal(key_reward), weights / weights.sum()
