"""DiscoRL's rule (Oh et al., "Discovering state-of-the-art reinforcement learning algorithms", Nature 2025)."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.layers import LSTMState
from learned_rl.optimizers import ElementClippedAdam, InnerOptimizer
from learned_rl.rules.averages import MovingAverage
from learned_rl.rules.disco import losses
from learned_rl.rules.disco.evidence import Evidence
from learned_rl.rules.disco.meta_network import MetaNetwork, Targets
from learned_rl.rules.disco.predictions import Glance, Pair, Predictions, Taken, following, said_of_taken
from learned_rl.rules.disco.values import CategoricalValues, state_values, step_values
from learned_rl.types import ONE_PER_ACTION, Heads, Metrics, Params, Policy, Rollout, RuleState, Theta


class Averages(NamedTuple):
    """Of a life so far. That of the value errors is watched and used by nothing, as published."""

    advantage: MovingAverage
    q_error: MovingAverage


class DiscoState(NamedTuple):
    """What the rule remembers of a life.

    Attributes:
      target_params: slow average of the agent's parameters.
      averages: of advantages and value errors.
      lifetime: memory of the lifetime LSTM; never reset at episode ends.
      optimizer: its moments.
    """

    target_params: Params
    averages: Averages
    lifetime: LSTMState
    optimizer: RuleState


class Losses(NamedTuple):
    """Per step, before weights.

    Attributes:
      learned: KL to what the meta-network asks, by kind.
      value: cross-entropy to the Retrace target; carries no meta-gradient.
    """

    learned: losses.Divergences
    value: Float[Array, "T B"]


@dataclass(frozen=True)
class Disco:
    """The rule `disco`. theta: the meta-network (`MetaNetwork`), 754,778 numbers at the published sizes.

    The agent predicts, beside its policy pi and its action values q, vectors y(s) and z(s, a) that mean whatever the
    meta-network makes of them, and the policy of the next step, aux_pi(s, a). From a rollout, a slow copy of the agent
    and Retrace, the meta-network says what pi, y and z should have been; the agent minimises

        E[ KL(pi_hat || pi) + KL(y_hat || y) + KL(z_hat || z_a) + d KL(pi' || aux_pi_a) ] + value_cost E[ CE(Q, q_a) ]

    with all targets constant. Of the meta-network's inputs, only its readings of y and z are differentiable.
    Discrete actions of any number. Verified against the published implementation, number by number, see
    `tests/learned_rl/disco`.

    Departures. The published agent knows no time limits: an episode's end is a termination to it, and what follows
    an end is the next episode's first observation. Here `last` cuts traces and recurrences, only `discount = 0` stops
    the bootstrap, and after a time limit the state that followed is `next_obs`. After a termination it is the next
    episode's first observation, as published, but for a rollout's last step: that one is `next_obs`, for the next
    episode is not in the rollout. The published agent leaves the first step of every episode that began in a rollout
    out of its loss; here every step counts (`learn` takes weights, with which that can be had).

    Attributes:
      discount: of the Retrace targets.
      trace: lambda of the Retrace targets.
      decay: of the moving averages.
      target_decay: of the target network.
      learning_rate: 1e-2 as in the published evaluation on Catch; the published agent's default is 3e-4.
    """

    network: MetaNetwork = MetaNetwork()
    values: CategoricalValues = CategoricalValues()
    discount: float = 0.997
    trace: float = 0.95
    value_cost: float = 0.2
    decay: float = 0.99
    target_decay: float = 0.9
    learning_rate: float = 1e-2
    optimizer: InnerOptimizer = ElementClippedAdam()

    @property
    def heads(self) -> Heads:
        m = self.network.predictions
        return Heads(flat={"y": m}, per_action={"z": m, "q": self.values.bins, "aux_pi": ONE_PER_ACTION})

    def init(self, key: PRNGKeyArray) -> Theta:
        return self.network.init(key)

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        params = policy.init(key)
        averages = Averages(MovingAverage.start(), MovingAverage.start())
        return params, DiscoState(params, averages, self.network.birth(), self.optimizer.init(params))

    def update(
        self, theta: Theta, params: Params, state: RuleState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, RuleState, Metrics]:
        del key
        return self.learn(theta, params, state, rollout, policy, jnp.ones_like(rollout.reward))

    def learn(
        self,
        theta: Theta,
        params: Params,
        state: DiscoState,
        rollout: Rollout,
        policy: Policy,
        weight: Float[Array, "T B"],
    ) -> tuple[Params, DiscoState, Metrics]:
        """One update in which the loss of every step counts `weight`; all that is remembered counts every step."""
        # Readings are of all actions, but the loss of those taken: no derivatives of what is said of the others.
        taken, pull_back = jax.vjp(lambda p: said_of_taken(policy, p, rollout), params)
        now = Predictions.of(policy.unroll(params, rollout))
        agent = self.pair(theta, now, params, rollout, policy)
        before = Predictions.of(policy.unroll(state.target_params, rollout))
        target = self.pair(theta, before, state.target_params, rollout, policy)
        seen, averages = self.look(agent, target, rollout, state.averages)
        targets = self.network.targets(theta, state.lifetime, seen)

        def loss(taken: Taken) -> tuple[Float[Array, ""], Losses]:
            steps = self.losses(taken, targets, seen)
            return jnp.sum(weight * self.total(steps)) / (jnp.sum(weight) + 1e-8), steps

        of_outputs, steps = jax.grad(loss, has_aux=True)(taken)
        (gradient,) = pull_back(of_outputs)
        new_params, optimizer = self.optimizer.update(gradient, state.optimizer, params, self.learning_rate)
        # The parameters that acted, not the new ones: the target network lags by one more update.
        target_params = jax.tree.map(
            lambda old, p: self.target_decay * old + (1 - self.target_decay) * p, state.target_params, params
        )
        lifetime = self.network.live(theta, state.lifetime, seen, targets)
        return new_params, DiscoState(target_params, averages, lifetime, optimizer), self._metrics(seen, steps)

    def glance(self, theta: Theta, said: Predictions) -> Glance:
        """What the rule makes of what a network says of states."""
        return self.network.glance(theta, said, self.values.decode(jax.lax.stop_gradient(said.q)))

    def pair(self, theta: Theta, said: Predictions, params: Params, rollout: Rollout, policy: Policy) -> Pair:
        """Glances at the states acted in, of which the network of `params` said `said`, and at those that followed.

        What is wide is neither kept nor read twice: a state that follows one is most often itself acted in.
        """

        def look(said: Predictions) -> Glance:
            return self.glance(theta, said)

        now = look(said)
        return Pair(now, following(look, now, params, rollout, policy))

    def look(self, agent: Pair, target: Pair, rollout: Rollout, averages: Averages) -> tuple[Evidence, Averages]:
        """What the meta-network is shown, and the averages with this rollout in them: it is standardised by those."""
        now, then = (state_values(online.policy, online.q, slow.q) for online, slow in zip(agent, target, strict=True))
        steps = step_values(rollout, agent.now.policy, now, then, self.discount, self.trace)
        averages = Averages(
            averages.advantage.observe(steps.advantage, self.decay), averages.q_error.observe(steps.q_error, self.decay)
        )
        behaviour = agent.now.policy if rollout.behaviour == () else rollout.behaviour.logits
        standardise = averages.advantage.standardise
        seen = Evidence(
            rollout=rollout,
            behaviour=behaviour,
            agent=agent,
            target=target,
            values=(now, then),
            steps=steps,
            advantage=standardise(steps.advantage),
            action_advantage=standardise(now.action_advantage),
        )
        return seen, averages

    def losses(self, said: Taken, targets: Targets, seen: Evidence) -> Losses:
        """What `said` of the actions taken costs, targets being data."""
        next_policy = jax.lax.stop_gradient(seen.agent.then.policy)
        learned = losses.divergences(said, targets, next_policy, seen.rollout)
        return Losses(learned, losses.value_loss(said, seen.steps, self.values))

    def total(self, steps: Losses) -> Float[Array, "T B"]:
        """All terms, weighted."""
        return sum(steps.learned, jnp.zeros(())) + self.value_cost * steps.value

    def _metrics(self, seen: Evidence, steps: Losses) -> Metrics:
        log_pi = jax.nn.log_softmax(seen.agent.now.policy)
        return {
            "entropy": -jnp.mean(jnp.sum(jnp.exp(log_pi) * log_pi, axis=-1)),
            **{f"kl_{name}": jnp.mean(x) for name, x in steps.learned._asdict().items()},
            "value_loss": jnp.mean(steps.value),
            "q_target": jnp.mean(seen.steps.q_target),
        }
