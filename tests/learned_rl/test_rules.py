"""Each rule against an independent transcription of its paper."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.distributions import Categorical, Normal
from learned_rl.optimizers import Sgd
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import ClipDrift, DiscoveredDrift, Drift, LearnedDrift, as_samples, shuffled, take
from learned_rl.rules.lpg import LPG
from learned_rl.types import Discrete, Heads, Outputs
from tests.probes import RECURRENT, SMALL, made, noisy, reach

VALUE = Heads(flat={"value": 1})
C = Coefficients(learning_rate=0.1, discount=0.9, trace=0.7, entropy=0.05, value_cost=0.5, clip=0.2)
PLAIN = Sgd()
KEY = jax.random.key(5)


def update(rule, theta, params, rollout, policy, key=KEY):
    """One compiled update from a fresh state: `(params, state, metrics)`."""

    def run(theta, params, rollout, key):
        _, state = rule.birth(theta, policy, key)
        return rule.update(theta, params, state, rollout, policy, key)

    return jax.jit(run)(theta, params, rollout, key)


def explicit_advantages(rollout, value, next_value, c):
    """GAE by its double sum, in numpy."""
    reward, discount, last = (np.asarray(x, np.float64) for x in (rollout.reward, rollout.discount, rollout.last))
    value, next_value = np.asarray(value, np.float64), np.asarray(next_value, np.float64)
    delta = reward + c.discount * discount * next_value - value
    advantage = np.zeros_like(delta)
    steps, streams = delta.shape
    for b in range(streams):
        for t in range(steps):
            weight = 1.0
            for k in range(t, steps):
                advantage[t, b] += weight * delta[k, b]
                if last[k, b]:
                    break
                weight *= c.discount * c.trace
    return advantage


def values_of(policy, params, rollout):
    value = policy.unroll(params, rollout).flat["value"][..., 0]
    return value, policy.unroll_next(params, rollout).flat["value"][..., 0]


def assert_trees_close(found, expected, rtol=1e-4, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), found, expected)


@pytest.mark.parametrize(
    ("network", "actions"), [(SMALL, Discrete(3)), (SMALL, reach().actions), (RECURRENT, Discrete(3))]
)
def test_actor_critic_takes_the_published_gradient(network, actions):
    policy, params, rollout = made(network, actions, VALUE)
    value, next_value = jax.jit(lambda: values_of(policy, params, rollout))()
    advantage = explicit_advantages(rollout, value, next_value, C)
    target = advantage + np.asarray(value)

    def loss(params):
        outputs = policy.unroll(params, rollout)
        actor = -advantage * outputs.policy.log_prob(rollout.action)
        critic = 0.5 * (outputs.flat["value"][..., 0] - target) ** 2
        return jnp.mean(actor + C.value_cost * critic - C.entropy * outputs.policy.entropy())

    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.jit(jax.grad(loss))(params))
    found, _, metrics = update(ActorCritic(C, PLAIN), (), params, rollout, policy)
    assert_trees_close(found, expected)
    assert metrics["advantage_std"] == pytest.approx(advantage.std(), rel=1e-4)


# Drifts

RATIOS, ADVANTAGES = (x.ravel() for x in np.meshgrid(np.linspace(0.05, 4, 80), np.linspace(-3, 3, 41)))
LOG_RATIOS = jnp.log(jnp.asarray(RATIOS, jnp.float32))
ADVANTAGES = jnp.asarray(ADVANTAGES, jnp.float32)


def test_ppo_is_a_drift():
    f = ClipDrift()((), LOG_RATIOS, ADVANTAGES, 0.2)
    r = jnp.exp(LOG_RATIOS)
    clipped = jnp.minimum(r * ADVANTAGES, jnp.clip(r, 0.8, 1.2) * ADVANTAGES)
    np.testing.assert_allclose(r * ADVANTAGES - f, clipped, rtol=1e-6, atol=1e-6)
    assert jnp.sum(f > 0) > 500


def test_discovered_drift_is_the_published_one():
    f = DiscoveredDrift()((), LOG_RATIOS, ADVANTAGES, 0.2)
    for i in range(0, len(RATIOS), 7):
        r, a = RATIOS[i], float(ADVANTAGES[i])
        x = (r - 1) * a if a >= 0 else np.log(r) * a
        scale = 2.0 if a >= 0 else 0.6
        assert f[i] == pytest.approx(max(0.0, x - scale * np.tanh(x / scale)), abs=2e-5)


LEARNED = LearnedDrift(hidden=16)
TEMPORAL = LearnedDrift(hidden=16, temporal=True)
RANDOM_THETA, RANDOM_TEMPORAL = (noisy(drift.init, jax.random.key(0), 1.0) for drift in (LEARNED, TEMPORAL))
MOMENTS = [(0.0, 0.0), (0.0, np.log(100.0)), (0.5, np.log(100.0)), (1.0, np.log(1e5))]


@pytest.mark.parametrize(
    ("drift", "theta", "now"),
    [(ClipDrift(), (), (0.0, 0.0)), (DiscoveredDrift(), (), (0.0, 0.0)), (LEARNED, RANDOM_THETA, (0.0, 0.0))]
    + [(TEMPORAL, RANDOM_TEMPORAL, now) for now in MOMENTS],
)
def test_drifts_meet_the_conditions_of_mirror_learning(drift, theta, now):
    f = jax.jit(lambda log_ratio, a: drift(theta, log_ratio, a, 0.2, now))
    values = f(LOG_RATIOS, ADVANTAGES)
    assert values.min() >= 0
    assert values.max() > 0.1
    a = jnp.linspace(-3, 3, 13)
    # In a neighbourhood: relu'(0) = 0 by convention would hide a kink at r = 1.
    for log_ratio in (-1.2e-7, 0.0, 1.2e-7):
        np.testing.assert_allclose(f(jnp.full(13, log_ratio), a), 0, atol=1e-9)
    np.testing.assert_allclose(jax.vmap(jax.grad(f))(jnp.zeros(13), a), 0, atol=1e-6)


@pytest.mark.parametrize("temporal", [False, True])
@pytest.mark.parametrize("base", [ClipDrift(), DiscoveredDrift()])
def test_an_untrained_learned_drift_is_its_base(base, temporal):
    drift = LearnedDrift(hidden=16, base=base, temporal=temporal)
    found = drift(drift.init(jax.random.key(0)), LOG_RATIOS, ADVANTAGES, 0.2, (0.5, 3.0))
    np.testing.assert_allclose(found, base((), LOG_RATIOS, ADVANTAGES, 0.2), atol=1.01e-4)


def test_a_temporally_aware_drift_is_the_equation_written_out():
    w = jax.tree.map(lambda x: np.asarray(x, np.float64), RANDOM_TEMPORAL)
    now = (0.5, np.log(100.0))
    found = TEMPORAL(RANDOM_TEMPORAL, LOG_RATIOS, ADVANTAGES, 0.2, now)
    for i in range(0, len(RATIOS), 7):
        r, a = RATIOS[i], float(ADVANTAGES[i])
        x = np.array([np.log(r), np.log(r) ** 2, 1 - r, (1 - r) ** 2])
        x = np.outer((1.0, *now), np.outer((1.0, a), x)).ravel()
        clip = max(0.0, (r - np.clip(r, 0.8, 1.2)) * a)
        assert found[i] == pytest.approx(max(0.0, clip + np.tanh(x @ w["inward"]) @ w["outward"] - 1e-4), abs=2e-4)


@pytest.mark.parametrize("rule", [Drift(TEMPORAL, C, PLAIN, epochs=2, minibatches=2), Drift(LEARNED, C, PLAIN, 2, 2)])
def test_a_temporally_aware_drift_sees_when_in_its_life_an_agent_is(rule):
    policy, params, rollout = made(SMALL, Discrete(3), VALUE)
    theta = RANDOM_TEMPORAL if rule.drift.temporal else RANDOM_THETA
    _, state = rule.birth(theta, policy, KEY)

    @jax.jit
    def logits(progress, lifetime):
        seen = rollout._replace(progress=progress, lifetime=lifetime)
        after = rule.update(theta, params, state, seen, policy, KEY)[0]
        return policy.unroll(after, rollout).policy.logits

    here, later, longer = (logits(*map(jnp.float32, at)) for at in ((0.1, 100.0), (0.9, 100.0), (0.1, 1000.0)))
    for elsewhere in (later, longer):
        assert np.any(here != elsewhere) == rule.drift.temporal


@pytest.mark.parametrize(
    ("network", "actions"), [(SMALL, Discrete(3)), (SMALL, reach().actions), (RECURRENT, Discrete(3))]
)
def test_ppo_takes_the_published_gradients(network, actions):
    """Two epochs of one minibatch: the order of samples is then irrelevant, and the second epoch's value is clipped."""
    policy, params, rollout = made(network, actions, VALUE)
    c = dataclasses.replace(C, clip=0.05)  # so tight that both clips bind
    old_value, next_value = jax.jit(lambda: values_of(policy, params, rollout))()
    advantage = explicit_advantages(rollout, old_value, next_value, c)
    target = advantage + np.asarray(old_value)
    a = (advantage - advantage.mean()) / advantage.std()

    def loss(params):
        outputs = policy.unroll(params, rollout)
        value = outputs.flat["value"][..., 0]
        r = jnp.exp(outputs.policy.log_prob(rollout.action) - rollout.behaviour_log_prob)
        actor = jnp.minimum(r * a, jnp.clip(r, 1 - c.clip, 1 + c.clip) * a)
        near = jnp.clip(value, old_value - c.clip, old_value + c.clip)
        critic = 0.5 * jnp.maximum((value - target) ** 2, (near - target) ** 2)
        return jnp.mean(-actor + c.value_cost * critic - c.entropy * outputs.policy.entropy())

    rate = 0.1 * 0.75  # annealed: a quarter of the lifetime is over
    gradient = jax.jit(jax.grad(loss))
    expected = params
    for _ in range(2):
        expected = jax.tree.map(lambda p, g: p - rate * g, expected, gradient(expected))
    rule = Drift(ClipDrift(), c, PLAIN, epochs=2, minibatches=1, anneal=True)
    assert_trees_close(update(rule, (), params, rollout, policy)[0], expected)


