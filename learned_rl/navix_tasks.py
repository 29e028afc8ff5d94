"""MiniGrid in jax: navix environments as task families. The only file that imports navix, an optional dependency.

Navix draws a new floor plan at every reset: a new task every episode. Here the key of the plan is the task, so that it
stays for a life, as for every many-shot learner; what else is by chance in an episode, such as how obstacles move, is
drawn anew. The time limit is navix' own and cuts the episode; reaching the goal, or falling into lava, terminates it.

The observation is the whole floor, one-hot: `[height, width, 21]`, for each cell which of 11 things is there, in which
of 6 colours and 4 states (the agent's is its direction). MiniGrid's numbers for these are magnitudes to a network.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, UInt32

from learned_rl.libraries import library, outside, strong, typed_as
from learned_rl.types import Discrete, TimeStep

THINGS, COLOURS, STATES = 11, 6, 4


@dataclass(frozen=True)
class NavixFamily:
    """One navix environment; its floor plan differs from life to life where navix draws it.

    Attributes:
      env_id: navix' name, e.g. `Navix-DoorKey-Random-6x6-v0`.

    Raises:
      ValueError: when it is first used: there is no such environment, or no navix.
    """

    env_id: str
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or self.env_id

    @property
    def obs_shape(self) -> tuple[int, ...]:
        env = _environment(self.env_id)
        return (env.height, env.width, THINGS + COLOURS + STATES)

    @property
    def actions(self) -> Discrete:
        return Discrete(len(_environment(self.env_id).action_set))

    def draw(self, key: PRNGKeyArray) -> UInt32[Array, "2"]:
        return jax.random.key_data(key)

    def reset(self, task: UInt32[Array, "2"], key: PRNGKeyArray) -> tuple[PyTree, Float[Array, "height width 21"]]:
        begun = _environment(self.env_id).reset(task)
        # The cache is of pictures that nobody looks at, thousands of numbers for every stream.
        state = begun.replace(state=begun.state.replace(key=jax.random.key_data(key), cache=None))
        return strong(state), _one_hot(begun.observation)

    def step(
        self, task: UInt32[Array, "2"], state: PyTree, action: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PyTree, TimeStep]:
        del task
        state = state.replace(state=state.state.replace(key=jax.random.key_data(key)))
        # Not `step`, which resets by itself one step later.
        following = _environment(self.env_id)._step(state, action)
        return typed_as(following, state), TimeStep(
            reward=jnp.asarray(following.reward, jnp.float32),
            discount=1.0 - following.is_termination().astype(jnp.float32),
            last=following.is_done(),
            next_obs=_one_hot(following.observation),
        )


def _one_hot(cells: Int[Array, "height width 3"]) -> Float[Array, "height width 21"]:
    layers = (jax.nn.one_hot(cells[..., i], n) for i, n in enumerate((THINGS, COLOURS, STATES)))
    return jnp.concatenate(list(layers), axis=-1)


@cache
def _environment(env_id: str) -> Any:
    navix = library("navix", "navix")
    if env_id not in navix.registry():
        raise ValueError(f"navix has no environment {env_id!r}; it has {', '.join(sorted(navix.registry()))}")
    with outside():
        return navix.make(env_id)
