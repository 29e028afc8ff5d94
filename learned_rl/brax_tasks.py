"""Locomotion: brax environments as task families. The only file that imports brax, an optional dependency.

Brax keeps its physics in one tree, `env.sys`. A task scales gravity, masses and the strength of all motors, and stays
the same for a life; the environment that steps is a copy of the shared one with the scaled tree. Episodes terminate
where the environment says so (it has fallen over), and are cut after `length` steps. Brax' own wrappers are not used.
"""

import contextlib
import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from learned_rl.libraries import library, outside, strong, typed_as
from learned_rl.samplers import Constant, Sampler
from learned_rl.types import Continuous, TimeStep

BACKENDS = ("generalized", "positional", "spring")


class Physics(NamedTuple):
    """Factors on what brax has."""

    gravity: Float[Array, ""]
    mass: Float[Array, ""]
    strength: Float[Array, ""]


class BraxState(NamedTuple):
    """Brax' own state, and how many steps of the episode are over."""

    env: PyTree
    time: Int[Array, ""]


@dataclass(frozen=True)
class BraxFamily:
    """One brax environment with physics that differ from life to life.

    Departure: brax calls an inverted pendulum's fall a time-out too; here it terminates.

    Attributes:
      env_id: brax' name, `ant`, `hopper`, ...
      backend: one of `BACKENDS`; MJX, brax' fourth, keeps its physics elsewhere.
      length: time limit of an episode.
      gravity, mass, strength: factors on gravity, on all masses and moments of inertia, on the gears of all motors.

    Raises:
      ValueError: no such backend or length; or, when it is first used: no such environment, or no brax.
    """

    env_id: str
    backend: str = "spring"
    length: int = 1000
    gravity: Sampler = Constant(1.0)
    mass: Sampler = Constant(1.0)
    strength: Sampler = Constant(1.0)
    label: str = ""

    def __post_init__(self):
        if self.backend not in BACKENDS or self.length < 1:
            raise ValueError(f"backend ({self.backend}) must be of {BACKENDS}, length ({self.length}) at least 1")

    @property
    def name(self) -> str:
        return self.label or f"{self.env_id}-brax"

    @property
    def obs_shape(self) -> tuple[int, ...]:
        with _quiet():  # brax begins an episode to find out
            return (_environment(self.env_id, self.backend).observation_size,)

    @property
    def actions(self) -> Continuous:
        size = _environment(self.env_id, self.backend).action_size
        return Continuous(size, (-1.0,) * size, (1.0,) * size)

    def draw(self, key: PRNGKeyArray) -> Physics:
        samplers = (self.gravity, self.mass, self.strength)
        drawn = (draw(k) for draw, k in zip(samplers, jax.random.split(key, 3), strict=True))
        return Physics(*(jnp.asarray(x, jnp.float32) for x in drawn))

    def reset(self, task: Physics, key: PRNGKeyArray) -> tuple[BraxState, Float[Array, " obs"]]:
        with _quiet():
            state = strong(self._with(task).reset(key))
        return BraxState(state, jnp.zeros((), jnp.int32)), state.obs

    def step(
        self, task: Physics, state: BraxState, action: Float[Array, " action"], key: PRNGKeyArray
    ) -> tuple[BraxState, TimeStep]:
        del key
        with _quiet():
            env = self._with(task).step(state.env, jnp.clip(action, -1.0, 1.0))
        env = typed_as(env, state.env)
        terminated, time = env.done > 0, state.time + 1
        return BraxState(env, time), TimeStep(
            reward=jnp.asarray(env.reward, jnp.float32),
            discount=1.0 - terminated.astype(jnp.float32),
            last=terminated | (time >= self.length),
            next_obs=env.obs,
        )

    def _with(self, task: Physics) -> Any:
        """The environment with this task's physics."""
        env = copy.copy(_environment(self.env_id, self.backend))
        inertia = env.sys.link.inertia
        heavy = inertia.replace(mass=inertia.mass * task.mass, i=inertia.i * task.mass)
        env.sys = env.sys.replace(
            link=env.sys.link.replace(inertia=heavy),
            actuator=env.sys.actuator.replace(gear=env.sys.actuator.gear * task.strength),
            gravity=env.sys.gravity * task.gravity,
        )
        return env


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Brax reads fields that mujoco has moved, and mujoco warns of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def _environment(env_id: str, backend: str) -> Any:
    envs = library("brax.envs", "brax")
    if env_id not in envs._envs:
        raise ValueError(f"brax has no environment {env_id!r}; it has {', '.join(sorted(envs._envs))}")
    with outside(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return envs.get_environment(env_id, backend=backend)
