"""The agent of DiscoRL: what it says of an action comes from a step of a small model of the world."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from learned_rl.distributions import Categorical
from learned_rl.layers import linear, loudness, lstm_gates, mlp_layers, start_linear, start_lstm, start_mlp
from learned_rl.types import ONE_PER_ACTION, Actions, Discrete, Heads, Layers, Memory, Outputs, Params, Rollout


@dataclass(frozen=True)
class ActionPolicy:
    """A `Policy` (see `learned_rl.types`) without a memory.

    x = torso(obs);  policy and flat heads: linear maps of x
    c = W x + b;     per action: LSTM((tanh c, c), one-hot a), and on its output a head with one hidden layer or more
    """

    settings: "ActionNetwork"
    obs_shape: tuple[int, ...]
    actions: Discrete
    heads: Heads

    def init(self, key: PRNGKeyArray) -> Params:
        s, count = self.settings, self.actions.count
        keys = iter(jax.random.split(key, 4 + len(self.heads.flat) + len(self.heads.per_action)))
        inputs, features = math.prod(self.obs_shape), s.torso[-1]
        widths = {k: count if n == ONE_PER_ACTION else n for k, n in self.heads.per_action.items()}
        return {
            "torso": start_mlp(next(keys), inputs, *s.torso),
            "cell": start_linear(next(keys), features, s.cell),
            "model": start_lstm(next(keys), count, s.cell),
            # Close to uniform at birth, whatever the width of the torso.
            "policy": start_linear(next(keys), features, count, 0.01),
            "flat": {k: start_linear(next(keys), features, n, 0.01) for k, n in self.heads.flat.items()},
            "per_action": {k: start_mlp(next(keys), s.cell, *s.head, n) for k, n in widths.items()},
        }

    def start_memory(self, streams: int) -> Memory:
        return ()

    def act(
        self, params: Params, memory: Memory, obs: Float[Array, "B *obs"], last: Bool[Array, " B"]
    ) -> tuple[Memory, Outputs]:
        return (), self._said(params, obs)[0]

    def unroll(self, params: Params, rollout: Rollout) -> Outputs:
        return self._said(params, rollout.obs)[0]

    def unroll_next(self, params: Params, rollout: Rollout) -> Outputs:
        return self._said(params, rollout.next_obs)[0]

    def unroll_taken(self, params: Params, rollout: Rollout) -> Outputs:
        """`unroll`, but `per_action` is `[T, B, n]`, of the action taken alone."""
        return self._said(params, rollout.obs, rollout.action)[0]

    def unroll_layers(self, params: Params, rollout: Rollout) -> tuple[Outputs, Layers]:
        """`unroll`, and how loud each unit of each layer was."""
        outputs, layers = self._said(params, rollout.obs)
        return outputs, {name: loudness(x) for name, x in layers.items()}

    def _said(
        self, params: Params, obs: Float[Array, "..."], action: Int[Array, "..."] | None = None
    ) -> tuple[Outputs, dict[str, Array]]:
        """The outputs, of every action or of one, and what each layer said, by its path in the parameters."""
        leading = obs.shape[: obs.ndim - len(self.obs_shape)]
        # One leading axis and no more: on CPUs, derivatives by weights take half the time then.
        torso = mlp_layers(params["torso"], obs.reshape((-1, math.prod(self.obs_shape))))
        x = torso[-1]
        cell = linear(params["cell"], x)
        # The same step for every action, but for the row of weights that its one-hot picks.
        of_action, of_state = jnp.split(params["model"]["w"], [self.actions.count])
        gates = jnp.tanh(cell) @ of_state + params["model"]["b"]
        if action is None:
            after = lstm_gates(gates[:, None] + of_action, cell[:, None]).hidden
        else:
            taken = jax.nn.one_hot(action.reshape(-1), self.actions.count)
            after = lstm_gates(gates + taken @ of_action, cell).hidden
        policy = linear(params["policy"], x)
        flat = {k: linear(layer, x) for k, layer in params["flat"].items()}
        heads = {k: mlp_layers(layers, after) for k, layers in params["per_action"].items()}
        layers = {"cell": cell, "model": after, "policy": policy} | {f"flat/{k}": y for k, y in flat.items()}
        for name, said in {"torso": torso, **{f"per_action/{k}": each for k, each in heads.items()}}.items():
            layers |= {f"{name}/{i}": y for i, y in enumerate(said)}
        outputs = Outputs(Categorical(policy), flat, {k: each[-1] for k, each in heads.items()})
        return jax.tree.map(lambda y: y.reshape((*leading, *y.shape[1:])), outputs), layers


@dataclass(frozen=True)
class ActionNetwork:
    """Settings of the published agent of DiscoRL (Oh et al. 2025), for discrete actions.

    Weights start truncated normal with deviation 1 / sqrt(inputs), policy and flat heads with 0.01, biases at 0.

    Attributes:
      torso: widths of an MLP on the flattened observation; relu in between, nothing after the last.
      cell: width of the action model.
      head: hidden widths of the heads per action.
    """

    torso: tuple[int, ...] = (512, 512)
    cell: int = 128
    head: tuple[int, ...] = (128,)

    def __post_init__(self):
        if not self.torso:
            raise ValueError("torso: at least one layer, e.g. (64,)")

    def build(self, obs_shape: tuple[int, ...], actions: Actions, heads: Heads) -> ActionPolicy:
        """The policy for observations of `obs_shape`, with the heads a rule asks for.

        Raises:
          ValueError: the actions are not discrete.
        """
        if not isinstance(actions, Discrete):
            raise ValueError("ActionNetwork: its model steps once per action, and the task's actions are continuous")
        return ActionPolicy(self, obs_shape, actions, heads)
