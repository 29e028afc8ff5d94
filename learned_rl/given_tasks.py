"""Families of one task, and tasks whose actions are in another order: for programs that hold many tasks as values.

A family is a compile-time setting and a task a value; so a hundred tasks of one family are one program.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from learned_rl.altered_tasks import Altered
from learned_rl.types import TimeStep


@dataclass(frozen=True)
class Given(Altered):
    """The one task `task`, which may be traced, of `tasks`."""

    task: PyTree

    def draw(self, key: PRNGKeyArray) -> PyTree:
        del key
        return self.task


@dataclass(frozen=True)
class Reordered(Altered):
    """Tasks of `tasks`, discrete actions, with an order of the actions: a task is `(task, order)`.

    Action a does what action `order[a]` does in `tasks`. What is drawn has the usual order.
    """

    @property
    def name(self) -> str:
        return f"{self.tasks.name}-reordered"

    def draw(self, key: PRNGKeyArray) -> tuple[PyTree, Int[Array, " A"]]:
        return self.tasks.draw(key), jnp.arange(self.actions.count)  # type: ignore[union-attr]

    def reset(self, task: tuple[PyTree, Array], key: PRNGKeyArray) -> tuple[PyTree, Float[Array, "*obs"]]:
        return self.tasks.reset(task[0], key)

    def step(
        self, task: tuple[PyTree, Array], state: PyTree, action: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PyTree, TimeStep]:
        return self.tasks.step(task[0], state, task[1][action], key)
