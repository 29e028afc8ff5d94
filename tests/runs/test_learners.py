"""The two outer learners on problems of which everything is known."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from runs.checkpoints import Checkpoints
from runs.errors import ConfigurationError
from runs.learners import Evolution, GradientDescent, behind_the_worst, centred_ranks
from truncation import Segment, TruncatedBackprop

THETA = {"b": jnp.float32(0.0), "w": jnp.zeros(3)}


@dataclass(frozen=True)
class Bowl:
    """L = scale |theta - centre|^2, and nan for whoever steps beyond `edge`."""

    centre: float = 1.0
    scale: float = 1.0
    edge: float = np.inf

    def start(self, theta, key):
        return jnp.zeros(())

    def advance(self, theta, life, key):
        flat = jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(theta)])
        loss = self.scale * jnp.sum((flat - self.centre) ** 2)
        return life, Segment(jnp.where(jnp.max(flat) > self.edge, jnp.nan, loss), {})


def run(learner, problems, steps, theta=THETA, key=0):
    """`(state, metrics of the last step, the jitted step)`."""
    state = jax.jit(lambda key: learner.init(problems, theta, key))(jax.random.key(key))
    step = jax.jit(partial(learner.step, problems))
    metrics = {}
    for number in range(steps):
        state, metrics = step(state, jax.random.fold_in(jax.random.key(key), number))
    return state, metrics, step


def loss_at(theta, centre=1.0):
    return float(sum(np.sum((np.asarray(x) - centre) ** 2) for x in jax.tree.leaves(theta)))


@pytest.mark.parametrize("strategy", ["Open_ES", "SNES", "CMA_ES", "PGPE", "LES"])
def test_every_kind_of_strategy_learns_compiles_once_and_comes_back_from_a_checkpoint(strategy, tmp_path):
    learner = Evolution(strategy, population=16, horizon=2, std=0.3, learning_rate=0.05)
    problems = [("bowl", Bowl())]
    state, metrics, step = run(learner, problems, 60)
    assert step._cache_size() == 1
    assert loss_at(learner.theta(state)) < 0.25 * loss_at(THETA)
    assert jax.tree.structure(learner.theta(state)) == jax.tree.structure(THETA)
    assert float(metrics["meta/dead"]) == 0

    Checkpoints(tmp_path).save(60, state, {})
    shapes = jax.eval_shape(lambda key: learner.init(problems, THETA, key), jax.random.key(0))
    found = Checkpoints(tmp_path).latest(shapes)
    assert found is not None
    key = jax.random.key(9)
    for a, b in zip(jax.tree.leaves(step(state, key)), jax.tree.leaves(step(found[1], key)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_what_a_window_estimator_or_a_mistyped_strategy_is_told():
    for name, hint in [("OpenES", "perhaps you meant Open_ES"), ("PersistentES", "cannot be used"), ("PSO", "allowed")]:
        with pytest.raises(ConfigurationError, match=hint) as caught:
            run(Evolution(name, population=8, horizon=1), [("bowl", Bowl())], 0)
        assert str(caught.value).startswith("outer.strategy: ")
    with pytest.raises(ValueError, match="microbatch=3 does not cut 8"):
        Evolution(population=8, microbatch=3)


def test_broken_members_stand_just_behind_the_worst_whatever_the_scale():
    for scale in (1.0, 1e-20, 1e6):
        losses = scale * jnp.array([3.0, jnp.nan, 1.0, jnp.inf, 2.0])
        judged = behind_the_worst(losses)
        np.testing.assert_array_equal(judged[jnp.array([0, 2, 4])], losses[jnp.array([0, 2, 4])])
        assert judged[1] == judged[3]
        assert judged[1] > judged[0]
        np.testing.assert_array_equal(np.argsort(judged)[:3], [2, 4, 0])
        assert float(judged[1] - judged[0]) <= 0.03 * scale + 2e-6
    for equal in (7.0, 1e6):  # nothing to measure a distance by
        judged = behind_the_worst(jnp.array([equal, jnp.nan, equal]))
        assert judged[1] > judged[0]
    assert np.all(np.isfinite(behind_the_worst(jnp.full(4, jnp.nan))))


def test_centred_ranks_sum_to_nothing_and_do_not_depend_on_scale():
    losses = jnp.array([5.0, 1.0, 1.0, -3.0, 9.0])
    np.testing.assert_allclose(centred_ranks(losses), [0.25, -0.125, -0.125, -0.5, 0.5])
    np.testing.assert_array_equal(centred_ranks(losses), centred_ranks(1000 * losses + 7))
    np.testing.assert_array_equal(centred_ranks(jnp.ones(4)), np.zeros(4))


def test_evolution_learns_beside_a_cliff_and_stands_still_when_nobody_lives():
    learner = Evolution("Open_ES", population=32, horizon=1, std=0.3, learning_rate=0.05)
    state, _, _ = run(learner, [("cliff", Bowl(edge=1.05))], 60)
    assert loss_at(learner.theta(state)) < 0.5 * loss_at(THETA)
    doomed = [("doomed", Bowl(edge=-np.inf))]
    before, _, step = run(learner, doomed, 0)
    after, metrics = step(before, jax.random.key(0))
    assert float(metrics["meta/dead"]) == 1
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_no_familys_scale_decides_where_evolution_goes():
    learner = Evolution("SNES", population=32, horizon=1, std=0.2)

    def found(scale):
        problems = [("here", Bowl(1.0, scale)), ("there", Bowl(-1.0))]
        return jax.tree.leaves(learner.theta(run(learner, problems, 20)[0]))

    for a, b in zip(found(1.0), found(1000.0), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def descent(**settings):
    estimator = TruncatedBackprop(horizon=2, window=2, lives=2)
    return GradientDescent(estimator, **{"learning_rate": 0.05, "max_norm": 1e9} | settings)


def test_no_familys_scale_decides_where_descent_goes():
    def found(scale, **settings):
        learner = descent(**settings)
        problems = [("near", Bowl(1.0, scale)), ("far", Bowl(2.0))]
        return np.asarray(learner.theta(run(learner, problems, 10)[0])["w"])

    np.testing.assert_allclose(found(1.0), found(1000.0), rtol=1e-5)
    raw = {"transform": optax.identity, "learning_rate": 1e-4}  # the normalisation is what did it
    assert np.all(np.abs(found(1000.0, **raw) - found(1.0, **raw)) > 0.1)


def test_a_dead_family_sits_out_and_leaves_its_weight_to_the_others():
    healthy, dead = ("healthy", Bowl()), ("dead", Bowl(edge=-np.inf))
    alone, _, _ = run(descent(), [healthy], 5)
    beside, metrics, _ = run(descent(), [healthy, dead], 5)
    np.testing.assert_array_equal(alone.theta["w"], beside.theta["w"])
    assert float(metrics["inner/dead/dead"]) == 1
    assert float(metrics["meta/dead"]) == 0.5
    for before, after in zip(
        jax.tree.leaves(run(descent(), [dead], 0)[0].moments), jax.tree.leaves(beside.moments[1]), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_when_every_family_is_dead_theta_keeps_every_bit():
    theta = {"b": jnp.float32(-0.0), "w": jnp.array([1e-30, 0.1, -3.0])}
    state, _, _ = run(descent(decay=0.9), [("dead", Bowl(edge=-np.inf))], 3, theta)
    for name in theta:
        assert np.asarray(state.theta[name]).tobytes() == np.asarray(theta[name]).tobytes()


def test_the_learning_rate_decays_per_step_and_clipping_bounds_a_familys_gradient():
    learner = descent(transform=optax.identity, learning_rate=1.0, decay=0.5, max_norm=0.1)
    problems = [("bowl", Bowl(scale=1e6))]
    first, metrics, step = run(learner, problems, 1)
    second, _ = step(first, jax.random.key(1))
    assert float(metrics["meta/gradient_norm"]) > 1e6
    lengths = [
        optax.tree.norm(jax.tree.map(jnp.subtract, a.theta, {"b": b["b"], "w": b["w"]}))
        for a, b in [(first, THETA), (second, first.theta)]
    ]
    np.testing.assert_allclose(lengths, [0.1, 0.05], rtol=1e-5)
