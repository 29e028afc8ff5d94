"""The bridge, against learned_optimization's own estimators. Skipped, with the command, where it is not installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import Mixed, Ramp, Terminal, mixed_theta
from truncation import PersistentES, TruncatedBackprop
from truncation.learned_optimization import INSTALL, ImportedStep, export, importable


@pytest.fixture
def peer():
    """Its modules for PES and gradient learners."""
    try:
        with importable():
            from learned_optimization.outer_trainers import gradient_learner, truncated_pes, truncated_step  # noqa: F401
    except ImportError as missing:
        pytest.skip(str(missing))
    return truncated_pes, gradient_learner


def test_what_is_missing_is_said_with_the_command():
    with pytest.raises(ImportError, match=r"pip install .*git") as raised, importable():
        import learned_optimization.no_such_module  # noqa: F401
    assert INSTALL in str(raised.value)


def peer_estimates(peer, step, theta, window, std, estimates):
    """Gradients of its PES at fixed theta, one after the other."""
    truncated_pes, gradient_learner = peer
    pes = truncated_pes.TruncatedPES(step, trunc_length=window, steps_per_jit=window, std=std)
    weights = gradient_learner.WorkerWeights(theta, None, gradient_learner.OuterState(jnp.int32(0)))
    key = jax.random.PRNGKey(0)

    def one(state, key):
        out, _ = pes.compute_gradient_estimate(weights, key, state, datas_list=[()])
        return out.unroll_state, out.grad

    state = pes.init_worker_state(weights, key)
    return jax.jit(lambda state, keys: jax.lax.scan(one, state, keys)[1])(state, jax.random.split(key, estimates))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("problem", "truth"), [(Terminal(10), 1.0), (Ramp(), 5.5)], ids=["terminal", "mean"])
@pytest.mark.parametrize("window", [5, 1])
def test_its_pes_is_unbiased_for_what_we_export(peer, problem, truth, window):
    # 11 windows are a whole number of cycles of 11 steps. Its own wrapper returns 21 % of the terminal gradient.
    step = export(problem, lambda key: jnp.array(0.3), horizon=10, lives=2000)
    gradients = peer_estimates(peer, step, jnp.array(0.3), window, 0.5, 11 * 10)
    means = np.mean(np.asarray(gradients).reshape(10, 11), axis=1)
    assert np.all(np.isfinite(means))
    error = means.std(ddof=1) / np.sqrt(len(means))
    assert abs(means.mean() - truth) < 4 * error
    assert error < 0.05 * truth


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_lives_of_any_type_can_be_exported(peer):
    step = export(Mixed(), lambda key: mixed_theta(), horizon=3, lives=4)
    theta = step.outer_init(jax.random.PRNGKey(0))
    gradients = peer_estimates(peer, step, theta, 2, 0.1, 6)
    assert all(np.all(np.isfinite(np.asarray(g, np.float32))) for g in jax.tree.leaves(gradients))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_one_of_its_steps_is_a_problem_of_ours(peer):
    # What we export comes back as an inner problem with one more segment (the rebirth): so only its lives are compared.
    step = export(Ramp(), lambda key: jnp.array(0.3), horizon=100, lives=1)
    problem, theta, key = ImportedStep(step), jnp.array(0.3), jax.random.key(0)
    life = problem.start(theta, key)
    life, segment = problem.advance(theta, life, key)  # a rebirth of its own
    assert np.isnan(segment.loss)
    life, segment = problem.advance(theta, life, key)
    np.testing.assert_allclose(segment.loss, 0.3 * 101 / 100, rtol=1e-6)
    with pytest.raises(ValueError, match="num_tasks=2 is not 1"):
        ImportedStep(export(Ramp(), lambda key: jnp.array(0.3), 10, 2))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_learned_optimizer_of_its_own_is_meta_trained_here(peer):
    with importable():
        from learned_optimization.learned_optimizers import base as lopt_base
        from learned_optimization.outer_trainers import lopt_truncated_step
        from learned_optimization.tasks import quadratics

    lopt = lopt_base.LearnableSGD(0.01)
    step = lopt_truncated_step.SimpleVecLOptTruncatedStep(quadratics.QuadraticTask(), lopt, 1, unroll_length=10**6)
    problem, theta = ImportedStep(step), lopt.init(jax.random.PRNGKey(0))
    # Gradient descent on ‖x‖² from x0 ~ N(0, I) in 10 dimensions: L_t = ‖x0‖² r^(2t), r = 1 - 2 exp(theta).
    rate, t = 0.01, np.arange(8)
    truth = np.mean(10 * 2 * t * (1 - 2 * rate) ** (2 * t - 1.0) * -2 * rate)
    for estimator in (TruncatedBackprop(8, 8, 2000), PersistentES(8, 8, 20_000, 0.01)):
        estimate, _ = jax.jit(lambda theta, key, e=estimator: e.estimate(problem, theta, None, key))(
            theta, jax.random.key(0)
        )
        np.testing.assert_allclose(estimate.gradient["log_lr"], truth, rtol=4 * np.sqrt((20 / 100 + 2) / 2000))
