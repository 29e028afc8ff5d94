import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import Ramp
from tests.tiny import QUICK, environment
from truncation import FullES, PersistentES, TruncatedBackprop, TruncatedES, evaluate_population
from truncation.lives import on_all_lives, over_lives
from truncation.shaping import centred_ranks, unshaped, z_scores


@pytest.mark.parametrize("microbatch", [0, 1, 3, 12])
def test_over_lives_keeps_the_order_and_adds(microbatch):
    keys = jax.random.split(jax.random.key(0), 12)
    kept, added = over_lives(
        lambda a, x, key: ((a * x, key), {"x": x}), (2,), jnp.arange(12), keys, microbatch=microbatch
    )
    np.testing.assert_array_equal(kept[0], 2 * np.arange(12))
    np.testing.assert_array_equal(jax.random.key_data(kept[1]), jax.random.key_data(keys))
    assert added["x"] == 66
    np.testing.assert_array_equal(on_all_lives(jnp.flip, jnp.arange(12)), np.arange(12)[::-1])


def test_over_lives_names_the_sizes_that_would_do():
    with pytest.raises(ValueError, match=r"microbatch=5 does not cut 12 .* 4, 6 \(0 = all at once\)"):
        over_lives(lambda x: (x, ()), (), jnp.arange(12), microbatch=5)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: TruncatedBackprop(7, 3, 12, microbatch=m),
        lambda m: TruncatedES(6, 3, 12, 0.5, microbatch=m),
        lambda m: PersistentES(7, 3, 12, 0.5, microbatch=m, shaping=centred_ranks),
    ],
)
def test_micro_batches_change_no_number(make):
    def run(microbatch):
        estimator, theta, key = make(microbatch), jnp.array(0.3), jax.random.key(0)
        state = jax.jit(lambda key: estimator.init(Ramp(1.0, 1.0), theta, key))(key)
        return jax.jit(lambda state, key: estimator.estimate(Ramp(1.0, 1.0), theta, state, key))(state, key)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *map(plain, (run(0), run(4))))


def plain(tree):
    return jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree)


def test_shapings_ignore_what_is_invalid_and_give_equal_losses_equal_fitness():
    losses = jnp.array([[3.0, 1.0], [1e9, -1e9], [2.0, 2.0], [5.0, -4.0]])
    valid = jnp.array([True, False, True, True])
    np.testing.assert_array_equal(unshaped(losses, valid), losses)
    ranks = np.asarray(centred_ranks(losses, valid))[np.asarray(valid)]
    np.testing.assert_allclose(ranks, (np.array([[4, 1], [2.5, 2.5], [5, 0]]) / 5) - 0.5)
    scores = np.asarray(z_scores(losses, valid))[np.asarray(valid)]
    kept = np.array([[3.0, 1.0], [2.0, 2.0], [5.0, -4.0]])
    np.testing.assert_allclose(scores, (kept - kept.mean()) / kept.std(), rtol=1e-5)
    assert not np.any(z_scores(jnp.ones((3, 2)), jnp.ones(3, bool)))
    assert np.all(np.isfinite(centred_ranks(losses, jnp.zeros(4, bool))))


def test_shaped_directions_are_those_of_the_gradient():
    def direction(shaping):
        estimate, _ = FullES(4, 4000, 0.1, shaping=shaping).estimate(Ramp(), jnp.array(0.3), None, jax.random.key(0))
        return float(estimate.gradient)

    # Losses are 2.5 ε: their z-scores ε / std, so the gradient 1 / std; ranks of a normal have slope 1 / (2 √π std).
    np.testing.assert_allclose(direction(z_scores), 10, rtol=0.1)
    np.testing.assert_allclose(direction(centred_ranks), 10 / (2 * np.sqrt(np.pi)), rtol=0.1)