def test_the_probabilities_that_acted_move_with_the_parameters_that_acted():
    """What PPO made of given data is differentiated, the denominators of its ratios included; by how much they matter
    is enumerated in `tests/meta_objectives/test_sampling.py`."""
    policy, params, rollout = made(SMALL, Discrete(3), VALUE)

    def moved(log_prob):
        rule = Drift(coefficients=C, optimizer=PLAIN, epochs=1, minibatches=1)
        after, _, _ = rule.update((), params, (), rollout._replace(behaviour_log_prob=log_prob), policy, KEY)
        return sum(jnp.sum(p) for p in jax.tree.leaves(after))

    on_policy = policy.unroll(params, rollout).policy.log_prob(rollout.action)  # where nothing is clipped
    assert np.all(jax.jit(jax.grad(moved))(on_policy) != 0)


def test_minibatches_share_out_every_sample_once_and_differently_each_time():
    _policy, _params, rollout = made(SMALL, Discrete(3), VALUE)
    batch = as_samples(_batch(rollout, jnp.arange(24.0).reshape(6, 4)))
    assert batch.advantage.shape == (1, 24)
    first, second = (_parts(batch, shuffled(24, 4, jax.random.key(k))) for k in (0, 1))
    assert first.advantage.shape == (4, 1, 6)
    np.testing.assert_array_equal(np.sort(first.advantage.ravel()), np.arange(24))
    assert (first.advantage != second.advantage).any()
    # All fields are shuffled alike, and what belongs to the whole rollout stays what it is.
    np.testing.assert_array_equal(first.advantage, first.rollout.reward)
    np.testing.assert_array_equal(first.value, 10 * first.advantage)
    np.testing.assert_array_equal(first.rollout.progress, jnp.broadcast_to(rollout.progress, (4,)))


