"""Partners take the published step, and learn what pays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.jaxmarl_tasks import JaxMARLFamily
from learned_rl.partners import DISCOUNT, Lesson, Partner, act, born, learn

KEY = jax.random.key(0)


def features(obs):
    return jnp.append(obs / jnp.maximum(1.0, jnp.linalg.norm(obs)), 1.0)


@pytest.mark.parametrize("done", [False, True])
def test_a_step_is_that_of_one_step_actor_critic(done):
    rng = np.random.default_rng(0)
    partner = Partner(jnp.asarray(rng.normal(size=(3, 5))), jnp.asarray(rng.normal(size=5)))
    obs, following = jnp.asarray(3 * rng.normal(size=4)), jnp.asarray(0.1 * rng.normal(size=4))
    new = learn(partner, jnp.float32(0.1), Lesson(obs, jnp.int32(2), jnp.float32(1.5), jnp.bool_(done), following))

    def value(v, o):
        return v @ features(o)

    target = 1.5 + (0.0 if done else DISCOUNT * value(partner.value, following))
    surprise = target - value(partner.value, obs)
    score = jax.grad(lambda p: jax.nn.log_softmax(p @ features(obs))[2])(partner.policy)
    np.testing.assert_allclose(new.policy, partner.policy + 0.1 * surprise * score, rtol=1e-5, atol=1e-6)
    slope = jax.grad(value)(partner.value, obs)
    np.testing.assert_allclose(new.value, partner.value + 0.1 * surprise * slope, rtol=1e-5, atol=1e-6)


def test_it_comes_to_do_what_pays_in_what_it_sees():
    sights = jnp.eye(2)

    def step(partner, key):
        key_sight, key_act = jax.random.split(key)
        sight = jax.random.randint(key_sight, (), 0, 2)
        action = act(partner, sights[sight], key_act)
        reward = jnp.float32(action == sight)
        return learn(
            partner, jnp.float32(0.3), Lesson(sights[sight], action, reward, jnp.bool_(True), sights[0])
        ), reward

    _, rewards = jax.jit(lambda key: jax.lax.scan(step, born(key, 2, 2), jax.random.split(key, 1000)))(KEY)
    assert rewards[-200:].mean() > 0.9 > rewards[:50].mean()


def test_impossible_company_is_refused():
    with pytest.raises(ValueError, match="rounds"):
        JaxMARLFamily("coin_game", rounds=0)
