"""Intrinsic rewards: what they read and when, what they pay, and the meta-gradient that goes through it."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.layers import mlp
from learned_rl.lifetime import Lifetime, mean_return
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Sgd
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift
from learned_rl.rules.intrinsic.bonus import CountBonus, RandomDistillation
from learned_rl.rules.intrinsic.history import happened
from learned_rl.rules.intrinsic.learned import LifetimeReward, StateActionReward
from learned_rl.rules.intrinsic.reward import IntrinsicReward, bucket
from learned_rl.rules.intrinsic.rule import Intrinsic
from learned_rl.rules.lpg import LPG
from learned_rl.rules.schedule import Schedule
from learned_rl.types import Discrete
from meta_objectives.outer_critic import OuterCritic
from meta_objectives.problem import MetaProblem
from meta_objectives.validation import PolicyGradientSurrogate
from runs.learners import GradientDescent
from tests.probes import SMALL, MatchCue, jitter, made
from truncation import TruncatedBackprop

KEY = jax.random.key(0)
LIFETIME, STEP = LifetimeReward(5, 2, 2), StateActionReward(5, 2, 2)
LEARNED = {"lifetime": LIFETIME, "state and action": STEP}
DESIGNED = {"counts": CountBonus(512, resolution=2.0), "rnd": RandomDistillation(6, 4, 2, 0.01)}


@functools.cache
def seen():
    """A policy of two actions, its parameters, and a rollout `[6, 4]` with endings of both kinds."""
    return made(SMALL, Discrete(2), ActorCritic().heads)


@functools.cache
def grown(reward):
    """Parameters of a reward that is no longer zero, and the memory of a newborn."""
    theta = jitter(reward.init(KEY), KEY, 0.3)
    return theta, reward.start(theta, seen()[0], KEY)


@functools.cache
def pay(reward):
    """The reward as one compiled program: (theta, memory, rollout)."""
    return jax.jit(reward.pay)


def updated(rule, theta, rollout):
    """A newborn agent's update, compiled: `(its state before, what the update returns)`."""
    policy, params, _ = seen()

    @jax.jit
    def program(theta, params, rollout):
        state = rule.birth(theta, policy, KEY)[1]
        return state, rule.update(theta, params, state, rollout, policy, KEY)

    return program(theta, params, rollout)


def shapes(rule):
    """As `updated`, without running anything."""
    rollout = seen()[2]  # made here, not inside the trace, whichever test comes first
    return jax.eval_shape(lambda key: updated(rule, rule.init(key), rollout), KEY)


def cut(rollout, start, stop):
    """Some steps of a rollout of agents without a memory."""
    return per_step(lambda x: x[start:stop], rollout)


def streams(rollout, chosen):
    """Some streams of a rollout of agents without a memory."""
    return per_step(lambda x: x[:, chosen], rollout)


def per_step(function, rollout):
    steps = jax.tree.map(function, rollout._replace(progress=(), lifetime=()))
    return steps._replace(progress=rollout.progress, lifetime=rollout.lifetime)


@pytest.mark.parametrize("reward", {**LEARNED, **DESIGNED}.values())
def test_a_reward_has_one_value_a_step_and_does_not_know_which_stream_is_which(reward):
    _, _, rollout = seen()
    theta, memory = grown(reward)
    assert isinstance(reward, IntrinsicReward)
    paid, after = pay(reward)(theta, memory, rollout)
    assert paid.shape == rollout.reward.shape
    assert len(np.unique(np.asarray(paid))) > 1
    order = jnp.array([2, 0, 3, 1])
    other, still = pay(reward)(theta, memory, streams(rollout, order))
    np.testing.assert_allclose(other, paid[:, order], rtol=1e-4, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), still, after)


@pytest.mark.parametrize("reward", [LIFETIME, DESIGNED["counts"]])
def test_a_life_that_is_read_in_parts_is_the_life_that_was_read_at_once(reward):
    """So the memory goes on over updates, and over ends of episodes, which there are in both parts."""
    _, _, rollout = seen()
    theta, memory = grown(reward)
    whole, after = pay(reward)(theta, memory, rollout)
    first, memory = pay(reward)(theta, memory, cut(rollout, 0, 3))
    second, memory = pay(reward)(theta, memory, cut(rollout, 3, None))
    np.testing.assert_allclose(jnp.concatenate([first, second]), whole, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), memory, after)


