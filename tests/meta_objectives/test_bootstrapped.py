"""Against the quadratic whose meta-gradients are known (O8), and the identity with the meta-gradient it bootstraps."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.distributions import Categorical, Normal
from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Sgd
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.lpg import LPG
from learned_rl.types import Heads, Outputs
from meta_objectives.bootstrapped import Bootstrapped
from meta_objectives.matching import View, Weighted, parameter_error, policy_kl, reverse_policy_kl, value_error
from meta_objectives.outer_critic import OuterCritic
from meta_objectives.problem import History, MetaObjective, MetaProblem
from meta_objectives.validation import PolicyGradientSurrogate
from tests.enumeration import Logits, Written
from tests.probes import Arms, MatchCue, jitter
from truncation import TruncatedBackprop
from truncation.problem import Segment

KEY = jax.random.key(0)
CURVATURE, START, STEP = np.array([1.0, 0.1]), np.array([1.0, 10.0]), 0.5


class Quadratic:
    """f = x' H x / 2 of the agent's parameters."""

    def start(self, lifetime, key):
        return ()

    def judge(self, lifetime, theta, agent, history, state, key):
        return Segment(0.5 * jnp.sum(CURVATURE * agent.params**2), {}), ()


@dataclass(frozen=True)
class Descent:
    """x <- x - e^theta H x, whatever is seen."""

    heads = Heads()

    def init(self, key):
        return jnp.log(jnp.asarray(STEP))

    def birth(self, theta, policy, key):
        return policy.init(key), ()

    def update(self, theta, params, state, rollout, policy, key):
        return params - jnp.exp(theta) * CURVATURE * params, (), {}


def quadratic_gradient(objective, updates):
    """Of one segment of K updates, through the real problem and estimator, in float64."""
    with jax.enable_x64(True):
        lifetime = Lifetime(Arms(), Descent(), Logits(tuple(START)), streams=1, steps=1, updates=updates)
        problem = MetaProblem(lifetime, objective, updates)
        estimator = TruncatedBackprop(1, 1, 1)
        theta = Descent().init(None)
        return float(jax.jit(lambda theta: estimator.estimate(problem, theta, None, KEY)[0].gradient)(theta))


def descended(updates):
    return (1 - STEP * CURVATURE) ** updates * START


def sensitivity(updates):
    """d x_K / d theta."""
    return -updates * STEP * CURVATURE * (1 - STEP * CURVATURE) ** (updates - 1) * START


PUBLISHED = {  # K -> the meta-gradient, {L: bootstrapped}
    1: (-0.725, {1: -0.3625, 5: -1.316728, 20: -3.297192}),
    2: (-0.982375, {}),
    5: (-1.580506, {1: -0.790253, 5: -3.569091, 20: -10.112730}),
    50: (-0.155803, {}),
}


@pytest.mark.parametrize("updates", PUBLISHED)
def test_the_quadratic(updates):
    published, bootstrapped = PUBLISHED[updates]
    exact = np.sum(CURVATURE * descended(updates) * sensitivity(updates))
    assert exact == pytest.approx(published, abs=6e-7)
    assert quadratic_gradient(Quadratic(), updates) == pytest.approx(exact, abs=1e-10)
    for ahead, published in bootstrapped.items():
        target = (1 - STEP * CURVATURE) * descended(updates + ahead - 1)
        exact = np.sum((descended(updates) - target) * sensitivity(updates))
        assert exact == pytest.approx(published, abs=6e-7)
        objective = Bootstrapped(Quadratic(), ahead, parameter_error, learning_rate=STEP)
        assert quadratic_gradient(objective, updates) == pytest.approx(exact, abs=1e-10)


def test_without_a_base_every_update_is_the_rule_s_own():
    objective = Bootstrapped(None, 3, parameter_error)
    exact = np.sum((descended(2) - descended(5)) * sensitivity(2))
    assert quadratic_gradient(objective, 2) == pytest.approx(exact, abs=1e-10)


# On real agents.

RULE = ActorCritic(Coefficients(learning_rate=0.3, entropy=0.0), Sgd())
NETWORK = Written(Network(MLP(()), separate=False), samples=True)
SURROGATE = PolicyGradientSurrogate(OuterCritic(NETWORK, epochs=1))


@functools.cache
def grown(rule=RULE):
    """A lifetime, and an agent that has done something."""
    lifetime = Lifetime(MatchCue(2), rule, NETWORK, streams=8, steps=8, updates=4)

    @jax.jit
    def make(key):
        theta = rule.init(key)
        agent = lifetime.start(theta, key)
        agent = agent._replace(params=jitter(agent.params, key, 0.5))
        return theta, agent, History(lifetime.act(agent, key)[1], {})

    return lifetime, *make(KEY)


def judged(objective, rule=RULE):
    """`(params, key) -> loss`."""
    lifetime, theta, agent, history = grown(rule)
    state = objective.start(lifetime, KEY)

    def loss(params, key=KEY):
        return objective.judge(lifetime, theta, agent._replace(params=params), history, state, key)[0].loss

    return loss


def test_one_update_ahead_and_euclidean_it_is_alpha_times_the_gradient_of_its_base():
    params = grown()[2].params
    objective = Bootstrapped(SURROGATE, 1, parameter_error, learning_rate=0.25)
    found = jax.jit(jax.grad(judged(objective)))(params)
    meta = jax.jit(jax.grad(judged(SURROGATE)))(params, jax.random.split(KEY, 3)[2])
    assert max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(meta)) > 1e-2
    jax.tree.map(lambda f, m: np.testing.assert_allclose(f, 0.25 * m, rtol=1e-4, atol=1e-6), found, meta)


def test_the_target_is_where_the_rule_takes_the_agent():
    """Transcribed: L updates one by one, and the divergence on fresh steps of the judged agent."""
    lifetime, _, agent, _ = grown()
    key_states, key_ahead, _ = jax.random.split(KEY, 3)

    @jax.jit
    def expected(target):
        for key in jax.random.split(key_ahead, 2):
            target = lifetime.live((), target, key)[0]
        rollout = lifetime.act(agent, key_states)[1]
        ahead, here = (lifetime.policy.unroll(params, rollout).policy for params in (target.params, agent.params))
        return jnp.mean(ahead.kl(here)), jnp.mean(here.kl(ahead))

    @jax.jit
    def found(params):
        return tuple(judged(Bootstrapped(None, 2, match))(params) for match in (policy_kl, reverse_policy_kl))

    np.testing.assert_allclose(found(agent.params), expected(agent), rtol=1e-3)
    assert min(expected(agent)) > 1e-4


def test_matching_pulls_towards_the_target_alone():
    """The target is constant: the gradient of KL(target || agent) in the logits is pi_agent - pi_target."""
    logits = jnp.array([[0.3, -0.2, 0.1], [1.0, 0.0, -1.0]])
    further = logits + jnp.array([0.5, -0.5, 0.0])

    def view(logits, value=0.0):
        return View(logits, Outputs(Categorical(logits), {"value": jnp.full((2, 1), value)}, {}))

    found = jax.grad(lambda x: policy_kl(view(further), view(x)))(logits)
    np.testing.assert_allclose(found, (jax.nn.softmax(logits) - jax.nn.softmax(further)) / 2, atol=1e-6)
    assert policy_kl(view(further), view(logits)) == pytest.approx(
        float(reverse_policy_kl(view(logits), view(further)))
    )
    assert policy_kl(view(further), view(logits)) != reverse_policy_kl(view(further), view(logits))
    assert value_error(view(logits, 2.0), view(logits, 0.5)) == pytest.approx(0.5 * 1.5**2)
    assert parameter_error(view(further), view(logits)) == pytest.approx(0.5)
    both = Weighted(((2.0, policy_kl), (0.5, value_error)))
    expected = 2 * policy_kl(view(further), view(logits)) + 0.5 * 0.5 * 2.0**2
    assert both(view(further, 2.0), view(logits, 0.0)) == pytest.approx(float(expected))


def test_of_normals_both_directions_are_the_closed_form():
    def view(mean, log_std):
        return View((), Outputs(Normal(jnp.full((1, 1), mean), jnp.full((1, 1), log_std)), {}, {}))

    target, agent = view(0.5, 0.0), view(-0.5, np.log(2.0))
    assert policy_kl(target, agent) == pytest.approx(np.log(2) + (1 + 1) / 8 - 0.5)
    assert reverse_policy_kl(target, agent) == pytest.approx(-np.log(2) + (4 + 1) / 2 - 0.5)


def test_what_the_target_is_made_of_carries_no_gradient():
    """In theta, with params held constant, everything that is left is the target."""
    objective = Bootstrapped(Quadratic(), 3, parameter_error)
    lifetime = Lifetime(Arms(), Descent(), Logits(tuple(START)), streams=1, steps=1, updates=2)
    theta = Descent().init(None)
    agent = lifetime.start(theta, KEY)

    def loss(theta):
        return objective.judge(lifetime, theta, agent, None, (), KEY)[0].loss

    assert loss(theta) > 0
    assert jax.grad(loss)(theta) == 0


def test_the_critic_of_the_base_goes_on_and_its_metrics_are_reported():
    objective = Bootstrapped(SURROGATE, 2)
    assert isinstance(objective, MetaObjective)
    lifetime, _, agent, history = grown()

    @jax.jit
    def judge():
        return objective.judge(lifetime, (), agent, history, objective.start(lifetime, KEY), KEY)

    segment, after = judge()
    assert {"target_loss", "critic_loss", "validation_entropy"} == set(segment.metrics)
    assert after.moments.updates == 1
    assert Bootstrapped(None).start(lifetime, KEY) == ()


def test_bad_settings_are_refused():
    for settings in ({"updates": 0}, {"learning_rate": 0.0}):
        with pytest.raises(ValueError, match="must be >= 1 and"):
            Bootstrapped(**settings)
    rule = LPG(predictions=2, hidden=2)
    with pytest.raises(ValueError, match="no head 'value'; it has: prediction"):
        jax.eval_shape(judged(Bootstrapped(None, 1, value_error), rule), grown(rule)[2].params)
