"""Learned rewards: of a state and an action (Zheng et al. 2018), and of a whole life (Zheng et al. 2020)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.layers import LSTMState, linear, mlp, start_linear, start_mlp
from learned_rl.rules.intrinsic.history import before_birth, check, happened, read_on, start_history
from learned_rl.rules.intrinsic.reward import done, observed
from learned_rl.types import Policy, Rollout, Theta


@dataclass(frozen=True)
class StateActionReward:
    """r_in_t = tanh(MLP(s_t, a_t)): the same all life long (LIRPG, Zheng et al. 2018).

    Its output layer starts at zero, so that the agent starts as one without it (published: at random).

    Attributes:
      hidden: width of the two layers.
      observation: room for an observation.
      action: room for an action; 0: it is not read.
    """

    hidden: int = 64
    observation: int = 256
    action: int = 8

    def __post_init__(self):
        check(self)

    def init(self, key: PRNGKeyArray) -> Theta:
        layers = start_mlp(key, self.observation + self.action, self.hidden, self.hidden, 1)
        return [*layers[:-1], jax.tree.map(jnp.zeros_like, layers[-1])]

    def start(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def pay(self, theta: Theta, memory: tuple[()], rollout: Rollout) -> tuple[Float[Array, "T B"], tuple[()]]:
        x = jnp.concatenate([observed(rollout.obs, self.observation), done(rollout, self.action)], axis=-1)
        return jnp.tanh(mlp(theta, x)[..., 0]), ()


@dataclass(frozen=True)
class LifetimeReward:
    """r_in of the whole life so far, by a recurrent network that no end of an episode resets (Zheng et al. 2020).

        e_tb = relu(W (s'_tb, a_tb, r_tb, 1 - d_tb, last_tb) + c)
        h_t  = LSTM(h_{t-1}, mean_b e_tb)
        r_in_tb = tanh(w relu(U (e_tb, h_t) + u) + v)

    over all T steps of all updates, b running over the agent's streams; with one stream, the paper's setting, h is the
    history tau_t. Many-shot learning is in h: *this* life's reward for a place can depend on what was
    found there ten episodes ago. Its output layer starts at zero.

    s' is what step t led to, `next_obs`: the last state of an episode is part of the history, the first of the next is
    not read. Without room for actions the reward knows nothing of them, and can be carried to agents with other ones
    (the paper's transfer to permuted and extended actions).

    Attributes:
      hidden: width of the embedding, of the LSTM and of the output's hidden layer.
      observation: room for an observation.
      action: room for an action; 0: it is not read.
    """

    hidden: int = 64
    observation: int = 256
    action: int = 8

    def __post_init__(self):
        check(self)

    def init(self, key: PRNGKeyArray) -> Theta:
        key_history, key_inward = jax.random.split(key)
        return {
            "history": start_history(key_history, self.hidden, self.observation, self.action),
            "inward": start_linear(key_inward, 2 * self.hidden, self.hidden),
            "outward": {"w": jnp.zeros((self.hidden, 1)), "b": jnp.zeros(1)},
        }

    def start(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> LSTMState:
        return before_birth(self.hidden)

    def pay(self, theta: Theta, memory: LSTMState, rollout: Rollout) -> tuple[Float[Array, "T B"], LSTMState]:
        x = happened(rollout, self.observation, self.action)
        embedded, hidden, memory = read_on(theta["history"], memory, x)
        hidden = jnp.broadcast_to(hidden[:, None], (*embedded.shape[:2], self.hidden))
        x = jax.nn.relu(linear(theta["inward"], jnp.concatenate([embedded, hidden], axis=-1)))
        return jnp.tanh(linear(theta["outward"], x)[..., 0]), memory
