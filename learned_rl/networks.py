"""Agents' networks: a body, optional memory, the policy head, and whatever heads the rule asks for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from learned_rl.distributions import Categorical, Distribution, Normal
from learned_rl.types import ONE_PER_ACTION, Actions, Discrete, Heads, Memory, Outputs, Params, Rollout


def orthogonal(gain: float) -> Callable[..., Float[Array, "rows columns"]]:
    """Initialiser of matrices whose columns (rows, if there are more columns) are orthogonal, of norm `gain`.

    Saxe et al. 2014. The same numbers as `jax.nn.initializers.orthogonal`, by modified Gram-Schmidt instead of LAPACK:
    births happen inside loops over lives, where on two cores a call of LAPACK and parallel kernels can wait for each
    other in XLA's thread pool for ever (seen on jaxlib 0.10.2).
    """

    def init(key: PRNGKeyArray, shape: tuple[int, int], dtype: Any = jnp.float32) -> Float[Array, "rows columns"]:
        rows, columns = shape
        drawn = jax.random.normal(key, (max(shape), min(shape)) if rows != columns else shape, dtype)

        def orthonormal(j: Array, q: Array) -> Array:
            column = q[:, j] / jnp.linalg.norm(q[:, j])
            later = jnp.where(jnp.arange(q.shape[1]) > j, column @ q, 0)
            return (q - jnp.outer(column, later)).at[:, j].set(column)

        q = drawn
        for _ in range(2):  # once leaves errors of the size of the condition number, twice does not
            q = jax.lax.fori_loop(0, q.shape[1], orthonormal, q)
        return gain * (q.T if rows < columns else q)

    return init


@dataclass(frozen=True)
class MLP:
    """Flattens the observation, then `hidden` layers with `activation`; orthogonal initialisation (gain sqrt 2)."""

    hidden: tuple[int, ...] = (64, 64)
    activation: Callable = nn.tanh

    def __call__(self, x: Float[Array, "..."], obs_rank: int, name: str) -> Float[Array, "... features"]:
        x = x.reshape((*x.shape[: x.ndim - obs_rank], -1))
        for i, width in enumerate(self.hidden):
            x = self.activation(nn.Dense(width, kernel_init=orthogonal(2**0.5), name=f"{name}_{i}")(x))
        return x


@dataclass(frozen=True)
class CNN:
    """For image-like observations `[H, W, C]` (a missing channel axis is added): 3x3 convolutions, then an MLP."""

    channels: tuple[int, ...] = (16,)
    hidden: tuple[int, ...] = (64,)
    activation: Callable = nn.relu

    def __call__(self, x: Float[Array, "..."], obs_rank: int, name: str) -> Float[Array, "... features"]:
        if obs_rank not in (2, 3):
            raise ValueError(f"a CNN needs observations [H, W] or [H, W, C], not of rank {obs_rank}; use an MLP")
        x = x if obs_rank == 3 else x[..., None]
        for i, width in enumerate(self.channels):
            x = self.activation(nn.Conv(width, (3, 3), name=f"{name}_conv_{i}")(x))
        return MLP(self.hidden, self.activation)(x, 3, name)


class _Agent(nn.Module):
    """One time step, any leading axes: `(memory, obs) -> (memory, Outputs)`."""

    settings: "Network"
    obs_rank: int
    actions: Actions
    heads: Heads

    @nn.compact
    def __call__(self, memory: Memory, obs: Float[Array, "..."]) -> tuple[Memory, Outputs]:
        features = self.settings.body(obs, self.obs_rank, "body")
        if self.settings.memory:
            memory, features = nn.GRUCell(self.settings.memory, name="memory")(memory, features)
        head_features = features
        if self.settings.separate and (self.heads.flat or self.heads.per_action):
            head_features = self.settings.body(obs, self.obs_rank, "heads_body")
        flat = {k: nn.Dense(n, name=k)(head_features) for k, n in self.heads.flat.items()}
        per_action = {k: self._per_action(head_features, n, k) for k, n in self.heads.per_action.items()}
        return memory, Outputs(self._policy(features), flat, per_action)

    def _policy(self, features: Float[Array, "... features"]) -> Distribution:
        # Gain 0.01: an agent is born close to uniform, whatever its body.
        small = orthogonal(0.01)
        if isinstance(self.actions, Discrete):
            return Categorical(nn.Dense(self.actions.count, kernel_init=small, name="policy")(features))
        mean = nn.Dense(self.actions.size, kernel_init=small, name="policy")(features)
        log_std = self.param("log_std", nn.initializers.zeros, (self.actions.size,))
        return Normal(mean, jnp.broadcast_to(log_std, mean.shape))

    def _per_action(self, features: Array, width: int, name: str) -> Float[Array, "... A width"]:
        if not isinstance(self.actions, Discrete):
            raise ValueError(f"the head {name!r} is per action, and the task's actions are continuous")
        width = self.actions.count if width == ONE_PER_ACTION else width
        out = nn.Dense(self.actions.count * width, name=name)(features)
        return out.reshape((*out.shape[:-1], self.actions.count, width))


@dataclass(frozen=True)
class NetworkPolicy:
    """A `Policy` (see `learned_rl.types`): the network of one agent for one task family and one rule."""

    settings: "Network"
    obs_shape: tuple[int, ...]
    actions: Actions
    heads: Heads

    @property
    def _module(self) -> _Agent:
        return _Agent(self.settings, len(self.obs_shape), self.actions, self.heads)

    def init(self, key: PRNGKeyArray) -> Params:
        return self._module.init(key, self.start_memory(1), jnp.zeros((1, *self.obs_shape)))["params"]

    def start_memory(self, streams: int) -> Memory:
        return jnp.zeros((streams, self.settings.memory)) if self.settings.memory else ()

    def _apply(self, params: Params, memory: Memory, obs: Array) -> Any:
        # Two leading axes as one: the gradient of a product over both is a slower one, and costs a tenth of an update
        # when many agents learn side by side. Not where the first is 1, which is faster (measured) as it is.
        lead = obs.shape[: obs.ndim - len(self.obs_shape)]
        if len(lead) == 1 or lead[0] == 1:
            return self._module.apply({"params": params}, memory, obs)
        memory, obs = jax.tree.map(lambda x: x.reshape((-1, *x.shape[len(lead) :])), (memory, obs))
        after = self._module.apply({"params": params}, memory, obs)
        return jax.tree.map(lambda x: x.reshape((*lead, *x.shape[1:])), after)

    def act(
        self, params: Params, memory: Memory, obs: Float[Array, "B *obs"], last: Bool[Array, " B"]
    ) -> tuple[Memory, Outputs]:
        return self._apply(params, jax.tree.map(lambda m: jnp.where(last[:, None], 0.0, m), memory), obs)

    def unroll(self, params: Params, rollout: Rollout) -> Outputs:
        if not self.settings.memory:
            return self._apply(params, (), rollout.obs)[1]
        return self._replay(params, rollout)[1]

    def unroll_next(self, params: Params, rollout: Rollout) -> Outputs:
        if not self.settings.memory:
            return self._apply(params, (), rollout.next_obs)[1]
        memories, _ = self._replay(params, rollout)
        return self._apply(params, memories, rollout.next_obs)[1]

    def _replay(self, params: Params, rollout: Rollout) -> tuple[Memory, Outputs]:
        """Memories *after* each step, and the outputs at each step."""
        # rollout.memory was cleared when it was stored, so the first step never follows an episode's end.
        previous_last = jnp.concatenate([jnp.zeros_like(rollout.last[:1]), rollout.last[:-1]])

        def step(memory, inputs):
            memory, outputs = self.act(params, memory, *inputs)
            return memory, (memory, outputs)

        return jax.lax.scan(step, rollout.memory, (rollout.obs, previous_last))[1]


@dataclass(frozen=True)
class Network:
    """Settings of an agent's network.

    Attributes:
      body: `MLP` or `CNN`.
      memory: width of a GRU after the body; 0 for none.
      separate: whether the rule's heads (the value, say) get a body of their own. Not with a memory: all read it.
    """

    body: MLP | CNN = MLP()
    memory: int = 0
    separate: bool = True

    def __post_init__(self):
        if self.memory and self.separate:
            raise ValueError("separate=True and memory > 0: heads would not see the memory; set separate=False")

    def build(self, obs_shape: tuple[int, ...], actions: Actions, heads: Heads) -> NetworkPolicy:
        """The policy for observations of `obs_shape`, with the heads a rule asks for."""
        return NetworkPolicy(self, obs_shape, actions, heads)
