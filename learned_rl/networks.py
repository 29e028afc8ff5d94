"""Agents' networks: a body, optional memory, the policy head, and whatever heads the rule asks for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from learned_rl.distributions import Categorical, Distribution, Normal
from learned_rl.hypernetwork import Hypernetwork, Linear
from learned_rl.layers import loudness, orthogonal
from learned_rl.memories import GRU, Transformer
from learned_rl.rollout import begins, restart
from learned_rl.tally import Tally
from learned_rl.types import ONE_PER_ACTION, Actions, Discrete, Heads, Layers, Memory, Outputs, Params, Rollout


class _Dense(nn.Dense):
    """With its nonlinearity, so that a module's output is what the next layer hears."""

    activation: Callable = nn.tanh

    def __call__(self, inputs: Array) -> Array:
        return self.activation(super().__call__(inputs))


class _Conv(nn.Conv):
    """With its nonlinearity."""

    activation: Callable = nn.tanh

    def __call__(self, inputs: Array) -> Array:
        return self.activation(super().__call__(inputs))


@dataclass(frozen=True)
class MLP:
    """Flattens the observation, then `hidden` layers with `activation`; orthogonal initialisation (gain sqrt 2)."""

    hidden: tuple[int, ...] = (64, 64)
    activation: Callable = nn.tanh

    def __call__(self, x: Float[Array, "..."], obs_rank: int, name: str) -> Float[Array, "... features"]:
        x = x.reshape((*x.shape[: x.ndim - obs_rank], -1))
        for i, width in enumerate(self.hidden):
            x = _Dense(width, activation=self.activation, kernel_init=orthogonal(2**0.5), name=f"{name}_{i}")(x)
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
            x = _Conv(width, (3, 3), activation=self.activation, name=f"{name}_conv_{i}")(x)
        return MLP(self.hidden, self.activation)(x, 3, name)


class _Body(nn.Module):
    """What an observation says, any leading axes."""

    settings: "Network"
    obs_rank: int

    @nn.compact
    def __call__(self, obs: Float[Array, "..."]) -> Float[Array, "... features"]:
        return self.settings.body(obs, self.obs_rank, "body")


