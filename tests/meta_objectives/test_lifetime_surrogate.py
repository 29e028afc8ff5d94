"""The lifetime surrogate: whose gradient it is, by enumeration; what an action is judged by, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.lifetime import Lifetime
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.intrinsic.value import LifetimeValue
from learned_rl.rules.none import NoLearning
from meta_objectives.lifetime import LifetimeSurrogate
from meta_objectives.problem import History, MetaProblem
from tests.enumeration import KEY, Bandit, Logits, Written, double, expectation, expected_loss, tables
from tests.meta_objectives.test_sampling import PAY, START, Reinforce, backprop
from tests.probes import SMALL, MatchCue, jitter
from truncation.problem import Segment

HIDDEN = 3
RULE = LifetimeValue(Reinforce(), HIDDEN, observation=3, action=3)


class Earned:
    """-mean_t r_t over what a segment was made of."""

    def start(self, lifetime, key):
        return ()

    def judge(self, lifetime, theta, agent, history, state, key):
        return Segment(-jnp.mean(history.rollout.reward), {}), ()


def bandit(rule, objective, samples, updates, segment):
    def problem(table, instead):
        lifetime = Lifetime(Bandit(PAY, table), rule, Written(Logits(START)), 1, samples, updates)
        return MetaProblem(lifetime, instead or objective, segment)

    return problem, tables(len(PAY), samples * updates)


def blind(theta):
    """The bandit shows what will be done next, so that it can be enumerated; a baseline must not see that."""
    value = theta["value"]
    value["history"]["embed"]["w"] = value["history"]["embed"]["w"].at[2].set(0.0)
    value["inward"]["w"] = value["inward"]["w"].at[HIDDEN + 1 + 2].set(0.0)
    return theta


@pytest.mark.parametrize(("samples", "updates"), [(1, 3), (2, 2)])
def test_over_a_whole_lifetime_it_is_the_gradient_of_what_a_life_earns(samples, updates):
    """For any lifetime value: in mean over all histories, each by its probability."""
    with jax.enable_x64(True):
        theta = blind(double(jitter(RULE.init(KEY), KEY, 0.3)))
        problem, histories = bandit(RULE, LifetimeSurrogate(1.0, 1.0), samples, updates, updates)
        compute = jax.jit(lambda theta: expectation(problem, theta, backprop(theta), histories)[0])
        found = compute(theta)["base"]
        earned, _ = bandit(RULE, Earned(), samples, updates, updates)
        truth = jax.jit(jax.grad(lambda theta: expected_loss(earned, theta, histories)))(theta)["base"]
        found, truth = jax.tree.map(np.asarray, (found, truth))
    assert abs(truth["eta"]) > 1e-3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9), found, truth)


VALUED = LifetimeValue(NoLearning(), 4, 2, 2)
LIFETIME = Lifetime(MatchCue(), VALUED, SMALL, streams=3, steps=2, updates=4)


def judged(objective, lived, constant=0.0):
    """`(A / (number of steps), reward, memory after)`, by the derivative in the log-probabilities of two updates.

    V is the same number everywhere, so that what is judged can be written down; every episode is one step.
    """

    @jax.jit
    def program(key):
        theta = VALUED.init(key)
        theta["value"]["outward"]["b"] = jnp.full(1, constant)
        agent, updates = LIFETIME.start(theta, key), []
        for _ in range(2):
            agent, rollout, metrics = LIFETIME.live(theta, agent, key)
            updates.append(History(rollout, metrics))
        history = jax.tree.map(lambda *x: jnp.stack(x), *updates)
        agent = agent._replace(updates=jnp.int32(lived))

        def loss(log_prob):
            told = history._replace(rollout=history.rollout._replace(behaviour_log_prob=log_prob))
            segment, memory = objective.judge(LIFETIME, theta, agent, told, objective.start(LIFETIME, key), key)
            return segment.loss, (memory, segment)

        gradient, (memory, segment) = jax.grad(loss, has_aux=True)(history.rollout.behaviour_log_prob)
        return -gradient, history.rollout, memory, segment

    return program(KEY)


@pytest.mark.parametrize(("lived", "rest"), [(2, 1.0), (4, 0.0)], ids=["goes on", "ends"])
def test_an_action_is_judged_by_all_that_the_life_earns_after_it(lived, rest):
    """Over the ends of episodes (every step is one) and of updates, and in all streams; V stands in for the rest.

    A_t = sum_{u >= t} gamma^(u - t) mean_b r_ub + gamma^(T - t) rest c - c   with trace 1 and V = c.
    """
    gamma, c = 0.9, 5.0
    found, rollout, _, segment = judged(LifetimeSurrogate(gamma, 1.0), lived, c)
    assert rollout.last.all()
    reward = np.asarray(rollout.reward).mean(axis=2).ravel()
    expected = [sum(gamma ** (u - t) * reward[u] for u in range(t, 4)) + gamma ** (4 - t) * rest * c for t in range(4)]
    found = np.asarray(found).reshape(4, 3) * 4
    np.testing.assert_allclose(found, np.repeat(np.array(expected)[:, None] - c, 3, axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        segment.metrics["lifetime_value_loss"], 0.5 * np.mean((np.array(expected) - c) ** 2), rtol=1e-5
    )


def test_without_a_trace_one_step_and_the_value_after_it_judge():
    found, rollout, *_ = judged(LifetimeSurrogate(0.9, 0.0), 2, 5.0)
    reward = np.asarray(rollout.reward).mean(axis=2).ravel()
    np.testing.assert_allclose(np.asarray(found).reshape(4, 3)[:, 0] * 4, reward + 0.9 * 5 - 5, rtol=1e-5)


def test_the_values_know_the_past_and_not_the_future():
    """V_t reads what came before step t, the observation and progress at t; by derivatives in the rewards."""
    theta = jitter(VALUED.init(KEY), KEY, 0.3)

    @jax.jit
    def influence(key):
        agent = LIFETIME.start(theta, key)
        _, rollout, _ = LIFETIME.live(theta, agent, key)

        def values(reward):
            told = rollout._replace(reward=reward)
            return VALUED.values(theta, VALUED.unread(), told, jnp.array([0.0, 0.0, 0.25]), agent.streams.obs)[0]

        return jnp.abs(jax.jacobian(values)(rollout.reward)).max(axis=-1)

    found = np.asarray(influence(KEY))  # [T + 1, T]
    np.testing.assert_array_equal(found > 0, [[0, 0], [1, 0], [1, 1]])


def test_the_value_is_learned_by_nobody_in_the_life():
    """What an agent becomes does not depend on it."""
    theta = jitter(VALUED.init(KEY), KEY, 0.3)
    rule = LifetimeValue(ActorCritic(), 4, 2, 2)
    lifetime = Lifetime(MatchCue(), rule, SMALL, streams=3, steps=2, updates=4)

    @jax.jit
    def lived(theta):
        return lifetime.live(theta, lifetime.start(theta, KEY), KEY)[0].params

    other = {"base": theta["base"], "value": jax.tree.map(lambda x: x + 1, theta["value"])}
    jax.tree.map(np.testing.assert_array_equal, lived(theta), lived(other))


def test_a_rule_without_a_lifetime_value_is_refused():
    lifetime = Lifetime(MatchCue(), NoLearning(), SMALL)
    with pytest.raises(ValueError, match=r"a NoLearning has not; wrap it: LifetimeValue\(base=...\)"):
        LifetimeSurrogate().start(lifetime, KEY)


@pytest.mark.parametrize("options", [{"discount": 1.1}, {"trace": -0.1}, {"value_cost": -1.0}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LifetimeSurrogate(**options)
