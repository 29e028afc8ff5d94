"""The surrogate's gradient is the policy gradient, by enumeration and by transcription; its critic learns, alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.lifetime import Lifetime
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.lpg import LPG
from learned_rl.rules.none import NoLearning
from meta_objectives.outer_critic import OuterCritic
from meta_objectives.problem import History, MetaObjective
from meta_objectives.validation import PolicyGradientSurrogate
from tests.probes import RECURRENT, SMALL, Arms, CueValue, Recall

KEY = jax.random.key(4)


def born(tasks, objective, rule=NoLearning(), network=SMALL, **sizes):  # noqa: B008
    lifetime = Lifetime(tasks, rule, network, **{"streams": 4, "steps": 4} | sizes)

    @jax.jit
    def start():
        theta = rule.init(KEY)
        agent = lifetime.start(theta, KEY)
        return theta, agent, objective.start(lifetime, KEY)

    return lifetime, *start()


def no_history(lifetime, agent):
    return History(lifetime.act(agent, KEY)[1], {})


def judge_by_params(objective, lifetime, agent, critic, key=KEY):
    """`params -> (loss, critic)`, compiled."""

    @jax.jit
    def judge(params):
        judged = agent._replace(params=params)
        segment, after = objective.judge(lifetime, (), judged, no_history(lifetime, agent), critic, key)
        return segment.loss, after

    return judge


def test_its_gradient_is_the_policy_gradient_of_a_bandit():
    pay = (0.0, 1.0, 0.3, 0.7)
    objective = PolicyGradientSurrogate(OuterCritic(SMALL), entropy=0.0)
    assert isinstance(objective, MetaObjective)
    lifetime, _, agent, critic = born(Arms(pay=pay), objective, streams=2048)
    # Away from uniform, so that the probabilities matter.
    params = agent.params | {"policy": agent.params["policy"] | {"bias": jnp.array([0.5, -0.5, 0.0, 1.0])}}
    judge = judge_by_params(objective, lifetime, agent, critic)
    found = jax.jit(jax.grad(lambda p: judge(p)[0]))(params)["policy"]["bias"]
    p = jax.nn.softmax(lifetime.policy.act(params, (), jnp.ones((1, 2)), jnp.zeros(1, bool))[1].policy.logits[0])
    expected = -p * (jnp.array(pay) - jnp.dot(p, jnp.array(pay)))  # of -E[R], up to the scale of advantages
    cosine = jnp.dot(found, expected) / jnp.linalg.norm(found) / jnp.linalg.norm(expected)
    assert cosine > 0.999
    spread = jnp.sqrt(jnp.dot(p, jnp.array(pay) ** 2) - jnp.dot(p, jnp.array(pay)) ** 2)
    np.testing.assert_allclose(found, expected / spread, atol=0.02)  # 8192 samples


@pytest.mark.parametrize("network", [SMALL, RECURRENT], ids=["reactive", "memory"])
def test_its_gradient_is_the_transcribed_one_on_the_same_steps(network):
    objective = PolicyGradientSurrogate(OuterCritic(SMALL, discount=0.8, trace=0.6), entropy=0.1)
    lifetime, _, agent, critic = born(Recall(3), objective, ActorCritic(), network, steps=5)
    _, rollout = jax.jit(lifetime.act)(agent, KEY)
    of_critic = objective.critic.values(lifetime)
    value, following = (
        np.asarray(jax.jit(unroll)(critic.params, rollout).flat["value"][..., 0])
        for unroll in (of_critic.unroll, of_critic.unroll_next)
    )
    delta = rollout.reward + 0.8 * rollout.discount * following - value
    advantage, carry = np.zeros((5, 4)), np.zeros(4)
    for t in reversed(range(5)):
        carry = delta[t] + 0.8 * 0.6 * (1 - rollout.last[t]) * carry
        advantage[t] = carry
    advantage = (advantage - advantage.mean()) / advantage.std()

    def expected(params):
        policy = lifetime.policy.unroll(params, rollout).policy
        return -jnp.mean(advantage * policy.log_prob(rollout.action)) - 0.1 * jnp.mean(policy.entropy())

    judge = judge_by_params(objective, lifetime, agent, critic)
    loss, gradient = jax.jit(jax.value_and_grad(lambda p: judge(p)[0]))(agent.params)
    expected_loss, expected_gradient = jax.jit(jax.value_and_grad(expected))(agent.params)
    assert loss == pytest.approx(float(expected_loss), abs=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), gradient, expected_gradient)


def test_the_critic_carries_no_meta_gradient():
    objective = PolicyGradientSurrogate(OuterCritic(SMALL))
    lifetime, _, agent, critic = born(CueValue(), objective)
    judge = judge_by_params(objective, lifetime, agent, critic)
    leaves = jax.jit(jax.grad(lambda p: sum(jnp.sum(x) for x in jax.tree.leaves(judge(p)[1].params))))(agent.params)
    assert all(jnp.all(x == 0) for x in jax.tree.leaves(leaves))


def test_the_critic_is_trained_after_it_judged_and_learns():
    objective = PolicyGradientSurrogate(OuterCritic(SMALL, learning_rate=0.02))
    lifetime, _, agent, critic = born(CueValue(), objective, streams=16)

    @jax.jit
    def judge(critic, key):
        segment, critic = objective.judge(lifetime, (), agent, no_history(lifetime, agent), critic, key)
        return critic, segment

    once, first = judge(critic, KEY)
    again, second = judge(once, KEY)
    # On the same steps: the loss reported is of before the training.
    assert second.metrics["critic_loss"] < first.metrics["critic_loss"]
    for k in range(60):
        again, segment = judge(again, jax.random.key(k))
    assert segment.metrics["critic_loss"] < 0.02 * first.metrics["critic_loss"]


def test_targets_of_a_rule_are_regularised_where_it_reports_them():
    plain, costly = (
        PolicyGradientSurrogate(OuterCritic(SMALL)),
        PolicyGradientSurrogate(OuterCritic(SMALL), policy_target=0.5, prediction_target=2.0),
    )
    lifetime, theta, agent, critic = born(CueValue(), plain, LPG(predictions=3, hidden=4))
    history = History(
        lifetime.act(agent, KEY)[1],
        {"policy_target_square": jnp.array([1.0, 3.0]), "prediction_target_square": jnp.array([0.25, 0.75])},
    )
    losses = [o.judge(lifetime, theta, agent, history, critic, KEY)[0].loss for o in (plain, costly)]
    assert losses[1] - losses[0] == pytest.approx(0.5 * 2.0 + 2.0 * 0.5, rel=1e-5)
