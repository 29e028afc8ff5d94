"""The bridge, against learned_optimization's own estimators. Skipped, with the command, where it is not installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.learned_optimizers.library import INSTALL, importable
from tests.oracles import Inherited, Mixed, Ramp, Terminal, mixed_theta
from truncation import FullES, PersistentES, TruncatedBackprop
from truncation.learned_optimization import ImportedTask, export

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def peer():
    """Its module of that name."""
    try:
        with importable():
            from learned_optimization.learned_optimizers import base as learned
            from learned_optimization.outer_trainers import gradient_learner, truncated_grad, truncated_pes
            from learned_optimization.tasks import base as tasks
            from learned_optimization.tasks import quadratics
    except ImportError as missing:
        pytest.skip(str(missing))
    modules = (learned, gradient_learner, truncated_grad, truncated_pes, tasks, quadratics)
    return {module.__name__.removeprefix("learned_optimization."): module for module in modules}


def test_what_is_missing_is_said_with_the_command():
    with pytest.raises(ImportError, match=r"pip install .*learned-optimization") as raised, importable():
        import learned_optimization.no_such_module  # noqa: F401
    assert INSTALL in str(raised.value)


def test_no_tensorflow_is_left_behind():
    import sys

    before = set(sys.modules)
    with importable():
        pass
    assert not {name for name in set(sys.modules) - before if name.startswith("tensorflow")}


def estimates_of(peer, estimator, theta, estimates):
    """Gradients of one of its estimators at fixed theta, one after the other."""
    learner = peer["outer_trainers.gradient_learner"]
    weights = learner.WorkerWeights(theta, None, learner.OuterState(jnp.int32(0)))
    key = jax.random.PRNGKey(0)

    def one(state, key):
        out, _ = estimator.compute_gradient_estimate(weights, key, state)
        return out.unroll_state, out.grad

    state = jax.tree.map(jnp.asarray, estimator.init_worker_state(weights, key))
    return jax.jit(lambda state, keys: jax.lax.scan(one, state, keys)[1])(state, jax.random.split(key, estimates))


def pes_of(peer, exported, window, std):
    return peer["outer_trainers.truncated_pes"].TruncatedPES(
        *exported, trunc_length=window, steps_per_jit=window, std=std
    )


@pytest.mark.parametrize(
    ("problem", "truth"), [(Terminal(10), 1.0), (Ramp(), 5.5), (Inherited(), 1.0)], ids=["terminal", "mean", "birth"]
)
@pytest.mark.parametrize("window", [5, 4])  # it divides the lifetime, or does not
def test_its_pes_is_unbiased_for_what_we_export(peer, problem, truth, window):
    cycle = -(-10 // window) + 1  # windows
    exported = export(problem, lambda key: jnp.array(0.3), horizon=10, window=window, lives=2000)
    gradients = estimates_of(peer, pes_of(peer, exported, window, 0.5), jnp.array(0.3), cycle * 12)
    means = np.mean(np.asarray(gradients).reshape(12, cycle), axis=1)
    assert np.all(np.isfinite(means))
    error = means.std(ddof=1) / np.sqrt(len(means))
    assert abs(means.mean() - truth) < 4 * error
    assert error < 0.05 * truth


def test_its_pes_alone_loses_most_of_a_terminal_gradient(peer):
    # The same problem with its own reset after the last segment: what the export is for.
    exported = export(Terminal(10), lambda key: jnp.array(0.3), horizon=10, window=5, lives=2000)
    naive = exported._replace(trunc_sched=type(exported.trunc_sched)(10))  # 10 steps, and one for the reset
    gradients = estimates_of(peer, pes_of(peer, naive, 5, 0.5), jnp.array(0.3), 11 * 12)
    means = np.mean(np.asarray(gradients).reshape(12, 11), axis=1) * 11 / 15  # we made losses larger by 15 / 10
    assert np.mean(means) < 0.9


def test_its_truncated_gradient_is_ours(peer):
    exported = export(Ramp(), lambda key: jnp.array(0.3), horizon=6, window=3, lives=2)
    estimator = peer["outer_trainers.truncated_grad"].TruncatedGrad(*exported, unroll_length=3, steps_per_jit=3)
    gradients = estimates_of(peer, estimator, jnp.array(0.3), 3)
    # Windows of segments 1..3 and 4..6, each with gradients 1, 2, 3 of its segments; nothing in the third.
    np.testing.assert_allclose(gradients, np.array([2, 2, 0]) * 9 / 6, rtol=1e-5)


def test_lives_of_any_type_can_be_exported(peer):
    exported = export(Mixed(), lambda key: mixed_theta(), horizon=3, window=2, lives=4)
    theta = exported.learned_opt.init(jax.random.PRNGKey(0))
    gradients = estimates_of(peer, pes_of(peer, exported, 2, 0.1), theta, 6)
    assert all(np.all(np.isfinite(np.asarray(g, np.float32))) for g in jax.tree.leaves(gradients))


def test_windows_that_its_reset_would_fill_are_refused():
    with pytest.raises(ValueError, match=r"window=1 .* at least 1, 2 and 1 are needed"):
        export(Ramp(), lambda key: jnp.array(0.3), horizon=10, window=1, lives=2)


def test_what_we_export_is_a_problem_of_ours_again(peer):
    exported = export(Ramp(), lambda key: jnp.array(0.3), horizon=4, window=2, lives=1)
    problem = ImportedTask(exported.task_family, exported.learned_opt, 4)
    whole, key = FullES(4, 200, 0.5), jax.random.key(0)
    ours, theirs = (
        jax.jit(lambda theta, p=p: whole.estimate(p, theta, None, key)[0].gradient)(jnp.array(0.3))
        for p in (Ramp(), problem)
    )
    np.testing.assert_allclose(theirs, ours * 6 / 4, rtol=1e-4)


def test_a_learned_optimizer_of_its_own_is_meta_trained_here(peer):
    lopt = peer["learned_optimizers.base"].LearnableSGD(0.01)
    family = peer["tasks.base"].single_task_to_family(peer["tasks.quadratics"].QuadraticTask())
    problem, theta = ImportedTask(family, lopt, 8), lopt.init(jax.random.PRNGKey(0))
    # Gradient descent on ‖x‖² from x0 ~ N(0, I) in 10 dimensions: L_t = ‖x0‖² r^(2t), r = 1 - 2 exp(theta).
    rate, t = 0.01, np.arange(8)
    truth = np.mean(10 * 2 * t * (1 - 2 * rate) ** (2 * t - 1.0) * -2 * rate)
    for estimator in (TruncatedBackprop(8, 8, 2000), PersistentES(8, 8, 20_000, 0.01)):
        estimate, _ = jax.jit(lambda theta, key, e=estimator: e.estimate(problem, theta, None, key))(
            theta, jax.random.key(0)
        )
        np.testing.assert_allclose(estimate.gradient["log_lr"], truth, rtol=4 * np.sqrt((20 / 100 + 2) / 2000))


def test_batches_of_data_are_drawn_by_segment(peer):
    class Shifted(peer["tasks.base"].Task):
        def init(self, key):
            return jnp.zeros(())

        def loss(self, params, key, data):
            return params + data

    lopt = peer["learned_optimizers.base"].LearnableSGD(0.0)
    family = peer["tasks.base"].single_task_to_family(Shifted())
    problem = ImportedTask(family, lopt, 8, batches=np.array([1.0, 2.0, 4.0], np.float32))
    theta, key = lopt.init(jax.random.PRNGKey(0)), jax.random.key(0)
    life = problem.start(theta, key)
    losses = [float(problem.advance(theta, life, jax.random.fold_in(key, n))[1].loss) for n in range(20)]
    assert set(losses) == {1.0, 2.0, 4.0}