def test_the_lifetime_reward_depends_on_the_past_of_all_streams_and_on_no_future():
    """By derivatives: entry [t, b, u, c] is what the reward of step t in stream b has from the pay of step u in c."""
    _, _, rollout = seen()
    theta, memory = grown(LIFETIME)

    def paid(reward):
        return LIFETIME.pay(theta, memory, rollout._replace(reward=reward))[0]

    influence = np.abs(jax.jit(jax.jacobian(paid))(rollout.reward)).max(axis=(1, 3))
    assert np.all(influence[np.triu_indices(6, 1)] == 0)
    assert np.all(influence[np.tril_indices(6)] > 0)
    assert np.any(rollout.last[:3])  # also across ends of episodes


def test_a_reward_of_state_and_action_reads_what_was_acted_on_and_not_what_it_led_to():
    theta, memory = grown(STEP)
    rollout = seen()[2]
    paid, _ = pay(STEP)(theta, memory, rollout)
    same, _ = pay(STEP)(theta, memory, rollout._replace(next_obs=rollout.next_obs + 1))
    other, _ = pay(STEP)(theta, memory, rollout._replace(obs=rollout.obs - 1))
    np.testing.assert_array_equal(same, paid)
    assert np.mean(other != paid) > 0.5  # units that are off see no difference


def test_a_reader_of_a_life_is_shown_what_the_equation_says():
    rollout = seen()[2]
    x = happened(rollout, 3, 2)
    np.testing.assert_array_equal(x[..., :2], rollout.next_obs.reshape(6, 4, -1)[..., :2])
    np.testing.assert_array_equal(x[..., 3:5], jax.nn.one_hot(rollout.action, 2))
    np.testing.assert_array_equal(x[..., 5], rollout.reward)
    np.testing.assert_array_equal(x[..., 6], rollout.discount == 0)
    np.testing.assert_array_equal(x[..., 7], rollout.last)


def test_the_lifetime_reward_sees_endings_of_both_kinds_and_what_a_last_step_led_to():
    _, _, rollout = seen()
    theta, memory = grown(LIFETIME)

    def changed(**fields):
        paid = pay(LIFETIME)(theta, memory, rollout._replace(**fields))[0]
        return np.asarray(paid != pay(LIFETIME)(theta, memory, rollout)[0])

    ended = np.argwhere(np.asarray(rollout.last))[0]
    for field in ("discount", "last", "next_obs"):
        value = getattr(rollout, field)
        other = ~value[tuple(ended)] if field == "last" else value[tuple(ended)] + 1
        assert changed(**{field: value.at[tuple(ended)].set(other)})[ended[0] :].any(), field


@pytest.mark.parametrize("reward", LEARNED.values())
def test_an_untrained_reward_pays_nothing(reward):
    """So an agent starts as one without it."""
    _, _, rollout = seen()
    theta = reward.init(KEY)
    np.testing.assert_array_equal(pay(reward)(theta, grown(reward)[1], rollout)[0], np.zeros(rollout.reward.shape))


def test_the_base_learns_from_the_weighted_sum_and_from_nothing_else():
    _, _, rollout = seen()
    base = ActorCritic(optimizer=Sgd())
    theta = {"base": (), "reward": grown(LIFETIME)[0]}
    state, (found, after, metrics) = updated(Intrinsic(base, LIFETIME, 0.5, -2.0), theta, rollout)
    paid, memory = pay(LIFETIME)(theta["reward"], state.reward, rollout)
    _, (expected, _, _) = updated(base, (), rollout._replace(reward=0.5 * rollout.reward - 2.0 * paid))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.reward, memory)
    np.testing.assert_allclose(metrics["intrinsic_reward"], jnp.mean(paid), rtol=1e-5)


