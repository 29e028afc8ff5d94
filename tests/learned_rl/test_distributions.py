"""Against scipy, enumeration and Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from learned_rl.distributions import Categorical, Normal, action_noise
from learned_rl.types import Continuous, Discrete

LOGITS, OTHER = jnp.array([0.3, -1.2, 2.0, 0.0]), jnp.array([-0.5, 0.4, 0.1, 1.0])
MEAN, LOG_STD = jnp.array([0.3, -1.0]), jnp.array([-0.4, 0.6])


def test_categorical_probabilities_sum_to_one_and_match_softmax():
    p = jnp.exp(jax.vmap(Categorical(LOGITS).log_prob)(jnp.arange(4)))
    np.testing.assert_allclose(p, scipy.special.softmax(LOGITS), rtol=1e-5)


def test_categorical_entropy_and_divergence_match_scipy():
    p, q = scipy.special.softmax(LOGITS), scipy.special.softmax(OTHER)
    assert Categorical(LOGITS).entropy() == pytest.approx(scipy.stats.entropy(p), rel=1e-5)
    assert Categorical(LOGITS).kl(Categorical(OTHER)) == pytest.approx(scipy.stats.entropy(p, q), rel=1e-5)
    assert Categorical(LOGITS).kl(Categorical(LOGITS + 5.0)) == pytest.approx(0, abs=1e-6)


def test_categorical_is_finite_where_an_action_has_no_probability():
    sure = Categorical(jnp.array([0.0, -1e30]))
    assert sure.entropy() == 0.0
    assert jnp.all(jnp.isfinite(jax.grad(lambda x: Categorical(x).entropy())(sure.logits)))


def test_normal_density_entropy_and_divergence_match_scipy():
    normal, other = Normal(MEAN, LOG_STD), Normal(MEAN + 0.7, LOG_STD - 0.3)
    scipy_normal = scipy.stats.multivariate_normal(np.array(MEAN), np.diag(np.exp(2 * np.array(LOG_STD))))
    action = jnp.array([0.1, 0.9])
    assert normal.log_prob(action) == pytest.approx(scipy_normal.logpdf(action), rel=1e-5)
    assert normal.entropy() == pytest.approx(scipy_normal.entropy(), rel=1e-5)
    draws = scipy_normal.rvs(200_000, random_state=0)
    gaps = jax.vmap(lambda a: normal.log_prob(a) - other.log_prob(a))(jnp.asarray(draws, jnp.float32))
    assert abs(float(normal.kl(other)) - gaps.mean()) < 5 * gaps.std() / len(draws) ** 0.5


@pytest.mark.parametrize("distribution", [Categorical(LOGITS), Normal(MEAN, LOG_STD)])
def test_samples_have_the_entropy_that_is_claimed(distribution):
    samples = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), 50_000))
    surprise = -jax.vmap(distribution.log_prob)(samples)
    assert abs(float(distribution.entropy()) - surprise.mean()) < 5 * surprise.std() / len(surprise) ** 0.5


@pytest.mark.parametrize("distribution", [Categorical(LOGITS), Normal(MEAN, LOG_STD)])
def test_the_mode_is_the_likeliest_action(distribution):
    samples = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(1), 1000))
    assert distribution.log_prob(distribution.mode()) >= jax.vmap(distribution.log_prob)(samples).max()


@pytest.mark.parametrize("actions", [Discrete(5), Continuous(2, (-1.0, -1.0), (1.0, 1.0))], ids=["discrete", "real"])
def test_noise_drawn_beforehand_makes_the_same_samples(actions):
    key = jax.random.key(3)
    if isinstance(actions, Discrete):
        policy = Categorical(jax.random.normal(key, (7, 5)))
        np.testing.assert_array_equal(policy.sample(key), jax.random.categorical(key, policy.logits))
    else:
        policy = Normal(jax.random.normal(key, (7, 2)), jnp.full((7, 2), -0.5))
    np.testing.assert_array_equal(policy.perturbed(action_noise(actions, key, (7,))), policy.sample(key))
