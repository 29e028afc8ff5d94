"""gymnax environments as task families. The only file that imports gymnax.

gymnax 1.x keeps task variables in two places: in `EnvParams` (physics), which we draw once a life, and in `EnvState`
(a bandit's arms, a goal), which gymnax redraws at every auto-reset: a new task every episode. A many-shot learner needs
them fixed for a life, so those named `hidden` are drawn with the task and put back after every reset.

Auto-reset is done here and not by `Environment.step`, for that reason. Termination and time limit stay apart: where an
environment raises both flags (DeepSea always does) the episode terminated.

25 of gymnax 1.0.1's 26 environments step under `jit` and `vmap`; `MNISTBandit-bsuite` downloads its data when built, so
it is refused here. Seaquest-MinAtar is 30 to 100 times slower than its siblings on a CPU; it works.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, PRNGKeyArray, PyTree

from learned_rl.libraries import library, outside, strong, typed_as
from learned_rl.samplers import Sampler
from learned_rl.types import Actions, Continuous, Discrete, TimeStep

UNUSABLE = {"MNISTBandit-bsuite": "it downloads its data set when it is built"}


@cache
def _environment(env_id: str, options: tuple[tuple[str, Any], ...]) -> tuple[Any, Any]:
    """gymnax methods are jitted with `self` static, hashed by identity: one object an environment, or it recompiles."""
    gymnax = library("gymnax")
    with outside():  # mazes build arrays in their constructors
        return gymnax.make(env_id, **dict(options))


def environment_ids() -> tuple[str, ...]:
    """Every gymnax environment that can be a task here."""
    return tuple(name for name in library("gymnax").registered_envs if name not in UNUSABLE)


class GymnaxTask(NamedTuple):
    """One task: the environment's parameters, and the hidden state variables that resets must not redraw."""

    params: Any
    hidden: dict[str, Array]


def _keep(env_params: Any) -> Any:
    return env_params


