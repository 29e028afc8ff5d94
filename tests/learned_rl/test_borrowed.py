"""learned_optimization's architectures as inner optimizers. Skipped, with the command, where it is not installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.export.formats import write
from learned_rl.export.parts import NotExportable, as_optax
from learned_rl.learned_optimizers.borrowed import AdafactorMLP, ElementMLP, LearnableAdam
from learned_rl.learned_optimizers.library import importable
from learned_rl.learned_optimizers.residual import Residual
from learned_rl.lifetime import Lifetime
from learned_rl.rule_file import load_rule, save_rule
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.optimised import Optimised
from tests.probes import SMALL, MatchCue

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ARCHITECTURES = (LearnableAdam(), ElementMLP(6, 1), AdafactorMLP(4, 1))
PARAMS = {"w": jnp.array([[0.3, -0.2], [0.1, 2.0]]), "b": jnp.array([0.5, -1.0]), "scale": jnp.array(0.7)}


@pytest.fixture(scope="module", autouse=True)
def peer():
    try:
        with importable():
            import learned_optimization.learned_optimizers.base  # noqa: F401
    except ImportError as missing:
        pytest.skip(str(missing))


def gradients(count):
    """Of some steps; the last unit of `w` never has one."""
    keys = jax.random.split(jax.random.key(3), count)
    return [{k: jax.random.normal(key, x.shape) * (x != 2.0) for k, x in PARAMS.items()} for key in keys]


@pytest.mark.parametrize("learned", ARCHITECTURES)
def test_at_their_rate_a_step_is_theirs(learned):
    theta = learned.init(jax.random.key(0))
    theirs = learned.made().opt_fn(theta)
    ours, state, opt_state = PARAMS, learned.start(PARAMS), theirs.init(PARAMS, num_steps=1)
    for g in gradients(3):
        ours, state = learned.update(theta, g, state, ours, None, 1e-3)
        opt_state = theirs.update(opt_state, jax.tree.map(lambda x: jnp.where(x == 0, 1e-12, x), g), loss=0.0)
    for name, x in opt_state.params.items():
        np.testing.assert_allclose(ours[name], x, rtol=1e-6, atol=1e-7)
    assert not np.array_equal(ours["w"], PARAMS["w"])
    double, _ = learned.update(theta, gradients(1)[0], learned.start(PARAMS), PARAMS, None, 2e-3)
    single, _ = learned.update(theta, gradients(1)[0], learned.start(PARAMS), PARAMS, None, 1e-3)
    np.testing.assert_allclose(double["b"] - PARAMS["b"], 2 * (single["b"] - PARAMS["b"]), rtol=1e-4)


def test_the_adafactor_mlp_has_the_sizes_and_decays_that_are_theirs():
    from learned_optimization.learned_optimizers.adafac_mlp_lopt import AdafacMLPLOpt

    learned = AdafactorMLP()
    theta = learned.init(jax.random.key(0))
    theirs = AdafacMLPLOpt().opt_fn(theta)
    ours, state, opt_state = PARAMS, learned.start(PARAMS), theirs.init(PARAMS, num_steps=1)
    for g in gradients(2):
        g = jax.tree.map(lambda x: x + 0.1, g)
        ours, state = learned.update(theta, g, state, ours, None, 1e-3)
        opt_state = theirs.update(opt_state, g, loss=0.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), ours, dict(opt_state.params))
    jax.tree.map(np.testing.assert_array_equal, state.rms_rolling.rms, opt_state.rms_rolling.rms)


@pytest.mark.parametrize("learned", ARCHITECTURES)
def test_every_number_of_theta_matters_and_has_a_finite_gradient(learned):
    def loss(theta):
        params, state = PARAMS, learned.start(PARAMS)
        for g in gradients(3):
            params, state = learned.update(theta, g, state, params, None, 1.0)
        return sum(jnp.sum(jnp.sin(3 * x)) for x in jax.tree.leaves(params))

    slope = jax.jit(jax.grad(loss))(learned.init(jax.random.key(1)))
    for leaf in jax.tree.leaves(slope):
        assert np.all(np.isfinite(leaf))
        assert np.any(leaf != 0)


@pytest.mark.parametrize("learned", ARCHITECTURES)
@pytest.mark.parametrize("beyond", [-40.0, 40.0])
def test_decays_that_outer_steps_have_driven_too_far_do_no_harm(learned, beyond):
    decays = ("momentum_decays", "rms_decays", "adafactor_decays", "one_minus_beta1", "one_minus_beta2")
    start = learned.init(jax.random.key(0))
    theta = start | {name: jnp.full_like(start[name], beyond) for name in decays if name in start}

    @jax.jit
    @jax.value_and_grad
    def size(theta):
        params, state = PARAMS, learned.start(PARAMS)
        for g in gradients(3):
            params, state = learned.update(theta, g, state, params, None, 1e-3)
        return sum(jnp.sum(jnp.abs(params[k] - PARAMS[k])) for k in PARAMS)

    moved, slope = size(theta)
    assert 0 < moved < 1
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slope))


def test_they_drive_rules_start_as_adam_inside_a_residual_and_are_carried_in_rule_files(tmp_path):
    rule = Optimised(ActorCritic(), Residual(learned=LearnableAdam()))
    theta = rule.init(jax.random.key(0))

    def lived(rule, theta):
        life = Lifetime(MatchCue(2), rule, SMALL, streams=2, steps=3, updates=4)
        agent = life.start(theta, jax.random.key(1))
        for i in range(2):
            agent, _, _ = jax.jit(life.live)(theta, agent, jax.random.key(i))
        return agent.params

    jax.tree.map(np.testing.assert_array_equal, lived(rule, theta), lived(ActorCritic(), ()))
    moved = theta | {"optimizer": theta["optimizer"] | {"gain": jnp.float32(1)}}
    save_rule(rule, moved, tmp_path / "rule")
    loaded = load_rule(tmp_path / "rule")
    assert loaded.rule == rule
    jax.tree.map(np.testing.assert_array_equal, lived(loaded.rule, loaded.theta), lived(rule, moved))
    different = jax.tree.map(lambda a, b: np.any(a != b), lived(rule, moved), lived(rule, theta))
    assert any(jax.tree.leaves(different))


def test_files_that_need_jax_alone_are_refused_and_compiled_code_is_not():
    rule = Optimised(ActorCritic(), Residual(learned=LearnableAdam()))
    theta = rule.init(jax.random.key(0))
    for form in ("optax", "standalone"):
        with pytest.raises(NotExportable, match="runs code of learned_optimization; --to stablehlo"):
            write(rule, theta, "rule", {}, form)
    tx = as_optax(rule, theta)
    moved, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    assert jax.tree.structure(moved) == jax.tree.structure(PARAMS)
