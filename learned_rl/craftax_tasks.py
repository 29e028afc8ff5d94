"""Craftax: open worlds to survive and craft in, as task families. The only file that imports craftax, optional.

Craftax generates a new world at every reset: a new task every episode. Here the world as it was generated is the task,
so that it stays for a life and an episode begins in a copy of it; creatures, and what else is by chance, move anew in
every episode. So a reset costs nothing, where generating a world costs as much as hundreds of steps.

Death terminates, and so does lava in Classic and the last boss's defeat in the full game. The time limit cuts. A reward
is craftax' own: 1 the first time in an episode that something is achieved (more for rarer things in the full game),
and a tenth of every change of health.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from learned_rl.libraries import library, outside, strong, typed_as
from learned_rl.samplers import Sampler
from learned_rl.types import Discrete, TimeStep

ENVIRONMENTS = ("Craftax-Classic-Symbolic-v1", "Craftax-Symbolic-v1")
NEVER = 2**30  # steps; a time limit that is out of reach shows what else ended an episode


class World(NamedTuple):
    """One task: craftax' parameters, and the state that every episode begins in."""

    params: Any
    begin: Any


@dataclass(frozen=True)
class CraftaxFamily:
    """One of craftax' games; the world differs from life to life.

    Attributes:
      env_id: one of `ENVIRONMENTS`.
      vary: `(parameter of the game, sampler)` pairs, drawn once a life.

    Raises:
      ValueError: no such game; or, when it is first used: no such parameter, or no craftax.
    """

    env_id: str = ENVIRONMENTS[0]
    vary: tuple[tuple[str, Sampler], ...] = ()
    label: str = ""

    def __post_init__(self):
        if self.env_id not in ENVIRONMENTS:
            raise ValueError(f"craftax has no game {self.env_id!r} here; there are {', '.join(ENVIRONMENTS)}")

    @property
    def name(self) -> str:
        return self.label or self.env_id

    @property
    def environment(self) -> str:
        return self.env_id

    @property
    def parameters(self) -> dict[str, Any]:
        """What varies; the rest is as usual, and not looked up: tasks are compared where craftax is not installed."""
        return dict(self.vary)

    @property
    def obs_shape(self) -> tuple[int, ...]:
        env = _environment(self.env_id)
        return tuple(env.observation_space(env.default_params).shape)

    @property
    def actions(self) -> Discrete:
        return Discrete(int(_environment(self.env_id).num_actions))

    def draw(self, key: PRNGKeyArray) -> World:
        env = _environment(self.env_id)
        _check(self, vars(env.default_params))
        key_world, *keys = jax.random.split(key, 1 + len(self.vary))
        drawn = {name: sampler(k) for (name, sampler), k in zip(self.vary, keys, strict=True)}
        params = strong(env.default_params.replace(**drawn))
        return World(params, _plain(strong(env.reset_env(key_world, params)[1])))

    def reset(self, task: World, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, " obs"]]:
        del key
        return task.begin, _environment(self.env_id).get_obs(task.begin)

    def step(self, task: World, state: PyTree, action: Int[Array, ""], key: PRNGKeyArray) -> tuple[PyTree, TimeStep]:
        env = _environment(self.env_id)
        obs, following, reward, last, _ = env.step_env(key, state, action, task.params)
        ended = env.is_terminal(following, task.params.replace(max_timesteps=NEVER))
        return typed_as(_plain(following), state), TimeStep(
            reward=jnp.asarray(reward, jnp.float32),
            discount=1.0 - jnp.asarray(ended, jnp.float32),
            last=jnp.asarray(last, bool),
            next_obs=obs,
        )


def _plain(state: Any) -> Any:
    """With the numbers of the key that pictures are drawn with: a state is arrays that can be stored."""
    return state.replace(state_rng=jax.random.key_data(state.state_rng))


def _check(family: CraftaxFamily, usual: Collection[str]) -> None:
    for name, _ in family.vary:
        if name not in usual:
            raise ValueError(f"{family.env_id} has no parameter {name!r}; it has {', '.join(sorted(usual))}")


@cache
def _environment(env_id: str) -> Any:
    module = library("craftax.craftax_env", "craftax")
    with outside():
        return module.make_craftax_env_from_name(env_id, auto_reset=False)
