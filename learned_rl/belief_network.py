"""Agents that act on a belief: a recurrent encoder says what the task may be, and the policy reads what it says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from learned_rl.distributions import Categorical, Distribution, Normal
from learned_rl.layers import linear, mlp, start_linear, start_mlp
from learned_rl.memories import GRU
from learned_rl.rollout import begins, restart
from learned_rl.types import Actions, Discrete, Heads, Memory, Outputs, Params, Rollout

NEARLY_UNIFORM = 0.01


@dataclass(frozen=True)
class BeliefPolicy:
    """A `Policy` (see `learned_rl.types`) whose memory serves a belief about the task, `Outputs.flat["belief"]`.

    h_t = GRU(h_{t-1}, relu(W obs_t)),   belief_t = (mean, log variance) = W' h_t
    pi, heads = linear maps of MLP(obs_t, belief_t held constant)
    """

    settings: "BeliefNetwork"
    obs_shape: tuple[int, ...]
    actions: Actions
    heads: Heads

    def init(self, key: PRNGKeyArray) -> Params:
        s, (inputs,) = self.settings, self.obs_shape
        keys = iter(jax.random.split(key, 5 + len(self.heads.flat)))
        outputs = self.actions.count if isinstance(self.actions, Discrete) else self.actions.size
        width = s.hidden[-1]
        params = {
            "encoder": {
                "embed": start_linear(next(keys), inputs, s.embedding),
                "memory": s.memory.init(next(keys), s.embedding),
                "belief": start_linear(next(keys), s.memory.width, 2 * s.latent),
            },
            "body": start_mlp(next(keys), inputs + 2 * s.latent, *s.hidden),
            "policy": start_linear(next(keys), width, outputs, NEARLY_UNIFORM * width**-0.5),
            "flat": {k: start_linear(next(keys), width, n) for k, n in self.heads.flat.items()},
        }
        return params if isinstance(self.actions, Discrete) else params | {"log_std": jnp.zeros(outputs)}

    def start_memory(self, streams: int) -> Memory:
        return self.settings.memory.start(streams)

    def act(
        self, params: Params, memory: Memory, obs: Float[Array, "B *obs"], last: Bool[Array, " B"]
    ) -> tuple[Memory, Outputs]:
        memory = restart(last, self.start_memory(len(last)), memory)
        memory, read = self.settings.memory.step(params["encoder"]["memory"], memory, self._embedded(params, obs))
        return memory, self._outputs(params, read, obs)

    def unroll(self, params: Params, rollout: Rollout) -> Outputs:
        return self._replayed(params, rollout, self.settings.memory.unroll, (), rollout.obs)

    def unroll_next(self, params: Params, rollout: Rollout) -> Outputs:
        following = self._embedded(params, rollout.next_obs)
        return self._replayed(params, rollout, self.settings.memory.unroll_next, (following,), rollout.next_obs)

    def _replayed(self, params: Params, rollout: Rollout, unroll: Callable, more: tuple, obs: Array) -> Outputs:
        seen = self._embedded(params, rollout.obs)
        read = unroll(params["encoder"]["memory"], rollout.memory, seen, begins(rollout), *more)
        return self._outputs(params, read, obs)

    def _embedded(self, params: Params, obs: Float[Array, "... inputs"]) -> Float[Array, "... embedding"]:
        return jax.nn.relu(linear(params["encoder"]["embed"], obs))

    def _outputs(self, params: Params, read: Float[Array, "... width"], obs: Float[Array, "... inputs"]) -> Outputs:
        belief = linear(params["encoder"]["belief"], read)
        # What the agent earns must not decide what it believes: no gradient from here into the encoder (section 4.1).
        known = jnp.concatenate([obs, jax.lax.stop_gradient(belief)], axis=-1)
        features = jax.nn.relu(mlp(params["body"], known))
        flat = {k: linear(layer, features) for k, layer in params["flat"].items()}
        return Outputs(self._policy(params, features), flat | {"belief": belief}, {})

    def _policy(self, params: Params, features: Array) -> Distribution:
        said = linear(params["policy"], features)
        if isinstance(self.actions, Discrete):
            return Categorical(said)
        return Normal(said, jnp.broadcast_to(params["log_std"], said.shape))


@dataclass(frozen=True)
class BeliefNetwork:
    """Settings of an agent of `VariBAD` (Zintgraf et al. 2020); the widths are those of its published grid world.

    Attributes:
      latent: numbers of the latent m that stands for the task; a belief is a mean and a log variance of each.
      embedding: width of an observation before the memory.
      memory: what integrates observations.
      hidden: widths of the policy's own MLP.

    Raises:
      ValueError: a width below 1, or no hidden layer.
    """

    latent: int = 5
    embedding: int = 64
    memory: GRU = GRU(64)
    hidden: tuple[int, ...] = (64,)

    def __post_init__(self):
        if min(self.latent, self.embedding, *self.hidden) < 1 or not self.hidden:
            raise ValueError(f"latent, embedding and at least one hidden width must be at least 1: {self}")

    def build(self, obs_shape: tuple[int, ...], actions: Actions, heads: Heads) -> BeliefPolicy:
        """The policy for observations of `obs_shape`, a vector, with the flat heads a rule asks for.

        Raises:
          ValueError: observations are no vectors, or a head is per action.
        """
        if len(obs_shape) != 1 or heads.per_action:
            raise ValueError(f"BeliefNetwork: for vectors and flat heads only, not {obs_shape} and {heads.per_action}")
        return BeliefPolicy(self, obs_shape, actions, heads)


def split_belief(belief: Float[Array, "... 2*latent"]) -> tuple[Any, Any]:
    """`(mean, log variance)`."""
    mean, log_variance = jnp.split(belief, 2, axis=-1)
    return mean, log_variance