@dataclass(frozen=True)
class GymnaxFamily:
    """A distribution over the tasks of one gymnax environment.

    Attributes:
      env_id: gymnax name.
      options: constructor arguments, as pairs; they fix shapes, so they are the family's and not the task's.
      vary: `(field of EnvParams, sampler)` pairs, drawn once a life.
      derive: recomputes parameters that gymnax stores beside the ones they follow from (CartPole's `total_mass`).
      hidden: `(field of EnvState, sampler or None)` pairs fixed for a life; None takes what a reset draws.

    Raises:
      ValueError: unknown environment (with the known names), one that cannot be used, or unknown field names.
    """

    env_id: str
    options: tuple[tuple[str, Any], ...] = ()
    vary: tuple[tuple[str, Sampler], ...] = ()
    derive: Callable[[Any], Any] = _keep
    hidden: tuple[tuple[str, Sampler | None], ...] = ()
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or self.env_id

    @cached_property
    def _made(self) -> tuple[Any, Any]:
        if self.env_id in UNUSABLE:
            raise ValueError(f"{self.env_id} cannot be used as a task: {UNUSABLE[self.env_id]}")
        if self.env_id not in environment_ids():
            raise ValueError(_unknown(self.env_id, environment_ids()))
        env, params = _environment(self.env_id, self.options)
        for field, _ in self.vary:
            if not hasattr(params, field):
                raise ValueError(f"{self.env_id} has no parameter {field!r}; it has {sorted(params.__dict__)}")
        return env, params

    @property
    def environment(self) -> str:
        return self.env_id

    @property
    def parameters(self) -> dict[str, Any]:
        """Options, physics, and the hidden state variables that have a sampler of their own.

        A hidden variable that a reset draws is within what it is for whoever does not hide it.
        """
        env, params = self._made
        usual = {
            name: option.default
            for name, option in inspect.signature(type(env)).parameters.items()
            if option.default is not option.empty
        }
        drawn = {f"state.{field}": sampler for field, sampler in self.hidden if sampler}
        return usual | dict(self.options) | vars(params) | dict(self.vary) | drawn

    @property
    def blocked(self) -> Array | None:
        """Which cells of an environment with a map cannot be entered, `[rows, columns]`; None without a map."""
        return getattr(self._made[0], "occupied_map", None)

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return _obs_shape(self)

    @property
    def actions(self) -> Actions:
        return _actions(self)

    def draw(self, key: PRNGKeyArray) -> GymnaxTask:
        env, params = self._made
        key_reset, *keys = jax.random.split(key, 1 + len(self.vary) + len(self.hidden))
        drawn = {field: sampler(k) for (field, sampler), k in zip(self.vary, keys, strict=False)}
        params = strong(self.derive(params.replace(**drawn)))
        _, state = env.reset_env(key_reset, params)
        for field, _ in self.hidden:
            if not hasattr(state, field):
                raise ValueError(f"{self.env_id} has no state variable {field!r}; it has {sorted(state.__dict__)}")
        keys = keys[len(self.vary) :]
        hidden = {
            field: getattr(state, field) if sampler is None else sampler(k)
            for (field, sampler), k in zip(self.hidden, keys, strict=True)
        }
        return GymnaxTask(params, strong(hidden))

    def reset(self, task: GymnaxTask, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, "*obs"]]:
        env, _ = self._made
        obs, state = env.reset_env(key, task.params)
        if task.hidden:
            state = state.replace(**task.hidden)
            obs = env.observe(key, state, None, task.params)
        return strong(state), self._encode(obs)

    def step(
        self, task: GymnaxTask, state: PyTree, action: Num[Array, "*action"], key: PRNGKeyArray
    ) -> tuple[PyTree, TimeStep]:
        env, _ = self._made
        obs, next_state, reward, terminated, _ = env.step_env(key, state, self._decode(action), task.params)
        return typed_as(next_state, state), TimeStep(
            reward=jnp.asarray(reward, jnp.float32).reshape(()),
            discount=1.0 - jnp.asarray(terminated, jnp.float32),
            last=jnp.logical_or(terminated, env.is_truncated(next_state, task.params)),
            next_obs=self._encode(obs),
        )

    def _encode(self, obs: Num[Array, "*obs"]) -> Float[Array, "*obs"]:
        """float32; a bare state number (FrozenLake) becomes one-hot."""
        env, params = self._made
        space = env.observation_space(params)
        if jnp.ndim(obs) == 0 and hasattr(space, "n"):
            return jax.nn.one_hot(obs, int(space.n))
        return jnp.asarray(obs, jnp.float32)

    def _decode(self, action: Num[Array, "*action"]) -> Num[Array, "*action"]:
        """From units of half the range to the environment's own, clipped (see `Continuous`)."""
        if isinstance(self.actions, Discrete):
            return action
        low, high = jnp.asarray(self.actions.low), jnp.asarray(self.actions.high)
        return low + (high - low) * (jnp.clip(action, -1.0, 1.0) + 1.0) / 2.0


@cache
def _obs_shape(family: GymnaxFamily) -> tuple[int, ...]:
    key = jax.eval_shape(jax.random.key, 0)
    task = jax.eval_shape(family.draw, key)
    return jax.eval_shape(family.reset, task, key)[1].shape


@cache
def _actions(family: GymnaxFamily) -> Actions:
    env, params = family._made
    with outside():  # spaces build their bounds as they are asked for
        space = env.action_space(params)
        if hasattr(space, "n"):
            return Discrete(int(space.n))
        shape = space.shape or (1,)
        low, high = (jnp.broadcast_to(bound, shape).ravel().tolist() for bound in (space.low, space.high))
    return Continuous(len(low), tuple(low), tuple(high))


def _unknown(name: str, known: tuple[str, ...]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
    return f"unknown environment {name!r}; nearest: {', '.join(close) or 'none'} (all: `learned-rl list tasks`)"
