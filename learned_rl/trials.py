"""Trials: several episodes of one hidden task as one episode, so that an acting memory is a learning algorithm."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray, PyTree

from learned_rl.types import Actions, Discrete, TaskFamily, TimeStep


class Trial(NamedTuple):
    """The state of one stream.

    Attributes:
      task: drawn when the trial began.
      env: the state of the episode under way.
      ended: how many episodes of the trial have ended.
    """

    task: PyTree
    env: PyTree
    ended: Int[Array, ""]


@dataclass(frozen=True)
class Trials:
    """Combinator: `episodes` episodes of a task, drawn anew for every trial, are one episode (Duan et al. 2016).

        observation = (what the task shows, the last action, the last reward, whether the last step ended an episode)

    flattened; a discrete action is one-hot, a real one as it is, and all three are 0 at the beginning of a trial. A
    memory that is kept within an episode is thereby kept over the episodes of a task and cleared between tasks, and
    streams of one agent are in different tasks. A life has no task of its own: `draw` gives `()`.

    An episode's end is a step like any other: what it leads to is the next episode's first observation, and `discount`
    stays 1 there, by termination as by time limit. The end of the trial *terminates*: its return is what counts, and
    there is nothing after it to bootstrap from. Its `next_obs` is the first of an episode that is not played.

    Attributes:
      tasks: where trials are drawn from.
      episodes: how many make a trial.
      credited: `reward` is `tasks.credit(task, state, action)`: what a step pays on average, less a number of the
        task's. What the agent sees, and remembers, is still what it was paid. For the outer loop, which knows the tasks
        that it draws: undiscounted, in trials of one length, the gradient of the return has the same mean, without the
        luck of payments and of good tasks that a learner can only average out. Returns are of the credit, too.

    Raises:
      ValueError: `episodes` is below 1, or `tasks` has no `credit`.
    """

    tasks: TaskFamily
    episodes: int = 10
    credited: bool = False

    def __post_init__(self):
        if self.episodes < 1:
            raise ValueError(f"episodes={self.episodes} must be at least 1")
        if self.credited and not hasattr(self.tasks, "credit"):
            raise ValueError(f"credited: a {type(self.tasks).__name__} has no `credit`")

    @property
    def name(self) -> str:
        return f"{self.tasks.name}-x{self.episodes}"

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return (int(np.prod(self.tasks.obs_shape)) + action_width(self.actions) + 2,)

    @property
    def actions(self) -> Actions:
        return self.tasks.actions

    def draw(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def reset(self, task: tuple[()], key: PRNGKeyArray) -> tuple[Trial, Float[Array, " n"]]:
        key_task, key_reset = jax.random.split(key)
        drawn = self.tasks.draw(key_task)
        env, obs = self.tasks.reset(drawn, key_reset)
        nothing = jnp.zeros(self.obs_shape[0] - obs.size)
        return Trial(drawn, env, jnp.zeros((), jnp.int32)), jnp.concatenate([obs.ravel(), nothing])

    def step(
        self, task: tuple[()], state: Trial, action: Num[Array, "*action"], key: PRNGKeyArray
    ) -> tuple[Trial, TimeStep]:
        key_step, key_reset = jax.random.split(key)
        env, out = self.tasks.step(state.task, state.env, action, key_step)
        fresh = self.tasks.reset(state.task, key_reset)
        env, obs = jax.tree.map(lambda new, old: jnp.where(out.last, new, old), fresh, (env, out.next_obs))
        ended = state.ended + out.last
        over = ended >= self.episodes
        seen = (obs.ravel(), as_vector(self.actions, action), out.reward[None], out.last[None])
        credit = self.tasks.credit(state.task, state.env, action) if self.credited else out.reward  # type: ignore
        step = TimeStep(
            credit,
            1.0 - over.astype(jnp.float32),
            over,
            jnp.concatenate([jnp.asarray(x, jnp.float32) for x in seen]),
        )
        return Trial(state.task, env, ended), step


def action_width(actions: Actions) -> int:
    """The width of an action as a vector."""
    return actions.count if isinstance(actions, Discrete) else actions.size


def as_vector(actions: Actions, action: Num[Array, "*B action"]) -> Float[Array, "*B width"]:
    """One-hot if discrete."""
    return jax.nn.one_hot(action, actions.count) if isinstance(actions, Discrete) else action
