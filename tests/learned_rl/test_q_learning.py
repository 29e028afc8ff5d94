"""Q-learning against dynamic programming on a table of which everything is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Sgd
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.q_learning import ClippedError, Future, QLearning, RegularisedError, SquaredError
from learned_rl.types import Discrete, Rollout
from tests.probes import SMALL, MatchCue

GAMMA, STATES, ACTIONS = 0.8, 3, 2
# Four equally likely outcomes of every state and action: (reward, next state, terminated). The last action of the last
# state may end the task; that of the first is cut by a time limit, which is no end.
OUTCOMES = {
    (0, 0): [(0.0, 1, False)] * 4,
    (0, 1): [(1.0, 0, False), (-1.0, 2, False), (0.5, 0, False), (0.5, 1, False)],
    (1, 0): [(0.2, 2, False)] * 3 + [(2.0, 0, False)],
    (1, 1): [(-0.5, 1, False), (0.0, 1, False), (0.0, 0, False), (0.0, 2, False)],
    (2, 0): [(0.4, 0, False), (0.4, 1, False), (0.4, 2, False), (0.4, 2, False)],
    (2, 1): [(3.0, 0, True), (0.0, 0, True), (0.0, 2, False), (0.0, 2, False)],
}
TABLE = Network(MLP(()))
BASE = QLearning(
    coefficients=Coefficients(learning_rate=0.5, discount=GAMMA), optimizer=Sgd(), epochs=4, target_decay=0.5
)


def every_outcome(progress):
    """All of `OUTCOMES`, once each, as one step of as many streams."""
    rows = [(s, a, *outcome) for (s, a), outcomes in OUTCOMES.items() for outcome in outcomes]
    state, action, reward, following, terminated = (jnp.array(x)[None] for x in zip(*rows, strict=True))
    limit = (state == 0) & (action == 1)
    zeros = jnp.zeros(action.shape)
    return Rollout(
        obs=jax.nn.one_hot(state, STATES),
        action=action,
        reward=reward,
        discount=1.0 - terminated,
        last=terminated | limit,
        next_obs=jax.nn.one_hot(following, STATES),
        behaviour_log_prob=zeros,
        progress=jnp.float32(progress),
    )


def value_iteration(bonus):
    """Q* with `bonus` added to every reward."""
    q = np.zeros((STATES, ACTIONS))
    for _ in range(300):
        best = q.max(axis=1)
        for (s, a), outcomes in OUTCOMES.items():
            q[s, a] = np.mean([r + bonus + (0.0 if end else GAMMA * best[to]) for r, to, end in outcomes])
    return q


def learned(rule, progress=1.0, updates=400):
    """`(Q, pi)` of every state after many updates on every outcome."""
    policy = TABLE.build((STATES,), Discrete(ACTIONS), rule.heads)

    @jax.jit
    def run(key):
        rollout = every_outcome(progress)
        params, state = rule.birth((), policy, key)

        def update(carry, _):
            return rule.update((), *carry, rollout, policy, key)[:2], ()

        (params, _), _ = jax.lax.scan(update, (params, state), length=updates)
        _, outputs = policy.act(params, (), jnp.eye(STATES), jnp.zeros(STATES, bool))
        return outputs.per_action["q"][..., 0], jax.nn.softmax(outputs.policy.logits)

    return map(np.asarray, run(jax.random.key(0)))


def test_the_fixed_point_is_that_of_dynamic_programming_and_the_policy_is_greedy_in_it():
    q, pi = learned(BASE)
    expected = value_iteration(0.0)
    np.testing.assert_allclose(q, expected, atol=1e-3)
    greedy = np.eye(ACTIONS)[expected.argmax(axis=1)]
    np.testing.assert_allclose(pi, 0.98 * greedy + 0.01, atol=0.01)


def test_the_regulariser_takes_half_its_weight_from_every_reward():
    q, _ = learned(dataclasses.replace(BASE, loss=RegularisedError(0.1)))
    np.testing.assert_allclose(q, value_iteration(-0.05), atol=1e-3)
    assert np.all(value_iteration(-0.05) < value_iteration(0.0) - 0.05)


@pytest.mark.parametrize(("progress", "epsilon"), [(0.0, 1.0), (0.25, 0.5), (0.9, 0.02)])
def test_exploration_falls_over_the_first_half_of_a_life(progress, epsilon):
    q = jnp.array([0.0, 3.0, 1.0]).reshape(1, 1, 3, 1)
    found = BASE._explore(q, every_outcome(progress))[0, 0]
    np.testing.assert_allclose(found, np.array([0.0, 1.0, 0.0]) * (1 - epsilon) + epsilon / 3, atol=1e-6)


def test_the_losses_are_the_published_ones():
    q, target, best = (x.ravel() for x in np.meshgrid(*[np.linspace(-2, 2, 9) + 0.01 * i for i in range(3)]))
    discount = np.where(np.arange(q.size) % 3, 0.9, 0.0)
    future = Future(*map(jnp.asarray, (target, best, discount)))
    delta = q - target
    clipped = np.maximum(q, delta**2 + target) + np.maximum(q - target, discount * best**2)
    for loss, expected in (
        (SquaredError(), delta**2),
        (RegularisedError(), 0.1 * q + delta**2),
        (ClippedError(), clipped),
    ):
        np.testing.assert_allclose(loss(jnp.asarray(q), future), expected, rtol=1e-5, atol=1e-5)
    slope = jax.vmap(jax.grad(ClippedError()))(jnp.asarray(q), future)
    expected = np.where((delta < 0) | (delta > 1), 2 * delta, 1.0) + (delta > discount * best**2)
    sure = (np.abs(delta) > 1e-3) & (np.abs(delta - 1) > 1e-3) & (np.abs(delta - discount * best**2) > 1e-3)
    np.testing.assert_allclose(slope[sure], expected[sure], rtol=1e-4, atol=1e-4)


def test_settings_that_make_no_sense_are_refused():
    for settings, message in [({"explore_least": 1.5}, "explore_least is in"), ({"epochs": 0}, "epochs must be")]:
        with pytest.raises(ValueError, match=message):
            QLearning(**settings)


def test_an_agent_that_explores_by_itself_learns_what_to_do():
    rule = QLearning(RegularisedError(), Coefficients(learning_rate=0.02, discount=GAMMA))
    lifetime = Lifetime(MatchCue(2), rule, SMALL, streams=16, steps=8, updates=200)

    @jax.jit
    def life(key):
        agent = lifetime.start((), key)
        keys = jax.random.split(key, lifetime.updates)
        agent, _ = jax.lax.scan(lambda agent, k: (lifetime.live((), agent, k)[0], ()), agent, keys)
        return lifetime.act(agent, key)[1].reward

    assert life(jax.random.key(0)).mean() > 0.93
