"""Learned questions: their answers against explicit sums, and the way of the meta-gradient through the shared body."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Sgd
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.auxiliary import Auxiliary
from learned_rl.rules.coefficients import Coefficients
from learned_rl.types import Discrete
from tests.probes import SMALL, jitter, made, noisy

KEY = jax.random.key(5)
SHARED = Network(MLP((8,)), separate=False)
PLAIN = ActorCritic(Coefficients(learning_rate=0.1), Sgd())
RULE = Auxiliary(PLAIN, questions=2, hidden=3, observation=2, trace=0.8, answer_rate=0.3, answer_optimizer=Sgd())


def test_right_answers_are_the_explicit_sum():
    """Backwards one step at a time in numpy, with terminations and time limits apart."""
    policy, params, rollout = made(SHARED, Discrete(3), RULE.heads)
    theta = noisy(RULE.init, KEY, 0.5)

    @jax.jit
    def ours():
        asked = RULE.asked(theta, rollout)
        following = policy.unroll_next(params, rollout).flat["answers"]
        return asked, following, RULE.right_answers(asked, rollout, following)

    (u, gamma), y, found = (jax.tree.map(np.asarray, x) for x in ours())
    alive, last = np.asarray(rollout.discount), np.asarray(rollout.last)
    assert (last & (alive == 1)).any()
    assert (last & (alive == 0)).any()
    expected = np.zeros_like(u)
    steps, streams, questions = u.shape
    for b in range(streams):
        for i in range(questions):
            for t in reversed(range(steps)):
                ahead = y[t, b, i]
                if t + 1 < steps and not last[t, b]:
                    ahead = 0.2 * ahead + 0.8 * expected[t + 1, b, i]
                expected[t, b, i] = u[t, b, i] + gamma[t, b, i] * alive[t, b] * ahead
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.all(np.abs(u) < 1)
    assert np.all((gamma > 0) & (gamma < 1))


def test_questions_are_about_what_a_step_led_to():
    _, _, rollout = made(SHARED, Discrete(3), RULE.heads)
    theta = noisy(RULE.init, KEY, 0.5)
    asked = jax.jit(lambda rollout: RULE.asked(theta, rollout))
    before = asked(rollout)
    jax.tree.map(np.testing.assert_array_equal, before, asked(rollout._replace(obs=rollout.obs + 1)))
    later = asked(rollout._replace(next_obs=rollout.next_obs + 1))
    assert all(np.any(a != b) for a, b in zip(before, later, strict=True))


def judged_after_an_update(network):
    """theta, a direction, and a function of how far to go: what the policy of the agent is worth after one update."""
    policy, params, first = made(network, Discrete(3), RULE.heads, seed=0)
    _, _, validation = made(network, Discrete(3), RULE.heads, seed=1)
    theta = noisy(RULE.init, KEY, 0.5)
    direction = jitter(jax.tree.map(jnp.zeros_like, theta), jax.random.key(2), 1.0)
    params, first, validation, theta, direction = jax.tree.map(
        lambda x: jnp.asarray(np.asarray(x), jnp.float64) if x.dtype == jnp.float32 else jnp.asarray(x),
        (params, first, validation, theta, direction),
    )

    def judged(distance):
        moved = jax.tree.map(lambda x, d: x + distance * d, theta, direction)
        _, state = RULE.birth(moved, policy, KEY)
        agent, _, _ = RULE.update(moved, params, state, first, policy, KEY)
        log_prob = policy.unroll(agent, validation).policy.log_prob(validation.action)
        return -jnp.mean(validation.reward * log_prob)

    return jax.jit(jax.value_and_grad(judged))


def test_the_meta_gradient_reaches_questions_through_a_shared_body():
    with jax.enable_x64(True):
        judged = judged_after_an_update(SHARED)
        exact = float(judged(jnp.float64(0.0))[1])
        step = 1e-5
        difference = float(judged(jnp.float64(step))[0] - judged(jnp.float64(-step))[0]) / (2 * step)
        assert abs(difference) > 1e-5
        assert exact == pytest.approx(difference, rel=1e-5)
        # With a body of their own, answers do not touch the policy within an update.
        assert float(judged_after_an_update(SMALL)(jnp.float64(0.0))[1]) == 0.0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="questions=0 must be at least 1"):
        Auxiliary(questions=0)
    with pytest.raises(ValueError, match="already has a head `answers`"):
        Auxiliary(Auxiliary())