def test_with_a_memory_whole_streams_are_shared_out():
    _policy, _params, rollout = made(RECURRENT, Discrete(3), VALUE)
    batch = _batch(rollout._replace(memory=jnp.arange(4.0)[:, None] * jnp.ones(6)), jnp.arange(4.0) * jnp.ones((6, 1)))
    parts = _parts(as_samples(batch), shuffled(4, 2, jax.random.key(0)))
    assert parts.advantage.shape == (2, 6, 2)
    np.testing.assert_array_equal(parts.advantage, jnp.broadcast_to(parts.advantage[:, :1], (2, 6, 2)))
    np.testing.assert_array_equal(parts.rollout.memory[..., 0], parts.advantage[:, 0])


def _parts(batch, orders):
    return jax.vmap(take, in_axes=(None, 0))(batch, orders)


def _batch(rollout, label):
    from learned_rl.rules.drift import Batch

    return Batch(rollout._replace(reward=label), label, label, 10 * label)


def test_minibatches_that_do_not_divide_are_refused():
    policy, params, rollout = made(SMALL, Discrete(3), VALUE)
    with pytest.raises(ValueError, match="minibatches=5 does not divide 24"):
        Drift(minibatches=5).update((), params, Drift().optimizer.init(params), rollout, policy, KEY)