@pytest.mark.parametrize(
    ("reward", "base"),
    [
        (LIFETIME, ActorCritic(Coefficients(learning_rate=0.5), Sgd())),
        (STEP, Drift(optimizer=Sgd(), epochs=1, minibatches=1)),
    ],
    ids=["lifetime, a2c", "state and action, ppo"],
)
def test_the_meta_gradient_is_the_finite_difference(reward, base):
    """Of any function of the agent after two updates, along a random direction; the second reads on in the life."""
    policy, params, rollout = seen()
    rule = Intrinsic(base, reward, extrinsic=0.3)
    with jax.enable_x64(True):

        def double(tree):
            return jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, tree)

        theta = double({"base": rule.base.init(KEY), "reward": grown(reward)[0]})
        params, rollout, memory = double(params), double(rollout), double(grown(reward)[1])
        weights = jax.tree.map(lambda p: jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape), params)

        @jax.jit
        def judged(theta):
            now, state = params, rule.birth(theta, policy, KEY)[1]._replace(reward=memory)
            for part in (cut(rollout, 0, 3), cut(rollout, 3, None)):
                now, state, _ = rule.update(theta, now, state, part, policy, KEY)
            return sum(jax.tree.leaves(jax.tree.map(lambda w, p: jnp.sum(w * p), weights, now)))

        direction = jitter(jax.tree.map(jnp.zeros_like, theta), KEY, 1.0)
        ahead = jax.tree.map(lambda t, d: t + 1e-6 * d, theta, direction)
        behind = jax.tree.map(lambda t, d: t - 1e-6 * d, theta, direction)
        expected = (judged(ahead) - judged(behind)) / 2e-6
        slope = jax.tree.map(lambda g, d: jnp.sum(g * d), jax.jit(jax.grad(judged))(theta), direction)
        assert abs(expected) > 1e-5
        np.testing.assert_allclose(sum(jax.tree.leaves(slope)), expected, rtol=1e-5)


def test_a_bonus_is_one_over_the_root_of_the_visits_so_far():
    """Against a dictionary that reads the same life step by step, over two updates."""
    reward = CountBonus()
    places = jax.random.randint(KEY, (2, 7, 3), 0, 5)
    policy, _, rollout = seen()
    memory, visits = reward.start((), policy, KEY), {}
    for update in np.asarray(places):
        paid, memory = pay(reward)((), memory, rollout._replace(next_obs=jax.nn.one_hot(update, 9)))
        for t, step in enumerate(update):
            for place in step:
                visits[place] = visits.get(place, 0) + 1
            np.testing.assert_allclose(paid[t], [visits[place] ** -0.5 for place in step], rtol=1e-6)
    assert int(jnp.sum(memory)) == 2 * 7 * 3


def test_different_observations_are_counted_apart():
    n, one_hot = CountBonus().buckets, jnp.eye(256)[:, None]
    assert len(np.unique(bucket(one_hot, n, 1.0))) >= 256 - 2 * 256**2 / (2 * n)
    grid = jnp.stack(jnp.meshgrid(jnp.arange(-8, 8), jnp.arange(-8, 8)), axis=-1).reshape(256, 1, 2) / 4
    assert len(np.unique(bucket(grid, n, 4.0))) >= 256 - 4
    # Rounded to the nearest: what differs by less than half a step is the same place.
    np.testing.assert_array_equal(bucket(one_hot + 0.4, n, 1.0), bucket(one_hot, n, 1.0))


def test_distillation_pays_before_it_learns_and_less_where_it_has_been():
    reward = DESIGNED["rnd"]
    policy, _, rollout = seen()
    start = reward.start((), policy, KEY)
    x = rollout.next_obs
    raw = jnp.sum((mlp(start.predictor, x) - mlp(start.target, x)) ** 2, axis=-1)
    paid, memory = pay(reward)((), start, rollout)
    np.testing.assert_allclose(paid, raw / jnp.sqrt(jnp.mean(raw**2)), rtol=1e-4)
    again, twice = pay(reward)((), memory, rollout)
    errors = jnp.concatenate([raw, again * jnp.sqrt(twice.square)])
    np.testing.assert_allclose(twice.square, jnp.mean(errors**2), rtol=1e-4)
    often = jax.lax.fori_loop(0, 500, lambda _, m: reward.pay((), m, rollout)[1], memory)
    jax.tree.map(np.testing.assert_array_equal, often.target, start.target)
    # A place where it has never been stays strange.
    here, after = pay(reward)((), often, rollout)
    assert jnp.mean(here) * jnp.sqrt(after.square) < 0.1 * jnp.mean(raw)
    far, _ = pay(reward)((), often, rollout._replace(next_obs=4 + rollout.next_obs))
    assert far.mean() > 10 * here.mean()


