"""Learned schedules and straight lines: what they say, and what they see."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.anneal import Anneal
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift
from learned_rl.rules.lpg import LPG
from learned_rl.rules.schedule import FAST, SLOW, USUAL_KL, Rewards, Schedule, Statistics
from learned_rl.types import Discrete
from tests.learned_rl.test_rules import KEY, VALUE, C, assert_trees_close, update
from tests.probes import SMALL, jitter, made, noisy


@pytest.mark.parametrize("base", [ActorCritic(C), Drift(coefficients=C, epochs=2, minibatches=2)], ids=["a2c", "ppo"])
def test_an_untrained_schedule_is_its_base(base):
    policy, params, rollout = made(SMALL, Discrete(3), VALUE)
    rule = Schedule(base)
    theta = rule.init(jax.random.key(3))
    told = rule.coefficients_at(theta, jnp.float32(0.4), _statistics())
    for field in dataclasses.fields(C):
        assert np.float32(getattr(told, field.name)) == np.float32(getattr(C, field.name)), field.name
    found, _, metrics = update(rule, theta, params, rollout, policy)
    expected, _, _ = update(base, (), params, rollout, policy)
    # Not to the bit: a product of two coefficients is rounded once more where they are arrays.
    assert_trees_close(found, expected, rtol=1e-5, atol=1e-7)
    assert metrics["schedule_trace"] == np.float32(0.7)


def test_scheduled_coefficients_stay_in_range():
    rule = Schedule(ActorCritic(Coefficients()))

    @jax.jit
    @jax.vmap
    def tell(key):
        return rule.coefficients_at(jitter(rule.init(key), key, 20.0), jnp.float32(0.4), _statistics())

    told = tell(jax.random.split(jax.random.key(0), 200))
    for name in ("discount", "trace"):
        assert getattr(told, name).min() >= 0
        assert getattr(told, name).max() <= 1
    assert told.discount.max() - told.discount.min() > 0.3
    for name in ("learning_rate", "entropy", "clip"):
        factor = np.asarray(getattr(told, name)) / getattr(Coefficients(), name)
        assert np.exp(-4.001) <= factor.min() < 0.1
        assert 10 < factor.max() <= np.exp(4.001)
    assert np.all(np.asarray(told.value_cost) == 0.5)


def test_only_the_learned_coefficients_move():
    rule = Schedule(ActorCritic(C), learned=("entropy",))
    told = rule.coefficients_at(noisy(rule.init, KEY), jnp.float32(0.4), _statistics())
    assert dataclasses.replace(told, entropy=C.entropy) == C
    assert told.entropy != C.entropy
    with pytest.raises(ValueError, match="'gamma' is not a coefficient"):
        Schedule(learned=("gamma",))
    with pytest.raises(ValueError, match="a LPG has no coefficients"):
        Schedule(base=LPG())  # pyright: ignore[reportArgumentType]


def test_averages_of_rewards_are_weighted_means():
    rollouts = np.random.default_rng(0).normal(0.3, 1.0, (6, 5, 2)) + np.arange(6)[:, None, None] ** 2 / 20
    mean, rewards, changes = rollouts.mean(axis=(1, 2)), Rewards(*[jnp.zeros(())] * 5), []
    ratio = np.tanh(3 * mean / rollouts.std(axis=(1, 2)))
    for i in range(6):
        weights = {decay: decay ** np.arange(i, -1, -1.0) for decay in (FAST, SLOW)}
        fast, slow = (np.average(mean[: i + 1], weights=weights[decay]) for decay in (FAST, SLOW))
        changes.append(abs(mean[i] - slow))
        change = np.average(changes, weights=weights[SLOW])
        rewards = rewards.observe(jnp.asarray(rollouts[i], jnp.float32))
        better = np.tanh((fast - slow) / (3 * change)) if i else 0.0  # of the first one nothing is known
        assert rewards.improvement == pytest.approx(better, abs=1e-4 if i else 0.02)  # rounding over ROUNDING
        assert rewards.signal == pytest.approx(np.average(ratio[: i + 1], weights=weights[FAST]), abs=1e-4)


@pytest.mark.parametrize(("reward", "signal"), [(0.0, 0.0), (1.0, 1.0), (-1e-3, -1.0), (1e4, 1.0)])
def test_a_reward_that_never_changes_never_improves(reward, signal):
    rewards = Rewards(*[jnp.zeros(())] * 5)
    for _ in range(40):
        rewards = jax.jit(Rewards.observe)(rewards, jnp.full((5, 2), reward))
        assert rewards.improvement == pytest.approx(0.0, abs=0.05)
        assert rewards.signal == pytest.approx(signal, abs=1e-3)


def test_what_a_schedule_sees_is_what_the_last_update_did():
    policy, params, rollout = made(SMALL, Discrete(3), VALUE)
    rule = Schedule(ActorCritic(C), hidden=2)
    theta = rule.init(KEY)

    @jax.jit
    def run():
        _, state = rule.birth(theta, policy, KEY)
        new, after, _ = rule.update(theta, params, state, rollout, policy, KEY)
        said = [policy.unroll(p, rollout).policy for p in (params, new)]
        return state.seen, after.seen, [x.log_prob(jnp.full(rollout.reward.shape, a)) for x in said for a in range(3)]

    born, seen, logs = run()
    assert born == Statistics(0.0, np.float32(USUAL_KL), 0.0, 0.0)
    before, after = np.asarray(logs[:3], np.float64), np.asarray(logs[3:], np.float64)
    assert seen.kl == pytest.approx(np.sum(np.exp(before) * (before - after), axis=0).mean(), rel=1e-3)
    assert seen.entropy == pytest.approx(-np.sum(np.exp(after) * after, axis=0).mean(), rel=1e-4)


def test_no_gradient_flows_through_what_is_seen():
    policy, params, rollout = made(SMALL, Discrete(3), VALUE)
    rule = Schedule(ActorCritic(C), hidden=2)
    theta = rule.init(KEY)

    def after(theta):
        new, state, _ = rule.update(theta, params, rule.birth(theta, policy, KEY)[1], rollout, policy, KEY)
        return sum(state.seen), optax.tree.norm(new)

    through_seen, through_agent = jax.jit(jax.jacrev(after))(theta)
    assert not np.any(through_seen["schedule"]["offset"])
    assert np.any(through_agent["schedule"]["offset"])


def test_inputs_are_as_declared():
    rule = Schedule(ActorCritic(C), hidden=1, learned=("entropy",), reach=1e9)
    seen = Statistics(*map(jnp.float32, (0.3, 0.1, -0.2, 0.4)))
    declared = [0.09, np.log(0.1) / np.log(0.01), 0.3, 0.5, -0.2, 0.4]
    for i, x in enumerate(declared):
        net = {"inward": jnp.zeros((6, 1)).at[i].set(1.0), "bias": jnp.zeros(1)}
        net |= {"outward": jnp.ones((1, 1)), "offset": jnp.zeros(1)}
        told = rule.coefficients_at({"schedule": net}, jnp.float32(0.09), seen)
        assert float(told.entropy) == pytest.approx(0.05 * np.exp(np.tanh(x)), rel=1e-4), i


def test_an_anneal_is_its_base_with_less():
    policy, params, rollout = made(SMALL, Discrete(3), VALUE)  # a quarter of the lifetime is over
    less = dataclasses.replace(C, learning_rate=0.85 * C.learning_rate, entropy=0.85 * C.entropy)
    found, _, _ = update(Anneal(ActorCritic(C), final=0.4), (), params, rollout, policy)
    expected, _, _ = update(ActorCritic(less), (), params, rollout, policy)
    assert_trees_close(found, expected, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="annealed: 'gamma' is not a coefficient"):
        Anneal(annealed=("gamma",))


def test_a_schedule_sees_whether_rewards_improve_in_no_unit():
    policy, params, rollout = made(SMALL, Discrete(3), VALUE)
    rule = Schedule(ActorCritic(C))
    theta = rule.init(KEY)
    live = jax.jit(
        lambda state, reward: rule.update(theta, params, state, rollout._replace(reward=reward), policy, KEY)[1]
    )
    seen = {}
    for scale in (1.0, 100.0):
        state = jax.jit(lambda: rule.birth(theta, policy, KEY)[1])()
        for i in range(30):
            state = live(state, jnp.full_like(rollout.reward, scale * i))
        seen[scale] = float(state.seen.improvement)
        for i in range(30, 0, -1):
            state = live(state, jnp.full_like(rollout.reward, scale * i))
        assert state.seen.improvement < 0 < seen[scale]
        assert 0 < state.seen.kl < 1
    assert seen[1.0] == pytest.approx(seen[100.0], rel=0.02)


def _statistics():
    return Statistics(*(jnp.float32(x) for x in (0.5, 0.02, -0.3, 0.1)))