# LPG

SMALL_LPG = LPG(predictions=5, hidden=7, discount=0.9, prediction_cost=0.25, learning_rate=0.1, optimizer=PLAIN)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def transcribed_targets(theta, rollout, probability, y, next_y, gamma, when=()):
    """Oh et al. 2020, section 3.2, one step of one stream at a time, with the LSTM written out."""
    w = jax.tree.map(lambda x: np.asarray(x, np.float64), theta)

    def dense(x, p):
        return x @ p["kernel"] + p["bias"]

    def phi(y):
        return dense(np.maximum(0, dense(y, w["embed_0"])), w["embed_1"])

    steps, streams = rollout.reward.shape
    policy, prediction = np.zeros((steps, streams)), np.zeros((steps, streams, y.shape[-1]))
    for b in range(streams):
        h, c = np.zeros(7), np.zeros(7)
        for t in reversed(range(steps)):
            if rollout.last[t, b]:
                h, c = np.zeros(7), np.zeros(7)
            x = np.array([rollout.reward[t, b], rollout.discount[t, b], gamma, probability[t, b], *when])
            x = np.concatenate([x, phi(y[t, b]), phi(next_y[t, b])])
            cell = w["lstm"]
            i, f, g, o = (x @ cell[f"i{n}"]["kernel"] + dense(h, cell[f"h{n}"]) for n in "ifgo")
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            policy[t, b] = dense(h, w["policy"])[0]
            prediction[t, b] = softmax(dense(h, w["prediction"]))
    return policy, prediction


@pytest.fixture(scope="module")
def lpg_theta():
    return noisy(SMALL_LPG.init, jax.random.key(0), 0.5)


@pytest.mark.parametrize("actions", [Discrete(3), reach().actions], ids=["discrete", "continuous"])
def test_lpg_is_equation_two(actions, lpg_theta):
    policy, params, rollout = made(SMALL, actions, SMALL_LPG.heads)

    @jax.jit
    def ours():
        outputs, following = policy.unroll(params, rollout), policy.unroll_next(params, rollout)
        return outputs, following, SMALL_LPG.targets(lpg_theta, rollout, outputs, following)

    outputs, following, targets = ours()
    density = np.exp(np.asarray(outputs.policy.log_prob(rollout.action), np.float64))
    probability = density if isinstance(actions, Discrete) else density / (1 + density)
    y, next_y = (softmax(np.asarray(o.flat["prediction"], np.float64)) for o in (outputs, following))
    pi_hat, y_hat = transcribed_targets(lpg_theta, rollout, probability, y, next_y, 0.9)
    np.testing.assert_allclose(targets.policy, pi_hat, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(targets.prediction, y_hat, rtol=1e-3, atol=1e-5)

    def loss(params):
        outputs = policy.unroll(params, rollout)
        p = jax.nn.softmax(outputs.flat["prediction"])
        kl = jnp.sum(p * jnp.log(p / y_hat), axis=-1)
        return jnp.mean(-pi_hat * outputs.policy.log_prob(rollout.action) + 0.25 * kl)

    # pi_hat and y_hat are numbers here: constants of the inner gradient.
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.jit(jax.grad(loss))(params))
    found, _, metrics = update(SMALL_LPG, lpg_theta, params, rollout, policy)
    assert_trees_close(found, expected, rtol=1e-3, atol=1e-5)
    assert metrics["policy_target_square"] == pytest.approx((pi_hat**2).mean(), rel=1e-3)
    assert metrics["prediction_target_square"] == pytest.approx((y_hat**2).sum(-1).mean(), rel=1e-3)


