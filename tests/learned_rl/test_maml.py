"""MAML: what newborns are, what rates do, and its meta-gradient against every history that a life can have."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.blueprint import Blueprint
from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Adam, Sgd
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.maml import MAML
from learned_rl.rules.none import NoLearning
from learned_rl.types import Discrete, Heads
from meta_objectives.fresh import OnFreshSteps
from meta_objectives.history import HistoryActorCritic, plain
from meta_objectives.problem import MetaProblem
from meta_objectives.sampling import SamplingCorrected
from tests.enumeration import Bandit, Written, double, expectation, expected_loss, tables
from tests.probes import SMALL, MatchCue, jitter, made, noisy
from truncation import TruncatedBackprop

KEY = jax.random.key(0)
BLUEPRINT = Blueprint(SMALL, (2,), Discrete(2))


def equal(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.mark.parametrize("per_parameter", [True, False])
@pytest.mark.parametrize("optimizer", [Sgd(max_norm=0.5), Adam()])
def test_untrained_it_is_the_rule_inside(optimizer, per_parameter):
    base = ActorCritic(optimizer=optimizer)
    rule = MAML(base, BLUEPRINT, per_parameter)
    policy, params, rollout = made(SMALL, Discrete(2), base.heads)

    @jax.jit
    def both(key):
        theta = rule.init(key) | {"initial": params}
        agents = [(rule, theta, *rule.birth(theta, policy, key)), (base, (), params, base.optimizer.init(params))]
        return [r.update(t, p, state, rollout, policy, key) for r, t, p, state in agents]

    equal(*both(KEY), atol=1e-6)


def test_rates_multiply_what_is_moved_parameter_by_parameter():
    rule = MAML(ActorCritic(Coefficients(learning_rate=0.3), Sgd()), BLUEPRINT)
    policy, params, rollout = made(SMALL, Discrete(2), rule.heads)

    @jax.jit
    def moved(rates):
        theta = {"base": (), "initial": params, "rates": rates}
        after, _, _ = rule.update(theta, params, (), rollout, policy, KEY)
        return jax.tree.map(lambda a, p: a - p, after, params)

    once = moved(jax.tree.map(jnp.ones_like, params))
    rates = jitter(jax.tree.map(jnp.zeros_like, params), KEY, 2.0)
    equal(moved(rates), jax.tree.map(jnp.multiply, rates, once), atol=2e-7)
    assert all(np.any(x) for x in jax.tree.leaves(once))


@dataclass(frozen=True)
class Anchored:
    """A rule that remembers what it was born with."""

    optimizer: object = Sgd()

    @property
    def heads(self):
        return Heads(flat={"value": 1})

    def init(self, key):
        return ()

    def birth(self, theta, policy, key):
        params = policy.init(key)
        return params, params

    def update(self, theta, params, state, rollout, policy, key):
        return params, state, {}


def test_newborns_are_what_was_learned_also_to_a_rule_that_remembers_it():
    rule = MAML(Anchored(), BLUEPRINT)
    policy = SMALL.build((2,), Discrete(2), rule.heads)
    theta = jax.jit(rule.init)(KEY)
    params, state = jax.jit(lambda key: rule.birth(theta, policy, key))(jax.random.key(7))
    equal(params, theta["initial"], rtol=0)
    equal(state, theta["initial"], rtol=0)


def test_heads_of_a_combinator_around_it_are_born_at_random_and_move_at_rate_one():
    rule = MAML(ActorCritic(optimizer=Sgd()), BLUEPRINT)
    wider = SMALL.build((2,), Discrete(2), Heads(flat={"value": 1, "other": 3}))
    theta = jax.jit(rule.init)(KEY)
    born = jax.jit(jax.vmap(lambda key: rule.birth(theta, wider, key)[0]))(jax.random.split(KEY, 2))
    assert set(born) == {*theta["initial"], "other"}
    assert not np.allclose(born["other"]["kernel"][0], born["other"]["kernel"][1])
    equal({k: born[k] for k in theta["initial"]}, jax.tree.map(lambda x: jnp.stack([x] * 2), theta["initial"]), rtol=0)
    params = jax.tree.map(lambda x: x[0], born)
    _, _, rollout = made(SMALL, Discrete(2), rule.heads)
    after, _, _ = jax.jit(lambda params: rule.update(theta, params, (), rollout, wider, KEY))(params)
    equal(after["other"], params["other"], rtol=0)
    assert np.any(after["value"]["kernel"] != params["value"]["kernel"])


# One life: a pull, an update, a pull, an update, a pull that judges it; every history of them.
INSIDE = ActorCritic(Coefficients(learning_rate=0.7, discount=0.0, entropy=0.1), Sgd())
REACTIVE = Network(MLP((2,)))


def enumerated(objective, updates=2, per_parameter=True):
    rule = MAML(INSIDE, Blueprint(Written(REACTIVE), (3,), Discrete(2)), per_parameter)  # type: ignore[arg-type]

    def problem(table, instead):
        lifetime = Lifetime(Bandit((1.0, -0.5), table), rule, streams=1, steps=1, updates=updates)
        return MetaProblem(lifetime, instead or objective, updates)

    theta = double(noisy(rule.init, KEY, 0.5))
    return problem, tables(2, updates + 1), theta


@pytest.mark.parametrize("per_parameter", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_corrected_meta_gradient_is_the_finite_difference_of_the_exact_return_after_adaptation(per_parameter):
    base = OnFreshSteps(HistoryActorCritic(discount=0.0, entropy=0.0, critic=0.0, scale=2.0, weigh=plain))
    with jax.enable_x64(True):
        problem, histories, theta = enumerated(base, per_parameter=per_parameter)
        directions = [jitter(jax.tree.map(jnp.zeros_like, theta), jax.random.key(k), 1.0) for k in (2, 3)]

        @jax.jit
        def exact(distance, direction):
            moved = jax.tree.map(lambda x, d: x + distance * d, theta, direction)
            return expected_loss(problem, moved, histories, validated=True)

        def gradient(objective):
            judged, _, _ = enumerated(objective, per_parameter=per_parameter)

            def backprop(problem):
                estimator = TruncatedBackprop(horizon=1, window=1, lives=1)
                state = estimator.init(problem, theta, KEY)
                return estimator.estimate(problem, theta, state, KEY)[0].gradient

            return jax.jit(lambda: expectation(judged, theta, backprop, histories, validated=True)[0])()

        corrected, published = gradient(SamplingCorrected(base)), gradient(base)
        for direction in directions:
            difference = float(exact(1e-5, direction) - exact(-1e-5, direction)) / 2e-5
            found, uncorrected = (
                float(sum(jax.tree.leaves(jax.tree.map(lambda d, g: jnp.sum(d * g), direction, g))))
                for g in (corrected, published)
            )
            assert abs(difference) > 1e-3
            assert found == pytest.approx(difference, rel=1e-7)
            assert abs(uncorrected - difference) > 0.02 * abs(difference)


def test_a_rule_without_an_optimizer_and_tasks_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="a NoLearning has no optimizer that could be fed"):
        MAML(NoLearning())
    with pytest.raises(ValueError, match=r"rule\.blueprint\.obs_shape is \(4,\), but MatchCue has \(2,\)"):
        Lifetime(MatchCue(), MAML())
    rule = replace(MAML(), blueprint=BLUEPRINT)
    wrong = Network(MLP((5,))).build((2,), Discrete(2), rule.heads)
    with pytest.raises(ValueError, match="params"):
        jax.eval_shape(lambda key: rule.birth(rule.init(key), wrong, key), KEY)
