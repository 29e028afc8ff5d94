"""Reading a life: an LSTM over all that happened to one agent, which no end of an episode resets."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.layers import Linear, LSTMState, linear, lstm_gates, start_linear, start_lstm
from learned_rl.rules.intrinsic.reward import done, observed
from learned_rl.types import Rollout


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
