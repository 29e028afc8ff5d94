"""Families of one task, and tasks whose actions are in another order: for programs that hold many tasks as values.

A family is a compile-time setting and a task a value; so a hundred tasks of one family are one program.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray, PyTree

from learned_rl.types import Actions, TaskFamily, TimeStep


@dataclass(frozen=True)
class Given:
    """The one task `task`, which may be traced, of `family`."""

    family: TaskFamily
    task: PyTree

    @property
    def name(self) -> str:
        return self.family.name

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return self.family.obs_shape

    @property
    def actions(self) -> Actions:
        return self.family.actions

    def draw(self, key: PRNGKeyArray) -> PyTree:
        del key
        return self.task

    def reset(self, task: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, "*obs"]]:
        return self.family.reset(task, key)

    def step(
        self, task: PyTree, state: PyTree, action: Num[Array, "*action"], key: PRNGKeyArray
    ) -> tuple[PyTree, TimeStep]:
        return self.family.step(task, state, action, key)


@dataclass(frozen=True)
class Reordered:
    """Tasks of `family`, discrete actions, with an order of the actions: a task is `(task, order)`.

    Action a does what action `order[a]` does in `family`. What is drawn has the usual order.
    """

    family: TaskFamily

    @property
    def name(self) -> str:
        return f"{self.family.name}-reordered"

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return self.family.obs_shape

    @property
    def actions(self) -> Actions:
        return self.family.actions

    def draw(self, key: PRNGKeyArray) -> tuple[PyTree, Int[Array, " A"]]:
        return self.family.draw(key), jnp.arange(self.actions.count)  # type: ignore[union-attr]

    def reset(self, task: tuple[PyTree, Array], key: PRNGKeyArray) -> tuple[PyTree, Float[Array, "*obs"]]:
        return self.family.reset(task[0], key)

    def step(
        self, task: tuple[PyTree, Array], state: PyTree, action: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PyTree, TimeStep]:
        return self.family.step(task[0], state, task[1][action], key)
