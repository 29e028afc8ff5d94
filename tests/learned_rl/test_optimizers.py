"""Forward exactly the textbook's; backward finite where the textbook's is not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_rl.optimizers import Adam, ElementClippedAdam, Sgd, clip_by_global_norm

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.1, 0.0])}


def gradients(count, scale=1.0):
    rng = np.random.default_rng(0)
    return [
        jax.tree.map(lambda p: scale * jnp.asarray(rng.normal(size=p.shape), jnp.float32), PARAMS) for _ in range(count)
    ]


@pytest.mark.parametrize("max_norm", [0.0, 0.5])
@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_adam_is_optax_adam(max_norm, scale):
    ours = Adam(b1=0.8, b2=0.95, eps=1e-5, max_norm=max_norm)
    clip = optax.clip_by_global_norm(max_norm) if max_norm else optax.identity()
    theirs = optax.chain(clip, optax.adam(1e-2, b1=0.8, b2=0.95, eps=1e-5))
    params, state = PARAMS, ours.init(PARAMS)
    expected, their_state = PARAMS, theirs.init(PARAMS)
    for gradient in gradients(20, scale):
        params, state = ours.update(gradient, state, params, 1e-2)
        updates, their_state = theirs.update(gradient, their_state, expected)
        expected = optax.apply_updates(expected, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), params, expected)


def test_element_clipped_adam_clips_the_step_before_the_learning_rate():
    ours = ElementClippedAdam(max_step=0.8)
    theirs = optax.chain(optax.scale_by_adam(), optax.clip(0.8), optax.scale(-1e-2))
    params, state = PARAMS, ours.init(PARAMS)
    expected, their_state = PARAMS, theirs.init(PARAMS)
    clipped = 0
    for gradient in gradients(20):
        before = params
        params, state = ours.update(gradient, state, params, 1e-2)
        updates, their_state = theirs.update(gradient, their_state, expected)
        expected = optax.apply_updates(expected, updates)
        clipped += sum(
            int(jnp.sum(jnp.abs(a - b) > 0.00799)) for a, b in zip(params.values(), before.values(), strict=True)
        )
    assert 3 < clipped < 100
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), params, expected)


def test_sgd_is_exact():
    (gradient,) = gradients(1)
    params, state = Sgd().update(gradient, (), PARAMS, 0.25)
    assert state == ()
    jax.tree.map(lambda p, g, q: np.testing.assert_array_equal(p - 0.25 * g, q), PARAMS, gradient, params)


def test_clipping_matches_optax_and_leaves_small_gradients_alone():
    for scale in (1e-4, 10.0):
        (gradient,) = gradients(1, scale)
        expected, _ = optax.clip_by_global_norm(0.5).update(gradient, optax.EmptyState())
        found = clip_by_global_norm(gradient, 0.5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    jax.tree.map(lambda a: np.testing.assert_array_equal(a, 0), clip_by_global_norm(zero, 0.5))
    assert clip_by_global_norm(gradient, 0.0) is gradient


@pytest.mark.parametrize("max_norm", [0.0, 0.5])
def test_meta_gradients_through_adam_are_finite_at_a_zero_gradient(max_norm):
    optimizer = Adam(max_norm=max_norm)

    def adapted(theta):
        # `b` never gets a gradient: its second moment stays 0, where the square root has no derivative.
        params, state = PARAMS, optimizer.init(PARAMS)
        for gradient in gradients(3):
            gradient = {"w": theta * gradient["w"] * 0.0, "b": theta * jnp.zeros(2)}
            params, state = optimizer.update(gradient, state, params, 1e-2)
        return sum(jnp.sum(p) for p in jax.tree.leaves(params))

    assert jnp.isfinite(jax.grad(adapted)(1.0))
    # The textbook's own is not, or this test shows nothing.
    theirs = optax.adam(1e-2, eps_root=0.0)

    def textbook(theta):
        updates, _ = theirs.update({"w": theta * jnp.zeros((2, 2)), "b": theta * jnp.zeros(2)}, theirs.init(PARAMS))
        return sum(jnp.sum(u) for u in jax.tree.leaves(updates))

    assert not jnp.isfinite(jax.grad(textbook)(1.0))


def test_the_meta_gradient_takes_the_path_of_the_first_moment_and_the_learning_rate():
    optimizer = Adam(b1=0.9, eps=1e-5, max_norm=0.0)
    (gradient,) = gradients(1)

    def moved(scale, learning_rate):
        params, _ = optimizer.update(
            jax.tree.map(lambda g: scale * g, gradient), optimizer.init(PARAMS), PARAMS, learning_rate
        )
        return params["w"][0, 0]

    g = float(gradient["w"][0, 0])
    by_scale, by_rate = jax.grad(moved, argnums=(0, 1))(1.0, 0.1)
    # First step: m/bias1 = g and sqrt(v/bias2) = |g|.
    assert by_scale == pytest.approx(-0.1 * g / (abs(g) + 1e-5), rel=1e-4)
    assert by_rate == pytest.approx(-g / (abs(g) + 1e-5), rel=1e-4)
