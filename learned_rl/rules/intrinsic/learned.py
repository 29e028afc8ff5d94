"""Learned rewards: of a state and an action (Zheng et al. 2018), and of a whole life (Zheng et al. 2020)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.layers import Linear, LSTMState, linear, lstm_gates, mlp, start_linear, start_lstm, start_mlp
from learned_rl.rules.intrinsic.reward import done, observed
from learned_rl.types import Policy, Rollout, Theta


@dataclass(frozen=True)
class StateActionReward:
    """r_in_t = tanh(MLP(s_t, a_t)): the same all life long (LIRPG, Zheng et al. 2018, section 4.2).

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
    history tau_t of its eq. 3. Many-shot learning is in h: *this* life's reward for a place can depend on what was
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


def check(settings: Any) -> None:
    """Raises a ValueError if a width or a room is out of range."""
    if settings.hidden < 1 or settings.observation < 1 or settings.action < 0:
        raise ValueError(
            f"hidden ({settings.hidden}) and observation ({settings.observation}) must be at least 1, "
            f"action ({settings.action}) at least 0"
        )


def start_history(key: PRNGKeyArray, hidden: int, observation: int, action: int) -> dict[str, Linear]:
    """Parameters of a reader of a life: an embedding of a step, and an LSTM."""
    key_embed, key_lstm = jax.random.split(key)
    return {
        "embed": start_linear(key_embed, observation + action + 3, hidden),
        "lstm": start_lstm(key_lstm, hidden, hidden),
    }


def before_birth(hidden: int) -> LSTMState:
    """The memory of a life that has not begun."""
    return LSTMState(jnp.zeros(hidden), jnp.zeros(hidden))


def happened(rollout: Rollout, observation: int, action: int) -> Float[Array, "T B n"]:
    """What each step is to a reader: where it led, what was done, what it paid, whether it terminated or ended."""
    numbers = jnp.stack([rollout.reward, 1.0 - rollout.discount, rollout.last.astype(jnp.float32)], axis=-1)
    return jnp.concatenate([observed(rollout.next_obs, observation), done(rollout, action), numbers], axis=-1)


def read_on(
    theta: dict[str, Linear], memory: LSTMState, x: Float[Array, "T B n"]
) -> tuple[Float[Array, "T B hidden"], Float[Array, "T hidden"], LSTMState]:
    """Reads T more steps of a life: their embeddings, what is remembered after each, and the memory after the last."""
    embedded = jax.nn.relu(linear(theta["embed"], x))
    size = memory.hidden.shape[-1]
    from_input, from_hidden = jnp.split(theta["lstm"]["w"], [size])
    # What does not wait for the step before is done for all steps at once.
    projected = jnp.mean(embedded, axis=1) @ from_input + theta["lstm"]["b"]

    def step(memory: LSTMState, x_t: Array) -> tuple[LSTMState, Array]:
        memory = lstm_gates(x_t + memory.hidden @ from_hidden, memory.cell)
        return memory, memory.hidden

    memory, hidden = jax.lax.scan(step, memory, projected)
    return embedded, hidden, memory