class _Heads(nn.Module):
    """What the agent says, of features that may remember and of the observation itself; any leading axes."""

    settings: "Network"
    obs_rank: int
    actions: Actions
    heads: Heads

    @nn.compact
    def __call__(self, features: Float[Array, "... features"], obs: Float[Array, "..."]) -> Outputs:
        head_features = features
        if self.settings.separate and (self.heads.flat or self.heads.per_action):
            head_features = self.settings.body(obs, self.obs_rank, "heads_body")
        flat = {k: nn.Dense(n, name=k)(head_features) for k, n in self.heads.flat.items()}
        per_action = {k: self._per_action(head_features, n, k) for k, n in self.heads.per_action.items()}
        return Outputs(self._policy(features, obs), flat, per_action)

    def _policy(self, features: Float[Array, "... features"], obs: Float[Array, "..."]) -> Distribution:
        if isinstance(self.actions, Discrete):
            return Categorical(self.settings.readout(features, obs, self.actions.count))
        mean = self.settings.readout(features, obs, self.actions.size)
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
    def _body(self) -> _Body:
        return _Body(self.settings, len(self.obs_shape))

    @property
    def _heads(self) -> _Heads:
        return _Heads(self.settings, len(self.obs_shape), self.actions, self.heads)

    def init(self, key: PRNGKeyArray) -> Params:
        # Body and heads share one flat dictionary and one key: flax folds the layers' names, all different, into it.
        obs = jnp.zeros((1, *self.obs_shape))
        body: Any = self._body.init(key, obs)
        params: dict[str, Any] = dict(body.get("params", {}))
        features = self._features(params, obs)
        if self.settings.memory is not None:
            params["memory"] = self.settings.memory.init(jax.random.fold_in(key, 1), features.shape[-1])
            _, features = self.settings.memory.step(params["memory"], self.start_memory(1), features)
        heads: Any = self._heads.init(key, features, obs)
        return params | heads["params"]

    def start_memory(self, streams: int) -> Memory:
        return () if self.settings.memory is None else self.settings.memory.start(streams)

    def act(
        self, params: Params, memory: Memory, obs: Float[Array, "B *obs"], last: Bool[Array, " B"]
    ) -> tuple[Memory, Outputs]:
        x = self._features(params, obs)
        if self.settings.memory is not None:
            memory = restart(last, self.start_memory(last.shape[0]), memory)
            memory, x = self.settings.memory.step(params["memory"], memory, x)
        return memory, self._said(params, x, obs)

    def unroll(self, params: Params, rollout: Rollout) -> Outputs:
        x = self._features(params, rollout.obs)
        if self.settings.memory is not None:
            x = self.settings.memory.unroll(params["memory"], rollout.memory, x, begins(rollout))
        return self._said(params, x, rollout.obs)

    def unroll_next(self, params: Params, rollout: Rollout) -> Outputs:
        x = self._features(params, rollout.next_obs)
        if self.settings.memory is not None:
            before = self._features(params, rollout.obs)
            x = self.settings.memory.unroll_next(params["memory"], rollout.memory, before, begins(rollout), x)
        return self._said(params, x, rollout.next_obs)

    def unroll_layers(self, params: Params, rollout: Rollout) -> tuple[Outputs, Layers]:
        """`unroll`, and how loud each unit of each layer was."""
        x, layers = self._heard(self._body, params, rollout.obs)
        if self.settings.memory is not None:
            x = self.settings.memory.unroll(params["memory"], rollout.memory, x, begins(rollout))
            layers["memory"] = loudness(x)
        outputs, more = self._heard(self._heads, params, x, rollout.obs)
        return outputs, layers | more

    def _heard(self, module: nn.Module, params: Params, *inputs: Array) -> tuple[Any, Layers]:
        """What a module says of inputs of which the last are observations, and how loud its layers are."""

        def listen(*inputs: Array) -> Any:
            listening = {"capture_intermediates": _is_layer, "mutable": ["intermediates"]}
            return module.apply({"params": params}, *inputs, **listening)

        said, layers = self._batched(listen, *inputs, lead=self._lead(inputs[-1]))
        # The last that a layer says is after its nonlinearity.
        return said, {name: loudness(x["__call__"][-1]) for name, x in layers.get("intermediates", {}).items()}

    def _features(self, params: Params, obs: Float[Array, "..."]) -> Float[Array, "... features"]:
        return self._batched(lambda obs: self._body.apply({"params": params}, obs), obs, lead=self._lead(obs))

    def _said(self, params: Params, features: Float[Array, "... features"], obs: Float[Array, "..."]) -> Outputs:
        return self._batched(lambda *x: self._heads.apply({"params": params}, *x), features, obs, lead=self._lead(obs))

    def _lead(self, obs: Float[Array, "..."]) -> tuple[int, ...]:
        return obs.shape[: obs.ndim - len(self.obs_shape)]

    @staticmethod
    def _batched(function: Callable, *inputs: Array, lead: tuple[int, ...]) -> Any:
        # Two leading axes as one: the gradient of a product over both is a slower one, and costs a tenth of an update
        # when many agents learn side by side. Not where the first is 1, which is faster (measured) as it is.
        if len(lead) == 1 or lead[0] == 1:
            return function(*inputs)
        said = function(*(x.reshape((-1, *x.shape[len(lead) :])) for x in inputs))
        return jax.tree.map(lambda x: x.reshape((*lead, *x.shape[1:])), said)


def _is_layer(module: nn.Module, method: str) -> bool:
    return len(module.path) == 1 and method == "__call__"


@dataclass(frozen=True)
class Network:
    """Settings of an agent's network.

    Attributes:
      body: `MLP` or `CNN`.
      memory: `GRU`, `Transformer` or `Tally` after the body; None for none.
      separate: whether the rule's heads (the value, say) get a body of their own. Not with a memory: all read it.
      readout: `Linear`, or `Hypernetwork`: what makes the policy of the features.
    """

    body: MLP | CNN = MLP()
    memory: GRU | Transformer | Tally | None = None
    separate: bool = True
    readout: Linear | Hypernetwork = Linear()

    def __post_init__(self):
        if self.memory is not None and self.separate:
            raise ValueError("separate=True with a memory: heads would not see the memory; set separate=False")

    def build(self, obs_shape: tuple[int, ...], actions: Actions, heads: Heads) -> NetworkPolicy:
        """The policy for observations of `obs_shape`, with the heads a rule asks for."""
        return NetworkPolicy(self, obs_shape, actions, heads)
