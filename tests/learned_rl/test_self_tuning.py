"""Self-tuning: its gradient against finite differences, and where discounts go on problems whose answer is known."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.distributions import Categorical
from learned_rl.lifetime import Lifetime
from learned_rl.losses import gae
from learned_rl.optimizers import Sgd
from learned_rl.rules.actor_critic import ActorCritic, loss, prepare
from learned_rl.rules.auxiliary_head import AuxiliaryHead
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift
from learned_rl.rules.lpg import LPG
from learned_rl.rules.nested import fed_all, parts
from learned_rl.rules.schedule import Schedule
from learned_rl.rules.self_tuning import SelfTuning
from learned_rl.types import Discrete
from tests.probes import SMALL, Probe, ProbeState, made

KEY = jax.random.key(5)
C = Coefficients(learning_rate=0.1, discount=0.9, trace=0.7, entropy=0.05, value_cost=0.5, clip=0.05)
OUTER = Coefficients(discount=0.97, trace=0.8, entropy=0.02, value_cost=0.3)


@pytest.mark.parametrize(
    "base",
    [
        Drift(coefficients=C, optimizer=Sgd(), epochs=1, minibatches=2),
        AuxiliaryHead(ActorCritic(C, Sgd()), replace(C, discount=0.6, trace=0.9), Sgd()),
    ],
)
def test_the_gradient_of_eta_is_the_finite_difference_through_an_update(base):
    rule = SelfTuning(base, outer=OUTER, rate=1.0, tuner=Sgd())
    network = replace(SMALL, separate=False)  # else auxiliary heads would change nothing that is judged at once
    policy, params, first = made(network, Discrete(3), rule.heads, seed=0)
    _, _, second = made(network, Discrete(3), rule.heads, seed=1)
    with jax.enable_x64(True):
        params, first, second = jax.tree.map(
            lambda x: jnp.asarray(np.asarray(x), jnp.float64) if x.dtype == jnp.float32 else jnp.asarray(x),
            (params, first, second),
        )

        def after_one(eta):
            _, state = rule.birth({"start": eta, "base": ()}, policy, KEY)

            return rule.update({"start": eta, "base": ()}, params, state, first, policy, KEY)[:2]

        @jax.jit
        def step_of_eta(eta):
            agent, state = after_one(eta)
            _, tuned, _ = rule.update({"start": eta, "base": ()}, agent, state, second, policy, KEY)
            return tuned.moved, state.moved, agent

        @jax.jit
        @functools.partial(jax.vmap, in_axes=(0, None))
        def judged(eta, agent):
            return loss(after_one(eta)[0], prepare(agent, OUTER, second, policy), OUTER, second, policy)[0]

        size = rule.init(KEY)["start"].size
        eta, h = jnp.linspace(-0.3, 0.4, size), 1e-5
        found, before_any, agent = step_of_eta(eta)
        above, below = judged(eta + h * jnp.eye(size), agent), judged(eta - h * jnp.eye(size), agent)
        difference = np.asarray(above - below) / (2 * h)
    assert np.all(np.asarray(before_any) == 0)  # nothing is judged before anything was done
    assert np.all(np.abs(difference) > 1e-6)
    np.testing.assert_allclose(found, -difference, rtol=1e-5, atol=1e-9)


def test_earlier_updates_count_as_much_as_is_said():
    policy, params, rollout = made(SMALL, Discrete(3), ActorCritic.heads)

    def sensitivities(decay):
        rule = SelfTuning(ActorCritic(C, Sgd()), learned=("learning_rate", "entropy"), rate=0.0, decay=decay)
        theta = rule.init(KEY)
        _, state = rule.birth(theta, policy, KEY)
        agent, state, _ = rule.update(theta, params, state, rollout, policy, KEY)
        return state.sensitivity, rule.update(theta, agent, state, rollout, policy, KEY)[1].sensitivity

    (first, last), (_, both) = jax.jit(lambda: (sensitivities(0.0), sensitivities(0.5)))()
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(c, 0.5 * a + b, rtol=1e-5, atol=1e-7), first, last, both)


def test_what_tuning_measures_carries_no_meta_gradient():
    policy, params, rollout = made(SMALL, Discrete(3), ActorCritic.heads)
    rule = SelfTuning(ActorCritic(C, Sgd()), learned=("learning_rate", "entropy"), rate=0.0)

    @jax.jit
    @jax.value_and_grad
    def measured(start):
        theta = {"start": start, "base": ()}
        _, state = rule.birth(theta, policy, KEY)
        _, state, _ = rule.update(theta, params, state, rollout, policy, KEY)
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(state.sensitivity))

    size, gradient = measured(jnp.zeros(2))
    assert size > 0
    np.testing.assert_array_equal(gradient, np.zeros(2))


class LateSecret(Probe):
    """A cue is paid at the end. In half of the lives nobody is shown it: V = 0 there, and every reward is noise."""

    def draw(self, key):
        return jnp.asarray(jax.random.bernoulli(key), jnp.float32)

    def reset(self, task, key):
        cue = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
        state = ProbeState(jnp.zeros((), jnp.int32), jnp.stack([cue, task]))
        return state, self.observe(state)

    def observe(self, state):
        return jnp.stack([jnp.prod(state.cue), jnp.asarray(state.time, jnp.float32)])

    def reward(self, task, state, action):
        return jnp.where(state.time == self.length - 1, state.cue[0], 0.0)


def test_the_discount_learns_whether_what_comes_late_is_signal_or_noise():
    """Xu et al. 2018, section 3: discounts rise where later rewards can be told from a state, and fall where not."""
    base = ActorCritic(Coefficients(learning_rate=0.2, discount=0.7, trace=1.0, entropy=0.0, value_cost=1.0), Sgd())
    outer = Coefficients(discount=1.0, trace=1.0, entropy=0.0, value_cost=1.0)
    rule = SelfTuning(base, learned=("discount",), outer=outer, rate=0.05)
    lifetime = Lifetime(LateSecret(3), rule, SMALL, streams=8, steps=6, updates=300)

    @jax.jit
    @jax.vmap
    def live(key):
        theta = rule.init(key)

        def update(agent, key):
            agent, _, metrics = lifetime.live(theta, agent, key)
            return agent, metrics["tuned_discount"]

        agent = lifetime.start(theta, key)
        return agent.task, jax.lax.scan(update, agent, jax.random.split(key, lifetime.updates))[1][-1]

    shown, discount = map(np.asarray, live(jax.random.split(KEY, 8)))
    assert 0 < shown.sum() < 8
    assert np.all(discount[shown == 1] > 0.95), discount
    assert np.all(discount[shown == 0] < 0.4), discount


def test_what_cannot_be_tuned_is_refused():
    with pytest.raises(ValueError, match="a LPG has no coefficients"):
        SelfTuning(LPG())
    with pytest.raises(ValueError, match="'gamma' is not a coefficient"):
        SelfTuning(learned=("gamma",))
    with pytest.raises(ValueError, match="each coefficient once"):
        SelfTuning(learned=("trace", "trace"))
    with pytest.raises(ValueError, match=r"decay is in \[0, 1\], not 2"):
        SelfTuning(decay=2.0)


def test_without_a_step_it_is_its_base():
    policy, params, rollout = made(SMALL, Discrete(3), ActorCritic.heads)
    tuned = Schedule(SelfTuning(ActorCritic(C, Sgd()), learned=("trace",), rate=0.0), hidden=2)

    @jax.jit
    def both():
        theta = tuned.init(KEY)
        _, state = tuned.birth(theta, policy, KEY)
        found, _, metrics = tuned.update(theta, params, state, rollout, policy, KEY)
        return found, metrics, ActorCritic(C, Sgd()).update((), params, (), rollout, policy, KEY)[0]

    found, metrics, expected = both()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found, expected)
    assert metrics["tuned_trace"] == metrics["schedule_trace"] == np.float32(C.trace)


def test_heads_are_told_apart_and_each_has_its_own_coefficients():
    rule = SelfTuning(AuxiliaryHead(AuxiliaryHead(ActorCritic(C), replace(C, discount=0.5))), learned=("discount",))
    assert set(rule.heads.flat) == {"value", "value_1", "value_2"}
    assert set(rule.heads.per_action) == {"policy_1", "policy_2"}
    told = rule.coefficients_at(jnp.array([0.0, 1.0, 0.0]))
    odds = np.exp(4 * np.tanh(1 / 4))  # those of 0.5 are one
    assert [float(c.discount) for c in told] == pytest.approx([0.99, odds / (odds + 1), 0.9])
    fed = fed_all(rule.base, "coefficients", told)
    assert [c.discount for c in parts(fed, "coefficients")] == [c.discount for c in told]
    with pytest.raises(ValueError, match="2 values for 3 fields"):
        fed_all(rule.base, "coefficients", told[:2])


def test_an_auxiliary_head_that_acts_learns_what_an_actor_critic_would():
    """On-policy V-trace with a trace of 1 is the lambda-return: the head's targets are those of `ActorCritic`."""
    c = replace(C, trace=1.0)
    head = AuxiliaryHead(ActorCritic(c), c)
    policy, params, rollout = made(SMALL, Discrete(3), head.heads)
    outputs = policy.unroll(params, rollout)
    actor = Categorical(outputs.per_action["policy_1"][..., 0])
    rollout = rollout._replace(behaviour_log_prob=actor.log_prob(rollout.action))
    found = head.targets(params, rollout, policy)
    value = outputs.flat["value_1"][..., 0]
    next_value = policy.unroll_next(params, rollout).flat["value_1"][..., 0]
    _, target = gae(rollout, value, next_value, c.discount, 1.0)
    np.testing.assert_allclose(found.targets, target, rtol=1e-5, atol=1e-6)
    off = head.targets(params, rollout._replace(behaviour_log_prob=rollout.behaviour_log_prob + 0.5), policy)
    assert not np.allclose(off.targets, target)
