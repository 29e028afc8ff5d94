"""The meta-network: what it reads of a rollout, and the targets that it sets the agent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.layers import (
    LSTMState,
    linear,
    lstm,
    lstm_backwards,
    mlp,
    over_actions,
    start_linear,
    start_lstm,
    start_mlp,
)
from learned_rl.rules.disco import evidence
from learned_rl.rules.disco.evidence import Evidence
from learned_rl.rules.disco.predictions import Embedded, Glance, Predictions, of_action
from learned_rl.types import Theta


class Targets(NamedTuple):
    """What the rule asks of the agent, all logits.

    Attributes:
      policy: pi_hat.
      y: y_hat.
      z: z_hat, for the action taken.
      summary: what the lifetime network is told of each step.
    """

    policy: Float[Array, "T B A"]
    y: Float[Array, "T B m"]
    z: Float[Array, "T B m"]
    summary: Float[Array, "T B 1"]


class Reading(NamedTuple):
    """A rollout as a meta-network sees it.

    Attributes:
      steps: features of the steps.
      actions: embedding of every action.
    """

    steps: Float[Array, "T B n"]
    actions: Float[Array, "T B A c"]


@dataclass(frozen=True)
class MetaNetwork:
    """Two recurrences: one backwards through a rollout, one forwards through the agent's whole life.

        x_t    = features of the step, and of its actions pooled           (`evidence`, `read`)
        h_t    = LSTM(x_t, h_{t+1}), begun anew at episode ends
        g_t    = h_t * W l,  l the hidden state of the lifetime LSTM: a plain product, no squashing
        y_hat, z_hat, pi_hat = linear maps of g_t; pi_hat shared by all actions, so that any number of them will do

    The lifetime LSTM takes one step an update, on the mean over the rollout of its own reading of it.

    Attributes:
      predictions: width of y and z.
      hidden: of the backward LSTM.
      lifetime_hidden: of the lifetime LSTM.
      embedding: width of all layers in between.
      action_embedding: numbers kept of each action.
    """

    predictions: int = 600
    hidden: int = 256
    lifetime_hidden: int = 128
    embedding: int = 16
    action_embedding: int = 2

    def init(self, key: PRNGKeyArray) -> Theta:
        """Untrained. The three maps to targets start with standard deviation 0.3, so that targets say something."""
        keys = iter(jax.random.split(key, 11))
        inputs = evidence.FEATURES + 2 * self.action_embedding
        return {
            "trajectory": {
                "reader": self._start_reader(next(keys)),
                "lstm": start_lstm(next(keys), inputs, self.hidden),
                "gate": start_linear(next(keys), self.lifetime_hidden, self.hidden),
                "summary": start_linear(next(keys), self.hidden, 1),
                "y": start_linear(next(keys), self.hidden, self.predictions, 0.3),
                "z": start_linear(next(keys), self.hidden, self.predictions, 0.3),
                "actions": start_linear(next(keys), 2 * (self.hidden + self.action_embedding), self.embedding),
                "policy": start_linear(next(keys), self.embedding, 1, 0.3),
            },
            "lifetime": {
                "reader": self._start_reader(next(keys)),
                "inward": start_linear(next(keys), inputs + 2, self.embedding),
                "lstm": start_lstm(next(keys), self.embedding, self.lifetime_hidden),
            },
        }

    def _start_reader(self, key: PRNGKeyArray) -> Theta:
        keys, m, width = jax.random.split(key, 4), self.predictions, self.embedding
        return {
            "y": start_mlp(keys[0], m, width, 1),
            "z": start_mlp(keys[1], m, width, 1),
            "actions": [
                start_linear(keys[2], 2 * evidence.CHANNELS, width),
                start_linear(keys[3], 2 * width, self.action_embedding),
            ],
        }

    def birth(self) -> LSTMState:
        """Of a life that nothing has happened in."""
        zeros = jnp.zeros(self.lifetime_hidden)
        return LSTMState(zeros, zeros)

    def glance(self, theta: Theta, said: Predictions, q: Float[Array, "... A"]) -> Glance:
        """What both readers make of what a network says of states, beside its policy and its values `q`."""
        one, other = theta["trajectory"]["reader"], theta["lifetime"]["reader"]
        (y, y_other), (z, z_other) = both(one["y"], other["y"], said.y), both(one["z"], other["z"], said.z)
        return Glance(said.policy, q, Embedded(y, z), Embedded(y_other, z_other))

    def targets(self, theta: Theta, lifetime: LSTMState, seen: Evidence) -> Targets:
        """What the agent should have said, given how its life has been *before* this rollout."""
        net = theta["trajectory"]
        reading = read(net["reader"]["actions"], seen, lambda glance: glance.trajectory)
        gated = lstm_backwards(net["lstm"], reading.steps, seen.rollout.last) * linear(net["gate"], lifetime.hidden)
        count = reading.actions.shape[-2]
        everywhere = jnp.broadcast_to(gated[..., None, :], (*gated.shape[:-1], count, gated.shape[-1]))
        each = over_actions(net["actions"], jnp.concatenate([everywhere, reading.actions], axis=-1))
        policy = linear(net["policy"], each)[..., 0]
        return Targets(policy, linear(net["y"], gated), linear(net["z"], gated), linear(net["summary"], gated))

    def live(self, theta: Theta, lifetime: LSTMState, seen: Evidence, targets: Targets) -> LSTMState:
        """The lifetime's memory after this rollout, for the next one."""
        net = theta["lifetime"]
        asked = embed(net["reader"]["y"], targets.y)
        reading = read(net["reader"]["actions"], seen, lambda glance: glance.lifetime)
        steps = jnp.concatenate([reading.steps, targets.summary, asked[..., None]], axis=-1)
        return lstm(net["lstm"], lifetime, jnp.mean(linear(net["inward"], steps), axis=(0, 1)))


def embed(layers: Theta, logits: Float[Array, "... m"]) -> Float[Array, "..."]:
    """One number from the distribution that logits stand for."""
    return mlp(layers, jax.nn.softmax(logits))[..., 0]


def both(first: Theta, second: Theta, logits: Float[Array, "... m"]) -> tuple[Array, Array]:
    """`embed` by two networks. Their first layers side by side: one pass over what is wide."""
    width = first[0]["w"].shape[1]
    side_by_side = jax.tree.map(lambda *w: jnp.concatenate(w, axis=-1), first[0], second[0])
    hidden = jax.nn.relu(linear(side_by_side, jax.nn.softmax(logits)))
    return mlp(first[1:], hidden[..., :width])[..., 0], mlp(second[1:], hidden[..., width:])[..., 0]


def read(layers: list[Theta], seen: Evidence, by: Callable[[Glance], Embedded]) -> Reading:
    """Pools what is known of the actions, their mean and the one taken; y and z as read `by` one of the readers."""
    agent, target = ((by(pair.now), by(pair.then)) for pair in (seen.agent, seen.target))
    actions = evidence.action_features(seen, agent[0], target[0])
    for layer in layers:
        actions = over_actions(layer, actions)
    pooled = [jnp.mean(actions, axis=-2), of_action(actions, seen.rollout.action)]
    return Reading(jnp.concatenate([evidence.step_features(seen, agent, target), *pooled], axis=-1), actions)
