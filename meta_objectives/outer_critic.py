"""The outer critic: what an agent's states are worth to the outer loop, whatever its rule believes."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.lifetime import Lifetime
from learned_rl.losses import gae, squared_error
from learned_rl.networks import Network
from learned_rl.optimizers import Adam, AdamState
from learned_rl.types import Heads, Params, Policy, Rollout


class Critic(NamedTuple):
    """The outer critic of one life."""

    params: Params
    moments: AdamState


@dataclass(frozen=True)
class OuterCritic:
    """V' with a discount and a trace of its own, fitted to the judged agents of one life (Bonnet et al. 2022).

        A'_t = delta_t + gamma' lambda' A'_{t+1},   delta_t = r_t + gamma' d_t V'(s_{t+1}) - V'(s_t)

    A meta-gradient is the judged agent's policy gradient, carried on to theta; with the agent's own critic, fitted to
    the inner discount, in the place of V', every bootstrap undervalues what is late, and the outer loop is drawn to
    rules that are as short-sighted as that critic. (A rule such as LPG has no critic at all.)

    It lives as long as the agent. It carries no meta-gradient: advantages are data, and so is what it is trained on. An
    objective first asks for advantages and then trains: a baseline that has seen the actions it judges is biased.

    Attributes:
      network: of the critic; its head is the value.
      discount, trace: gamma' and lambda'.
      learning_rate, epochs: Adam's learning rate and gradient steps per judgement.
    """

    network: Network = Network()
    discount: float = 0.99
    trace: float = 0.95
    learning_rate: float = 3e-3
    epochs: int = 4

    def __post_init__(self):
        for name in ("discount", "trace"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is in [0, 1], not {getattr(self, name)}")
        if self.epochs < 1 or self.learning_rate <= 0:
            raise ValueError(f"epochs ({self.epochs}) must be >= 1 and learning_rate ({self.learning_rate}) > 0")

    def values(self, lifetime: Lifetime) -> Policy:
        """The network for the lifetime's observations; it has a policy head too, which nobody asks."""
        return self.network.build(lifetime.tasks.obs_shape, lifetime.tasks.actions, Heads(flat={"value": 1}))

    def start(self, lifetime: Lifetime, key: PRNGKeyArray) -> Critic:
        """The critic of a new life."""
        params = self.values(lifetime).init(key)
        return Critic(params, Adam().init(params))

    def advantage(
        self, lifetime: Lifetime, state: Critic, rollout: Rollout
    ) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
        """`(A', A' + V')` at every step: the advantage, and what `train` takes as its target. All of it is data."""
        critic, rollout = self.values(lifetime), rollout._replace(memory=())
        value = critic.unroll(state.params, rollout).flat["value"][..., 0]
        following = critic.unroll_next(state.params, rollout).flat["value"][..., 0]
        return jax.lax.stop_gradient(gae(rollout, value, following, self.discount, self.trace))

    def train(
        self, lifetime: Lifetime, state: Critic, rollout: Rollout, target: Float[Array, "T B"]
    ) -> tuple[Critic, Float[Array, ""]]:
        """The critic after `epochs` gradient steps towards `target`, and its loss before them."""
        critic = self.values(lifetime)
        # The inputs are constants, so the trained critic is one too.
        state, rollout, target = jax.lax.stop_gradient((state, rollout._replace(memory=()), target))

        def loss(params: Params) -> Float[Array, ""]:
            return squared_error(critic.unroll(params, rollout).flat["value"][..., 0], target)

        def step(state: Critic, _: None) -> tuple[Critic, Array]:
            error, gradient = jax.value_and_grad(loss)(state.params)
            params, moments = Adam().update(gradient, state.moments, state.params, self.learning_rate)
            return Critic(params, moments), error

        state, errors = jax.lax.scan(step, state, length=self.epochs)
        return state, errors[0]
