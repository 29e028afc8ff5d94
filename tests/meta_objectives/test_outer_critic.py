"""A decision between little now and more later: what a critic of the inner discount makes of it (Bonnet 2022)."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.rules.none import NoLearning
from learned_rl.types import Discrete, TimeStep
from meta_objectives.outer_critic import Critic, OuterCritic
from meta_objectives.problem import History
from meta_objectives.validation import PolicyGradientSurrogate, ValidationReturn

KEY = jax.random.key(0)
LENGTH, SOON, LATE = 6, 0.5, 1.0
MYOPIC, FAR = 0.8, 1.0  # 0.8^5 LATE < SOON < LATE


@dataclass(frozen=True)
class Tempted:
    """Action 1 pays SOON at once, action 0 pays LATE at the end of the episode. One-hot: time, and what was chosen."""

    name = "Tempted"
    actions = Discrete(2)
    obs_shape = (2 * LENGTH + 1,)

    def draw(self, key):
        return ()

    def reset(self, task, key):
        state = (jnp.zeros((), jnp.int32), jnp.zeros((), bool))
        return state, self.observe(state)

    def step(self, task, state, action, key):
        time, patient = state
        patient = jnp.where(time == 0, action == 0, patient)
        early = jnp.where((time == 0) & ~patient, SOON, 0.0)
        late = jnp.where((time == LENGTH - 1) & patient, LATE, 0.0)
        last = time == LENGTH - 1
        following = (time + 1, patient)
        step = TimeStep(early + late, 1.0 - last, last, self.observe(following))
        return following, step

    def observe(self, state):
        time, patient = state
        return jax.nn.one_hot(2 * time + jnp.where(time == 0, 0, patient), 2 * LENGTH + 1)


LINEAR = Network(MLP(()), separate=False)  # one weight per state
LIFETIME = Lifetime(Tempted(), NoLearning(), LINEAR, streams=64, steps=LENGTH)


def values(gamma):
    """V of every state under the uniform policy."""
    after = {2 * t + 1: gamma ** (LENGTH - 1 - t) * LATE for t in range(1, LENGTH)}
    start = 0.5 * SOON + 0.5 * gamma ** (LENGTH - 1) * LATE
    return np.array([start, *(after.get(i, 0.0) for i in range(1, 2 * LENGTH + 1))], np.float32)


@functools.cache
def born():
    return jax.jit(lambda: OuterCritic(LINEAR).start(LIFETIME, KEY))()


def exact(gamma):
    """The critic that knows V of the uniform policy at discount `gamma`."""
    state = born()
    params = state.params | {"value": {"kernel": jnp.asarray(values(gamma))[:, None], "bias": jnp.zeros(1)}}
    return Critic(params, state.moments)


@functools.cache
def acted():
    """An agent whose policy is uniform, and what it does."""

    @jax.jit
    def act(key):
        agent = LIFETIME.start((), key)
        agent = agent._replace(params=jax.tree.map(jnp.zeros_like, agent.params))
        return agent, LIFETIME.act(agent, key)[1]

    return act(KEY)


def advantage_of_patience(critic, state):
    """A'(start, wait) - A'(start, take), over a rollout of the uniform policy."""
    _, rollout = acted()
    advantage = critic.advantage(LIFETIME, state, rollout)[0][0]
    patient = rollout.action[0] == 0
    return float(advantage[patient].mean() - advantage[~patient].mean())


@pytest.mark.parametrize("trace", [0.0, 0.7, 1.0])
def test_the_advantage_is_that_of_the_outer_discount(trace):
    critic = OuterCritic(LINEAR, FAR, trace)
    assert advantage_of_patience(critic, exact(FAR)) == pytest.approx(LATE - SOON, abs=1e-5)


def test_a_critic_of_the_inner_discount_is_biased_by_what_it_undervalues():
    # The return discounted by the outer factor, bootstrapped from the inner critic: one step, as in their experiment.
    critic = OuterCritic(LINEAR, FAR, trace=0.0)
    found = advantage_of_patience(critic, exact(MYOPIC))
    assert found == pytest.approx(FAR * MYOPIC ** (LENGTH - 2) * LATE - SOON, abs=1e-5)
    assert found < 0 < LATE - SOON  # it prefers what pays soon
    # Longer traces lean less on it, and the inner advantage itself leans on nothing else.
    longer = OuterCritic(LINEAR, FAR, trace=0.9)
    assert found < advantage_of_patience(longer, exact(MYOPIC)) < LATE - SOON
    inner = OuterCritic(LINEAR, MYOPIC, trace=1.0)
    assert advantage_of_patience(inner, exact(MYOPIC)) == pytest.approx(MYOPIC**5 * LATE - SOON, abs=1e-5)


def test_it_learns_the_values_of_the_outer_discount():
    critic, agent = OuterCritic(LINEAR, FAR, trace=0.5, learning_rate=0.05, epochs=20), acted()[0]

    @jax.jit
    def trained(key):
        def turn(state, key):
            _, rollout = LIFETIME.act(agent, key)
            _, target = critic.advantage(LIFETIME, state, rollout)
            return critic.train(LIFETIME, state, rollout, target)

        return jax.lax.scan(turn, critic.start(LIFETIME, KEY), jax.random.split(key, 40))

    state, errors = trained(KEY)
    learned = np.asarray(state.params["value"]["kernel"][:, 0] + state.params["value"]["bias"])
    visited = [0, *range(3, 2 * LENGTH)]
    np.testing.assert_allclose(learned[visited], values(FAR)[visited], atol=0.1)
    assert errors[-1] < 0.1 * errors[0]


@pytest.mark.parametrize("kind", [PolicyGradientSurrogate, ValidationReturn])
def test_meta_gradients_follow_the_critic_that_they_are_given(kind):
    """How a discount that the rule uses would move: the agent's patience is theta, as a logit."""
    critic = OuterCritic(LINEAR, FAR, trace=0.0)
    objective, (agent, rollout) = kind(critic), acted()
    history = History(rollout, {})

    def loss(theta, state):
        bias = agent.params["policy"]["bias"] + jnp.array([1.0, 0.0]) * theta
        patient = agent._replace(params=agent.params | {"policy": agent.params["policy"] | {"bias": bias}})
        return objective.judge(LIFETIME, (), patient, history, state, KEY)[0].loss

    gradient = jax.jit(jax.grad(loss))
    assert gradient(0.0, exact(FAR)) < -1e-3  # towards patience
    assert gradient(0.0, exact(MYOPIC)) > 1e-3  # away from it


def test_a_validation_return_is_the_reward_and_its_gradient_the_policy_gradient():
    critic = OuterCritic(LINEAR, FAR, trace=1.0)
    objective, state, (agent, rollout) = ValidationReturn(critic, scale=2.0), exact(FAR), acted()
    history = History(rollout, {})

    def loss(logits):
        params = agent.params | {"policy": agent.params["policy"] | {"bias": logits}}
        return objective.judge(LIFETIME, (), agent._replace(params=params), history, state, KEY)[0].loss

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.zeros(2))
    assert value == pytest.approx(-float(jnp.mean(rollout.reward)) / 2, rel=1e-5)
    advantage, _ = critic.advantage(LIFETIME, state, rollout)
    scores = jax.nn.one_hot(rollout.action, 2) - 0.5
    expected = -jnp.mean(advantage[..., None] * scores, axis=(0, 1)) / 2
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_settings_out_of_range_are_refused():
    for settings in ({"discount": 1.1}, {"trace": -0.1}, {"epochs": 0}, {"learning_rate": 0.0}):
        with pytest.raises(ValueError, match=r"is in \[0, 1\]|must be >= 1 and"):
            OuterCritic(**settings)
