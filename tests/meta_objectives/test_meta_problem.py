"""The bridge: segments, broken lives, and the whole path of a meta-gradient against finite differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.lifetime import Lifetime
from learned_rl.optimizers import Sgd
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift, LearnedDrift
from learned_rl.rules.lpg import LPG
from learned_rl.rules.schedule import Schedule
from learned_rl.rules.self_tuning import SelfTuning
from learned_rl.types import Discrete
from meta_objectives.outer_critic import OuterCritic
from meta_objectives.problem import MetaProblem
from meta_objectives.returns import LifetimeReturn
from meta_objectives.validation import PolicyGradientSurrogate
from tests.probes import SMALL, MatchCue, jitter, made
from truncation.problem import InnerProblem

KEY = jax.random.key(3)
C = Coefficients(learning_rate=0.3, discount=0.9, trace=0.7, entropy=0.05)


def problem(objective, rule=ActorCritic(C), segment=2, tasks=MatchCue(2)):  # noqa: B008
    return MetaProblem(Lifetime(tasks, rule, SMALL, streams=4, steps=4, updates=6), objective, segment)


RETURN = problem(LifetimeReturn())
born, advance = jax.jit(RETURN.start), jax.jit(RETURN.advance)  # compiled once for all tests


def test_a_lifetime_is_a_whole_number_of_segments():
    assert RETURN.segments == 3
    assert isinstance(RETURN, InnerProblem)
    with pytest.raises(ValueError, match=r"segment=4 does not divide lifetime\.updates=6"):
        problem(LifetimeReturn(), segment=4)
    with pytest.raises(ValueError, match="streams must be at least 1"):
        Lifetime(MatchCue(), ActorCritic(), streams=0)


def test_a_segment_is_its_updates_one_by_one():
    life = born((), KEY)
    after, segment = advance((), life, KEY)
    agent = life.agent
    live = jax.jit(RETURN.lifetime.live)
    for key in jax.random.split(jax.random.split(KEY)[0], 2):
        agent, _, _ = live((), agent, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.agent.params, agent.params)
    assert after.agent.updates == 2
    assert segment.metrics["return"] == pytest.approx(float(jnp.mean(agent.streams.episode_return)))
    assert {"rule/entropy", "rule/value_loss", "return"} <= set(segment.metrics)


def test_judging_changes_nothing_in_a_life():
    by_surrogate = problem(PolicyGradientSurrogate(OuterCritic(SMALL)))
    judged = jax.jit(lambda key: by_surrogate.advance((), by_surrogate.start((), key), key)[0].agent)
    lives = [advance((), born((), KEY), KEY)[0].agent, judged(KEY)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), lives[0].params, lives[1].params)
    np.testing.assert_array_equal(lives[0].streams.obs, lives[1].streams.obs)


def test_a_broken_agent_is_said_in_the_loss():
    life = born((), KEY)
    broken = jax.tree.map(lambda x: x.at[(0,) * x.ndim].set(jnp.nan), life.agent.params["policy"])
    agent = life.agent._replace(params=life.agent.params | {"policy": broken})
    assert jnp.isnan(advance((), life._replace(agent=agent), KEY)[1].loss)
    assert jnp.isfinite(advance((), life, KEY)[1].loss)


def test_progress_is_the_fraction_of_the_life_lived():
    agent = born((), KEY).agent
    act = jax.jit(lambda updates: RETURN.lifetime.act(agent._replace(updates=updates), KEY)[1])
    rollouts = [act(jnp.int32(updates)) for updates in (0, 3, 6, 9)]
    np.testing.assert_allclose([r.progress for r in rollouts], [0.0, 0.5, 1.0, 1.0])
    assert [r.lifetime for r in rollouts] == [6.0] * 4


# theta -> updates -> judgement, all data fixed, in double precision against finite differences.

PLAIN = Sgd()
DIFFERENTIABLE = {
    "schedule of a2c": Schedule(
        ActorCritic(C, PLAIN), hidden=3, learned=("learning_rate", "discount", "trace", "entropy")
    ),
    "schedule of ppo": Schedule(Drift(coefficients=C, optimizer=PLAIN, epochs=2, minibatches=2), hidden=3),
    # What tuning measures is data by design: let it stay where it starts.
    "self-tuning of a2c": SelfTuning(ActorCritic(C, PLAIN), rate=0.0),
    "lpg": LPG(predictions=3, hidden=4, learning_rate=0.3, optimizer=PLAIN),
    "drift": Drift(LearnedDrift(hidden=4), dataclasses.replace(C, clip=0.1), PLAIN, epochs=2, minibatches=1),
}


# A schedule is differentiated through a2c, and the updates of PPO by the drift.
LATER = ("schedule of ppo",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LATER else []) for name in DIFFERENTIABLE]
)
def test_the_meta_gradient_is_the_finite_difference(name):
    rule = DIFFERENTIABLE[name]
    policy, params, first = made(SMALL, Discrete(3), rule.heads, seed=0)
    _, _, second = made(SMALL, Discrete(3), rule.heads, seed=1)
    _, _, validation = made(SMALL, Discrete(3), rule.heads, seed=2)

    @jax.jit
    def draw():
        theta = jitter(rule.init(jax.random.key(0)), jax.random.key(1), 0.3)
        direction = jitter(jax.tree.map(jnp.zeros_like, theta), jax.random.key(2), 1.0)
        if isinstance(rule, Schedule):  # what it saw is data by design: let it see the time only
            for tree in (theta, direction):
                tree["schedule"]["inward"] = tree["schedule"]["inward"].at[2:].set(0.0)
        return theta, direction

    theta, direction = draw()

    with jax.enable_x64(True):
        double = lambda tree: jax.tree.map(  # noqa: E731
            lambda x: jnp.asarray(np.asarray(x), jnp.float64) if x.dtype == jnp.float32 else jnp.asarray(x), tree
        )
        params, first, second, validation, theta, direction = map(
            double, (params, first, second, validation, theta, direction)
        )

        @jax.jit
        def judged(distance):
            moved = jax.tree.map(lambda x, d: x + distance * d, theta, direction)
            _, state = rule.birth(moved, policy, KEY)
            agent, state, _ = rule.update(moved, params, double_state(state), first, policy, KEY)
            agent, state, _ = rule.update(moved, agent, state, second, policy, KEY)
            log_prob = policy.unroll(agent, validation).policy.log_prob(validation.action)
            return -jnp.mean(validation.reward * log_prob)

        exact = float(jax.jit(jax.grad(judged))(jnp.float64(0.0)))
        step = 1e-5
        difference = float(judged(jnp.float64(step)) - judged(jnp.float64(-step))) / (2 * step)
    assert abs(difference) > 1e-5
    assert exact == pytest.approx(difference, rel=1e-5)


def double_state(state):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), state)