def test_members_of_a_population_live_the_same_lives():
    thetas = jnp.array([0.0, 1.0, jnp.nan, 2.0])
    evaluate = jax.jit(evaluate_population, static_argnums=(0, 2, 3, 5))
    losses, metrics = evaluate(Ramp(noise=1.0, spread=1.0), thetas, 4, 3, jax.random.key(0), 0)
    np.testing.assert_allclose(losses[1] - losses[0], 2.5, rtol=1e-5)
    np.testing.assert_allclose(losses[3] - losses[0], 5.0, rtol=1e-5)
    assert np.isnan(losses[2])
    assert np.isfinite(metrics["level"])
    assert metrics["dead"] == 0.25
    assert abs(losses[0]) > 1e-3  # the lives do have noise to share
    np.testing.assert_allclose(evaluate(Ramp(1.0, 1.0), thetas, 4, 3, jax.random.key(0), 2)[0], losses, rtol=1e-5)
    with pytest.raises(ValueError, match="microbatch=3"):
        evaluate_population(Ramp(), thetas, 4, 1, jax.random.key(0), microbatch=3)


DEVICES = """
import hashlib, sys
import jax, jax.numpy as jnp
from jax.sharding import AxisType
from tests.oracles import LinearQuadratic
from truncation import ControlVariateES, NoiseReuseES, PersistentES, TruncatedBackprop, evaluate_population
from truncation import RTRL, ForwardGradient, InverseVariance, LagBackprop, ResidualES, Sliding, WienerTruncation
from truncation.shaping import z_scores

axis = AxisType.Explicit if sys.argv[1] == "explicit" else AxisType.Auto
mesh = jax.make_mesh((jax.device_count(),), ("lives",), axis_types=(axis,))
digest = hashlib.sha256()
with jax.set_mesh(mesh):
    for estimator in (
        TruncatedBackprop(7, 3, 16, microbatch=2, remat=True),
        PersistentES(7, 3, 32, 0.5, microbatch=4, shaping=z_scores),
        NoiseReuseES(6, 3, 16, 0.5, microbatch=4),  # on four devices, one micro-batch each
        WienerTruncation(6, 3, 16, ResidualES(0.5), microbatch=2),
        ControlVariateES(NoiseReuseES(7, 3, 16, 0.5, microbatch=4)),
        LagBackprop(7, 3, 16, Sliding(2), microbatch=2),
        InverseVariance((ForwardGradient(7, 3, 16, microbatch=2), RTRL(7, 3, 16, microbatch=2))),
    )[: int(sys.argv[2])]:
        def step(theta, state, key, estimator=estimator):
            estimate, state = estimator.estimate(LinearQuadratic(), theta, state, key)
            return theta - 0.01 * estimate.gradient, state, estimate
        theta = jnp.array([0.1, -0.2, 0.3])
        step = jax.jit(step, donate_argnums=(0, 1))
        init = jax.jit(lambda key, estimator=estimator: estimator.init(LinearQuadratic(), jnp.zeros(3), key))
        state = jax.block_until_ready(init(jax.random.key(0)))
        for number in range(4):
            theta, state, estimate = jax.block_until_ready(step(theta, state, jax.random.key(number)))
            digest.update(jax.device_get(theta).tobytes() + jax.device_get(estimate.loss).tobytes())
        assert step._cache_size() <= 2, step._cache_size()  # theta is not replicated yet in the first call
    thetas = jnp.linspace(0.0, 1.0, 24).reshape(8, 3)
    losses, _ = jax.jit(lambda key: evaluate_population(LinearQuadratic(), thetas, 3, 2, key, 2))(jax.random.key(0))
    digest.update(jax.device_get(losses).tobytes())
print(jax.device_count(), digest.hexdigest())
"""


# The first four add up over lives in every way that there is; each further one is compiled three times as well.
@pytest.mark.parametrize("estimators", [4, pytest.param(7, marks=pytest.mark.slow)])
def test_one_two_and_four_devices_agree_bitwise(estimators):
    def run(devices, axis):
        flags = f"{QUICK} --xla_force_host_platform_device_count={devices}"
        command = [sys.executable, "-c", textwrap.dedent(DEVICES), axis, str(estimators)]
        env = environment(XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        count, digest = done.stdout.split()
        assert int(count) == devices
        return digest

    assert len({run(1, "auto"), run(2, "explicit"), run(4, "auto")}) == 1
