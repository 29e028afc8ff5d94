"""Agents that keep accounts of their actions: what followed each, in places like this one, and the same for all."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from learned_rl.distributions import Categorical
from learned_rl.layers import linear, over_actions, start_linear
from learned_rl.memories import MAX_LAYERS
from learned_rl.rollout import begins, restart
from learned_rl.tally import Tallied, collect_events, happened, recall, say, start_tally
from learned_rl.types import ONE_PER_ACTION, Actions, Discrete, Heads, Memory, Outputs, Params, Rollout

NEARLY_UNIFORM = 0.01


@dataclass(frozen=True)
class LedgerPolicy:
    """A `Policy` (see `learned_rl.types`) for discrete actions in `Trials`, whose obs_t has u_{t-1}, the last action.

        h_t, a_t, w_t                               as in `Tally`, of obs_t without u_{t-1}
        M_t = M_{t-1} + a_{t-1} u_{t-1}' w_t        sums of events, by the place and the action that they followed
        (s, n)_i = a_t M_t[i]                       what followed action i in places like this one, and how often
        y_i = (h_t, log(1 + s_i), s_i / (1 + n_i), log(1 + n_i), log(1 + sum_j n_j))
        x_i = relu(W y_i + b),                      then layers of `over_actions`: of x_i and the mean over actions
        pi_i = W x_i,                               per action: W x_i;   flat heads: W mean_i x_i

    Nothing depends on the number of an action: if actions are permuted, so are the probabilities (the deep sets of
    Zaheer et al. 2017, eq. 4). The parameters are the same for any number of actions, but for heads `ONE_PER_ACTION`.
    """

    settings: "LedgerNetwork"
    obs_shape: tuple[int, ...]
    actions: Discrete
    heads: Heads

    def init(self, key: PRNGKeyArray) -> Params:
        s, inputs = self.settings, self.obs_shape[0] - self.actions.count
        widths = {k: self.actions.count if n == ONE_PER_ACTION else n for k, n in self.heads.per_action.items()}
        key_account, key_among, key_policy, key_flat, key_action, *keys_tally = jax.random.split(key, 8)

        def heads(key: PRNGKeyArray, sizes: dict[str, int]) -> Params:
            keys = jax.random.split(key, len(sizes))
            return {k: start_linear(each, s.hidden, n) for each, (k, n) in zip(keys, sizes.items(), strict=True)}

        return {
            "tally": start_tally(keys_tally, inputs, s.width, s.cells, s.values),
            "account": start_linear(key_account, s.width + 2 * s.values + 2, s.hidden),
            "among": [start_linear(k, 2 * s.hidden, s.hidden) for k in jax.random.split(key_among, s.layers)],
            "policy": start_linear(key_policy, s.hidden, 1, NEARLY_UNIFORM * s.hidden**-0.5),
            "flat": heads(key_flat, dict(self.heads.flat)),
            "per_action": heads(key_action, widths),
        }

    def start_memory(self, streams: int) -> Memory:
        s = self.settings
        shapes = (s.cells, self.actions.count * (s.values + 1)), (s.cells,), (s.width,)
        return Tallied(*(jnp.zeros((streams, *shape)) for shape in shapes))

    def act(
        self, params: Params, memory: Memory, obs: Float[Array, "B n"], last: Bool[Array, " B"]
    ) -> tuple[Memory, Outputs]:
        memory, layer = restart(last, self.start_memory(len(last)), memory), params["tally"]
        seen, action = self._split(obs)
        h, address = say(layer, seen)
        written = memory.address[..., None] * _of(action, happened(layer, memory.said, h))[..., None, :]
        memory = Tallied(memory.sums + written, address, h)
        return memory, self._outputs(params, h, jnp.einsum("bc,bcv->bv", address, memory.sums))

    def unroll(self, params: Params, rollout: Rollout) -> Outputs:
        (h, _), recalled = self._replayed(params, rollout)
        return self._outputs(params, h, recalled)

    def unroll_next(self, params: Params, rollout: Rollout) -> Outputs:
        seen, action = self._split(rollout.next_obs)
        there = say(params["tally"], seen)
        (h, address), recalled = self._replayed(params, rollout, there)
        # The step from here to there, which nobody but itself sees.
        near = jnp.sum(there[1] * address, axis=-1, keepdims=True)
        recalled += near * _of(action, happened(params["tally"], h, there[0]))
        return self._outputs(params, there[0], recalled)

    def _replayed(
        self, params: Params, rollout: Rollout, reader: tuple[Array, Array] | None = None
    ) -> tuple[tuple[Array, Array], Array]:
        """What each step says and where it is, and what is recalled of the past there, or where `reader` is."""
        layer = params["tally"]
        seen, action = self._split(rollout.obs)
        h, address = say(layer, seen)
        events = collect_events(layer, rollout.memory, h, address, begins(rollout))
        events = events._replace(entry=_of(action, events.entry))
        return (h, address), recall(rollout.memory, events, reader[1] if reader else address)

    def _split(self, obs: Float[Array, "*B n"]) -> tuple[Float[Array, "*B inputs"], Float[Array, "*B A"]]:
        """What is seen, and the last action."""
        shown = obs.shape[-1] - self.actions.count - 2
        return jnp.concatenate([obs[..., :shown], obs[..., -2:]], axis=-1), obs[..., shown:-2]

    def _outputs(
        self, params: Params, h: Float[Array, "*B width"], recalled: Float[Array, "*B A*(values+1)"]
    ) -> Outputs:
        recalled = recalled.reshape((*h.shape[:-1], self.actions.count, -1))
        sums, count = recalled[..., :-1], recalled[..., -1:]
        common = jnp.concatenate([h, jnp.log1p(jnp.sum(count, axis=-2))], axis=-1)[..., None, :]
        common = jnp.broadcast_to(common, (*count.shape[:-1], common.shape[-1]))
        account = (common, jnp.log1p(sums), sums / (1 + count), jnp.log1p(count))
        x = jax.nn.relu(linear(params["account"], jnp.concatenate(account, axis=-1)))
        for layer in params["among"]:
            x = over_actions(layer, x)
        mean = jnp.mean(x, axis=-2)
        return Outputs(
            Categorical(linear(params["policy"], x)[..., 0]),
            {k: linear(layer, mean) for k, layer in params["flat"].items()},
            {k: linear(layer, x) for k, layer in params["per_action"].items()},
        )


def _of(action: Float[Array, "*B A"], entry: Float[Array, "*B values+1"]) -> Float[Array, "*B A*(values+1)"]:
    """An entry into the account of one action."""
    return (action[..., None] * entry[..., None, :]).reshape((*entry.shape[:-1], -1))


@dataclass(frozen=True)
class LedgerNetwork:
    """Settings of an agent that keeps accounts of its actions.

    Attributes:
      width: of what a step says, h.
      cells: how many places are told apart; 1 for bandits.
      values: how many sums there are of each action in each place.
      hidden: width of the layers over actions.
      layers: how many there are, of those that see all actions.

    Raises:
      ValueError: a number out of range.
    """

    width: int = 16
    cells: int = 1
    values: int = 16
    hidden: int = 32
    layers: int = 2

    def __post_init__(self):
        sizes = (self.width, self.cells, self.values, self.hidden, self.layers)
        if min(sizes) < 1 or self.layers > MAX_LAYERS:
            raise ValueError(f"all must be at least 1, layers at most {MAX_LAYERS}: {self}")

    def build(self, obs_shape: tuple[int, ...], actions: Actions, heads: Heads) -> LedgerPolicy:
        """The policy for observations of trials.

        Raises:
          ValueError: actions are real, or observations too narrow to be those of `Trials`.
        """
        if not isinstance(actions, Discrete) or len(obs_shape) != 1 or obs_shape[0] < actions.count + 2:
            raise ValueError(f"LedgerNetwork: for discrete actions in Trials only, not {actions} and {obs_shape}")
        return LedgerPolicy(self, obs_shape, actions, heads)
