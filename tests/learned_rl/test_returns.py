"""Against explicit O(T^2) sums, hand cases and identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl import returns

GAMMA, TRACE = 0.9, 0.7


def stream(seed, steps=12, endings=0.3):
    """Random numbers with both kinds of endings; values consistent within episodes."""
    rng = np.random.default_rng(seed)
    reward, value, after = rng.normal(size=(3, steps)).astype(np.float32)
    last = rng.random(steps) < endings
    discount = 1 - (last & (rng.random(steps) < 0.5)).astype(np.float32)
    next_value = np.where(last, after, np.append(value[1:], after[-1])).astype(np.float32)
    return reward, discount, last, value, next_value


def segment_end(last, t):
    """The step with which the trace from `t` is cut."""
    return next((k for k in range(t, len(last)) if last[k]), len(last) - 1)


def n_step(t, n, reward, discount, next_value):
    total, weight = 0.0, 1.0
    for k in range(t, t + n):
        total += weight * reward[k]
        weight *= GAMMA * discount[k]
    return total + weight * next_value[t + n - 1]


@pytest.mark.parametrize("seed", range(5))
def test_advantages_are_the_explicit_sum_of_errors(seed):
    reward, discount, last, value, next_value = stream(seed)
    delta = reward + GAMMA * discount * next_value - value
    expected = [
        sum((GAMMA * TRACE) ** (k - t) * delta[k] for k in range(t, segment_end(last, t) + 1)) for t in range(len(last))
    ]
    found = returns.advantages(reward, discount, last, (value, next_value), GAMMA, TRACE)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_lambda_returns_are_the_mixture_of_n_step_returns(seed):
    reward, discount, last, _, next_value = stream(seed)
    expected = []
    for t in range(len(last)):
        longest = segment_end(last, t) - t + 1
        g = [n_step(t, n, reward, discount, next_value) for n in range(1, longest + 1)]
        weights = [(1 - TRACE) * TRACE ** (n - 1) for n in range(1, longest)] + [TRACE ** (longest - 1)]
        expected.append(np.dot(weights, g))
    found = returns.lambda_returns(reward, discount, jnp.asarray(last), next_value, GAMMA, TRACE)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_vtrace_is_the_explicit_sum(seed):
    reward, discount, last, value, next_value = stream(seed)
    log_ratio = np.random.default_rng(seed + 100).normal(size=len(last)).astype(np.float32)
    rho = np.minimum(1.0, np.exp(log_ratio))
    delta = rho * (reward + GAMMA * discount * next_value - value)
    target = [
        value[t]
        + sum(
            np.prod(GAMMA * TRACE * rho[t:k]) * delta[k]  # c_t ... c_{k-1}
            for k in range(t, segment_end(last, t) + 1)
        )
        for t in range(len(last))
    ]
    following = [next_value[t] if segment_end(last, t) == t else target[t + 1] for t in range(len(last))]
    advantage = rho * (reward + GAMMA * discount * np.array(following) - value)
    data = (reward, discount, jnp.asarray(last))
    found = returns.vtrace(data, (value, next_value), log_ratio, GAMMA, TRACE)
    np.testing.assert_allclose(found.targets, target, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.advantage, advantage, rtol=1e-4, atol=1e-5)


def test_no_trace_is_one_step_and_full_trace_is_monte_carlo():
    reward, discount, last, value, next_value = stream(7)
    one_step = reward + GAMMA * discount * next_value
    for trace, expected in ((0.0, one_step), (1.0, None)):
        if expected is None:
            expected = [n_step(t, segment_end(last, t) - t + 1, reward, discount, next_value) for t in range(len(last))]
        targets = returns.lambda_returns(reward, discount, jnp.asarray(last), next_value, GAMMA, trace)
        advantage = returns.advantages(reward, discount, last, (value, next_value), GAMMA, trace)
        np.testing.assert_allclose(targets, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(advantage + value, expected, rtol=1e-4, atol=1e-5)


def test_on_policy_vtrace_is_the_lambda_return_and_so_is_gae_plus_value():
    reward, discount, last, value, next_value = stream(3)
    last = jnp.asarray(last)
    targets = returns.lambda_returns(reward, discount, last, next_value, GAMMA, TRACE)
    on_policy = returns.vtrace((reward, discount, last), (value, next_value), jnp.zeros(len(last)), GAMMA, TRACE)
    gae = returns.advantages(reward, discount, last, (value, next_value), GAMMA, TRACE)
    np.testing.assert_allclose(on_policy.targets, targets, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gae + value, targets, rtol=1e-4, atol=1e-5)


def test_vtrace_forgets_a_stream_that_the_policy_would_never_have_taken():
    reward, discount, last, value, next_value = stream(4)
    never = jnp.full(len(last), -60.0)
    found = returns.vtrace((reward, discount, jnp.asarray(last)), (value, next_value), never, GAMMA)
    np.testing.assert_allclose(found.targets, value, atol=1e-6)
    np.testing.assert_allclose(found.advantage, 0, atol=1e-6)


@pytest.mark.parametrize(("terminated", "expected"), [(True, 1.0), (False, 1.0 + 0.9 * 10.0)])
def test_a_time_limit_bootstraps_and_a_termination_does_not(terminated, expected):
    # Step 0 ends an episode; step 1 belongs to another one, whose riches must not reach back.
    reward = jnp.array([1.0, 1000.0])
    discount = jnp.array([0.0 if terminated else 1.0, 1.0])
    last = jnp.array([True, False])
    next_value = jnp.array([10.0, 500.0])
    value = jnp.array([0.0, 0.0])
    assert returns.lambda_returns(reward, discount, last, next_value, 0.9, 0.8)[0] == pytest.approx(expected)
    assert returns.advantages(reward, discount, last, (value, next_value), 0.9, 0.8)[0] == pytest.approx(expected)
    on_policy = returns.vtrace((reward, discount, last), (value, next_value), jnp.zeros(2), 0.9)
    assert on_policy.targets[0] == pytest.approx(expected)
    assert on_policy.advantage[0] == pytest.approx(expected)


def test_written_for_one_stream_and_vmapped_over_many():
    streams = [stream(s) for s in range(3)]
    reward, discount, last, value, next_value = (np.stack(x, axis=1) for x in zip(*streams, strict=True))

    def one(reward, discount, last, value, next_value):
        return returns.advantages(reward, discount, last, (value, next_value), GAMMA, TRACE)

    many = jax.vmap(one, in_axes=1, out_axes=1)(reward, discount, last, value, next_value)
    for i, s in enumerate(streams):
        np.testing.assert_allclose(many[:, i], one(*s), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_retrace_is_the_explicit_sum_of_corrected_errors(seed):
    """Munos et al. 2016, eq. 4: Q + sum_k gamma^k (prod c) delta, over the steps of one episode."""
    reward, discount, last, _, next_value = stream(seed)
    rng = np.random.default_rng(100 + seed)
    q, log_ratio = rng.normal(size=(2, len(last)))
    c = TRACE * np.minimum(1, np.exp(log_ratio))
    delta = reward + GAMMA * discount * next_value - q
    expected = [
        q[t] + sum(GAMMA ** (k - t) * np.prod(c[t + 1 : k + 1]) * delta[k] for k in range(t, segment_end(last, t) + 1))
        for t in range(len(last))
    ]
    steps = (reward, discount, jnp.asarray(last))
    found = returns.retrace(steps, next_value, jnp.asarray(q), jnp.asarray(log_ratio), GAMMA, TRACE)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