@pytest.mark.parametrize("reward", DESIGNED.values())
@pytest.mark.parametrize("around", [lambda rule: rule, lambda rule: Schedule(rule, hidden=3)], ids=["alone", "inside"])
def test_designed_rewards_have_nothing_to_learn_and_nest(reward, around):
    inner = Intrinsic(ActorCritic(), reward)
    assert inner.init(KEY) == ()
    assert jax.tree.leaves(jax.eval_shape(Intrinsic(LPG(4, 6), reward).init, KEY))
    rule = around(inner)
    state, (_, after, _) = shapes(rule)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_combinators_nest_the_other_way_round():
    rule = Intrinsic(Schedule(hidden=3), LIFETIME)
    theta = jax.eval_shape(rule.init, KEY)
    assert set(theta) == {"base", "reward"}
    assert set(theta["base"]) == {"base", "schedule"}
    shapes(rule)


def test_what_has_no_room_is_refused_with_the_size_it_needs():
    for reward, message in (
        (replace(LIFETIME, observation=1), "observation=1: .* room for 1 numbers, but here an observation is 2"),
        (replace(STEP, action=1), "action=1: .* room for 1 numbers, but here an action is 2"),
    ):
        with pytest.raises(ValueError, match=message):
            shapes(Intrinsic(reward=reward))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LifetimeReward(hidden=0), "hidden"),
        (lambda: StateActionReward(action=-1), "action"),
        (lambda: CountBonus(resolution=0.0), "resolution"),
        (lambda: RandomDistillation(learning_rate=0.0), "learning_rate"),
    ],
)
def test_sizes_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_without_room_for_actions_nothing_depends_on_them():
    _, _, rollout = seen()
    reward = replace(LIFETIME, action=0)
    theta, memory = grown(reward)
    other = rollout._replace(action=1 - rollout.action)
    paid, still = (pay(reward)(theta, memory, r)[0] for r in (rollout, other))
    np.testing.assert_array_equal(paid, still)


def test_a_reward_is_learned_that_replaces_the_task_s():
    """The agents of this test never see what their task pays; the outer loop does, and tells them by r_in."""
    network = Network(MLP((8,)))
    base = ActorCritic(Coefficients(learning_rate=0.05, entropy=0.0))
    lifetime = Lifetime(MatchCue(), Intrinsic(base, StateActionReward(8, 2, 2), extrinsic=0.0), network, 8, 4, 20)
    problem = MetaProblem(lifetime, PolicyGradientSurrogate(OuterCritic(network, epochs=1)), 2)
    learner = GradientDescent(TruncatedBackprop(horizon=10, window=1, lives=10), learning_rate=0.03)

    @jax.jit
    def run(key):
        state = learner.init((("tasks", problem),), lifetime.rule.init(key), key)
        keys = jax.random.split(key, 100)
        state, _ = jax.lax.scan(lambda s, k: learner.step((("tasks", problem),), s, k), state, keys)
        return learner.theta(state)

    @jax.jit
    def earned(theta, key):
        def life(key):
            keys = jax.random.split(key, 20)
            agent, _ = jax.lax.scan(lambda a, k: (lifetime.live(theta, a, k)[0], ()), lifetime.start(theta, key), keys)
            return mean_return(agent.streams)

        return jnp.mean(jax.vmap(life)(jax.random.split(key, 32)))

    untrained = earned(lifetime.rule.init(KEY), jax.random.key(5))
    learned = earned(run(KEY), jax.random.key(5))
    assert 0.35 < untrained < 0.65
    assert learned > 0.85, (untrained, learned)
