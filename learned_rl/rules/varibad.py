"""VariBAD (Zintgraf et al. 2020): an agent that carries an approximate belief about its task, and acts on it."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from learned_rl.belief_network import BeliefNetwork, split_belief
from learned_rl.blueprint import Blueprint, inherited
from learned_rl.layers import Linear, mlp, start_mlp
from learned_rl.trials import action_width, as_vector
from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, RuleState, Theta


class Evidence(NamedTuple):
    """The two parts of the negative evidence lower bound, per step of a trial.

    Attributes:
      reconstruction: of all rewards of the trial, from the belief at a step.
      divergence: of the belief from the one before it.
    """

    reconstruction: Float[Array, ""]
    divergence: Float[Array, ""]


@dataclass(frozen=True)
class Decoder:
    """What a latent m says of rewards: mean r = <MLP(m), (s', a, 1)>, s' being where a led, with deviation `std`.

    On one-hot states it is the decoder of the published grid world, one output a cell, but for a normal in the place of
    a Bernoulli variable: rewards need not be of two values. That m is read once, and not once for each step that is
    reconstructed, makes all pairs of steps a product of two matrices.
    """

    hidden: tuple[int, ...] = (32, 32)
    std: float = 0.3

    def __post_init__(self):
        if self.std <= 0:
            raise ValueError(f"std={self.std} must be positive")

    def init(self, key: PRNGKeyArray, latent: int, inputs: int) -> list[Linear]:
        return start_mlp(key, latent, *self.hidden, inputs + 1)

    def error(
        self, theta: list[Linear], latent: Float[Array, "*S latent"], led: Float[Array, "*P inputs"], reward: Array
    ) -> Float[Array, "S P"]:
        """-log p(r | s', a, m) but for a constant, of every reward under every sample."""
        weight = mlp(theta, latent)
        said = weight[..., :-1] @ led.T + weight[..., -1:]
        return 0.5 * ((reward - said) / self.std) ** 2


@dataclass(frozen=True)
class VariBAD:
    """For `Trials`. theta = {"agent": a `BeliefNetwork`'s parameters, "decoder": ...}.

        birth:  params = theta.agent          update:  nothing

    What learns in a trial is the belief q_t = N(mean, variance | h_t) over a latent m. It is trained, with the decoder,
    by the bound on what a whole trial pays, past and future (eq. 4 and 5; `meta_objectives.BeliefRegularised`):

        ELBO_t = E_{m ~ q_t} sum_{i < H} log p(r_i | s_{i+1}, a_i, m) - KL(q_t || q_{t-1}),   q_{-1} = N(0, 1)

    and the policy, which reads q_t as data, by what it earns.

    Departures: rewards are reconstructed and not transitions (as in the published grid world); where an episode of a
    trial ends, the observation does not show where the last action led, so that step's reward is not reconstructed (the
    encoder sees it); the policy's input holds the last action and reward too.

    Attributes:
      blueprint: what agents are; its network is a `BeliefNetwork`.
      decoder: of rewards.

    Raises:
      ValueError: agents without a belief.
    """

    blueprint: Blueprint = Blueprint(BeliefNetwork(), (6,))
    decoder: Decoder = Decoder()

    def __post_init__(self):
        if not isinstance(self.blueprint.network, BeliefNetwork):
            raise ValueError("blueprint.network: agents of VariBAD are BeliefNetworks")

    @property
    def heads(self) -> Heads:
        return Heads(flat={"value": 1})

    @property
    def _shown(self) -> int:
        """Width of what the task itself shows, at the front of an observation of a trial."""
        return self.blueprint.obs_shape[0] - action_width(self.blueprint.actions) - 2

    def init(self, key: PRNGKeyArray) -> Theta:
        key_agent, key_decoder = jax.random.split(key)
        network = self.blueprint.network
        assert isinstance(network, BeliefNetwork)
        inputs = self._shown + action_width(self.blueprint.actions)
        return {
            "agent": self.blueprint.policy(self.heads).init(key_agent),
            "decoder": self.decoder.init(key_decoder, network.latent, inputs),
        }

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        return inherited(theta["agent"], policy, key), ()

    def update(
        self, theta: Theta, params: Params, state: RuleState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, RuleState, Metrics]:
        return params, state, {"entropy": jnp.mean(rollout.behaviour.entropy())}

    def evidence(self, theta: Theta, params: Params, rollout: Rollout, policy: Policy, key: PRNGKeyArray) -> Evidence:
        """The bound's two parts, of trials or pieces of them; samples of m are reparametrised."""
        mean, log_variance = split_belief(policy.unroll(params, rollout).flat["belief"])
        latent = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape, mean.dtype)
        led = rollout.next_obs[..., : self._shown]
        led = jnp.concatenate([led, as_vector(self.blueprint.actions, rollout.action)], axis=-1)
        ended = rollout.next_obs[..., -1] > 0
        begins = jnp.concatenate([jnp.ones_like(rollout.last[:1]), rollout.last[:-1]])

        def stream(latent, mean, log_variance, led, reward, ended, begins) -> Evidence:
            error = self.decoder.error(theta["decoder"], latent, led, reward)
            trial = jnp.cumsum(begins)
            together = (trial[:, None] == trial) & ~ended
            divergence = _divergences(mean, log_variance, begins)
            return Evidence(jnp.mean(jnp.sum(error * together, axis=1)), jnp.mean(divergence))

        columns = (latent, mean, log_variance, led, rollout.reward, ended, begins)
        return jax.tree.map(jnp.mean, jax.vmap(stream, in_axes=1)(*columns))


def _divergences(
    mean: Float[Array, "T latent"], log_variance: Float[Array, "T latent"], begins: Bool[Array, " T"]
) -> Float[Array, " T"]:
    """KL(q_t || q_{t-1}), and KL(q_t || N(0, 1)) where a trial begins."""

    def before(x: Array) -> Array:
        return jnp.where(begins[:, None], 0.0, jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]))

    prior_mean, prior = before(mean), before(log_variance)
    square = jnp.exp(log_variance - prior) + (mean - prior_mean) ** 2 * jnp.exp(-prior)
    return 0.5 * jnp.sum(square - 1 + prior - log_variance, axis=-1)