def test_temporally_aware_lpg_reads_two_numbers_more(lpg_theta):
    """n / N and log N, after the four inputs of LPG; and LPG with and without is told apart by its input weights."""
    rule = dataclasses.replace(SMALL_LPG, temporal=True)
    theta = noisy(rule.init, jax.random.key(0), 0.5)
    policy, params, rollout = made(SMALL, Discrete(3), rule.heads)
    outputs, following = policy.unroll(params, rollout), policy.unroll_next(params, rollout)
    y, next_y = (softmax(np.asarray(o.flat["prediction"], np.float64)) for o in (outputs, following))
    probability = np.exp(np.asarray(outputs.policy.log_prob(rollout.action), np.float64))
    for progress, lifetime in ((0.25, 100.0), (0.75, 20.0)):
        moment = rollout._replace(progress=jnp.float32(progress), lifetime=jnp.float32(lifetime))
        targets = jax.jit(rule.targets)(theta, moment, outputs, following)
        told = (progress, np.log(lifetime))
        pi_hat, y_hat = transcribed_targets(theta, rollout, probability, y, next_y, 0.9, told)
        np.testing.assert_allclose(targets.policy, pi_hat, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(targets.prediction, y_hat, rtol=1e-3, atol=1e-5)


def test_lpg_targets_are_differentiable_in_theta(lpg_theta):
    policy, params, rollout = made(SMALL, Discrete(3), SMALL_LPG.heads)

    def far(theta):
        return sum(jnp.sum(p**2) for p in jax.tree.leaves(update_once(theta)))

    def update_once(theta):
        return SMALL_LPG.update(theta, params, (), rollout, policy, KEY)[0]

    for leaf in jax.tree.leaves(jax.jit(jax.grad(far))(lpg_theta)):
        assert jnp.abs(leaf).max() > 0


def test_lpg_does_not_know_how_many_actions_there_are(lpg_theta):
    _, _, rollout = made(SMALL, Discrete(2), SMALL_LPG.heads)
    p = jax.random.uniform(KEY, rollout.reward.shape, minval=0.1, maxval=0.9)
    y = jax.random.normal(KEY, (*p.shape, 5))

    @jax.jit
    def targets(action, probabilities):
        outputs = Outputs(Categorical(jnp.log(probabilities)), {"prediction": y}, {})
        return SMALL_LPG.targets(lpg_theta, rollout._replace(action=action), outputs, outputs)

    two = targets(jnp.ones(p.shape, jnp.int32), jnp.stack([1 - p, p], -1))
    rest = (1 - p)[..., None] * jnp.array([0.1, 0.2, 0.3, 0.4])
    five = targets(jnp.full(p.shape, 4), jnp.concatenate([rest, p[..., None]], -1))
    assert_trees_close(two, five, rtol=1e-5)


def test_lpg_does_not_know_what_an_observation_is(lpg_theta):
    policy, params, rollout = made(SMALL, Discrete(3), SMALL_LPG.heads)
    flip = lambda x: x[..., ::-1]  # noqa: E731
    mirrored = jax.tree.map(lambda x: x, params)
    for body in ("body_0", "heads_body_0"):
        mirrored[body]["kernel"] = params[body]["kernel"][::-1]
    seen = rollout._replace(obs=flip(rollout.obs), next_obs=flip(rollout.next_obs))
    here, _, _ = update(SMALL_LPG, lpg_theta, params, rollout, policy)
    there, _, _ = update(SMALL_LPG, lpg_theta, mirrored, seen, policy)
    for body in ("body_0", "heads_body_0"):
        there[body]["kernel"] = there[body]["kernel"][::-1]
    assert_trees_close(here, there, rtol=1e-5)


def test_lpg_does_not_look_past_the_end_of_an_episode(lpg_theta):
    _, _, rollout = made(SMALL, Discrete(2), SMALL_LPG.heads)
    rollout = rollout._replace(last=jnp.zeros_like(rollout.last).at[2].set(True))
    y = jax.random.normal(KEY, (*rollout.reward.shape, 5))
    outputs = Outputs(Categorical(jnp.zeros((*rollout.reward.shape, 2))), {"prediction": y}, {})

    def first(reward, t):
        targets = SMALL_LPG.targets(lpg_theta, rollout._replace(reward=reward), outputs, outputs)
        return jnp.sum(targets.policy[t])

    for t, reach_of in ((0, [0, 1, 2]), (2, [2]), (3, [3, 4, 5])):
        influence = jnp.abs(jax.jit(jax.grad(first), static_argnums=1)(rollout.reward, t)).max(axis=1)
        assert np.flatnonzero(np.asarray(influence)).tolist() == reach_of


def test_lpg_squashes_the_density_of_real_actions(lpg_theta):
    """A density has no upper bound; what the rule reads stays in (0, 1) however sharp the policy."""
    _policy, _, rollout = made(SMALL, reach().actions, SMALL_LPG.heads)
    shape = (*rollout.reward.shape, 1)
    sharp = Normal(rollout.action, jnp.full(shape, -30.0))
    outputs = Outputs(sharp, {"prediction": jnp.zeros((*rollout.reward.shape, 5))}, {})
    targets = SMALL_LPG.targets(lpg_theta, rollout, outputs, outputs)
    assert all(jnp.all(jnp.isfinite(x)) for x in targets)
