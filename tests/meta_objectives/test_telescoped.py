"""The sum over a lifetime is the terminal loss, and so is its gradient."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.lifetime import Lifetime
from learned_rl.types import Heads
from meta_objectives.problem import MetaObjective, MetaProblem
from meta_objectives.telescoped import Telescoped
from tests.enumeration import Logits, unrolled
from tests.probes import Arms
from truncation import NoiseReuseES, PersistentES, TruncatedBackprop
from truncation.problem import Segment

KEY = jax.random.key(0)
UPDATES, K = 6, 2


@dataclass(frozen=True)
class Spiral:
    """x <- tanh(A x) + theta[1], born at theta[0]: what is done late is not what was done early."""

    heads = Heads()

    def init(self, key):
        return jnp.array([[0.3, -0.4], [0.2, 0.5]])

    def birth(self, theta, policy, key):
        return theta[0], ()

    def update(self, theta, params, state, rollout, policy, key):
        return jnp.tanh(jnp.array([[0.9, -0.6], [0.5, 0.8]]) @ params) + theta[1], (), {}


class Bowl:
    """||x - 1||^2 / 2, and how often it was asked."""

    def start(self, lifetime, key):
        return jnp.zeros((), jnp.int32)

    def judge(self, lifetime, theta, agent, history, state, key):
        return Segment(0.5 * jnp.sum((agent.params - 1.0) ** 2), {"asked": state}), state + 1


def problem(objective):
    return MetaProblem(Lifetime(Arms(), Spiral(), Logits((0.0, 0.0)), 1, 1, UPDATES), objective, K)


TOLD, PLAIN = problem(Telescoped(Bowl())), problem(Bowl())


def position(theta, updates=UPDATES):
    x = theta[0]
    for _ in range(updates):
        x = Spiral().update(theta, x, (), None, None, None)[0]
    return x


def terminal(theta):
    return 0.5 * jnp.sum((position(theta) - 1.0) ** 2)


def estimate(estimator, theta, problem=TOLD, estimates=1, key=KEY):
    """Mean gradient of consecutive estimates."""

    def step(state, key):
        found, state = estimator.estimate(problem, theta, state, key)
        return state, found.gradient

    keys = jax.random.split(key, estimates + 1)
    return jnp.mean(jax.lax.scan(step, estimator.init(problem, theta, keys[0]), keys[1:])[1], axis=0)


def test_the_mean_over_a_lifetime_is_the_terminal_loss():
    assert isinstance(TOLD.objective, MetaObjective)
    with jax.enable_x64(True):
        theta = Spiral().init(None)
        told, plain = jax.jit(lambda theta: (unrolled(TOLD, theta), unrolled(PLAIN, theta)))(theta)
        np.testing.assert_allclose(told, 3 * np.diff(plain, prepend=0.0), atol=1e-14)
        assert jnp.mean(told) == pytest.approx(float(terminal(theta)), abs=1e-14)


def test_over_whole_lifetimes_the_gradient_is_the_terminal_one():
    with jax.enable_x64(True):
        theta = Spiral().init(None)
        found = jax.jit(lambda theta: estimate(TruncatedBackprop(3, 3, 1), theta))(theta)
        exact = jax.grad(terminal)(theta)
    assert np.all(np.abs(exact) > 1e-3)
    np.testing.assert_allclose(found, exact, atol=1e-12)


def test_a_window_is_judged_by_what_it_gains():
    """Windowed backprop: the sum over windows of d(loss at the window's end) / d(theta inside the window)."""
    with jax.enable_x64(True):
        theta = Spiral().init(None)
        # Lock-step windows of one segment: births in every third.
        found = jax.jit(lambda theta: estimate(TruncatedBackprop(3, 1, 1, stagger=False), theta, estimates=3))(theta)

        def gained(theta, segment):
            head = position(theta if segment == 0 else jax.lax.stop_gradient(theta), K * segment)
            for _ in range(K):
                head = Spiral().update(theta, head, (), None, None, None)[0]
            return 0.5 * jnp.sum((head - 1.0) ** 2)

        # Lives are born at the head of their first window, where theta[0] acts.
        exact = sum(jax.grad(gained)(theta, segment) for segment in range(3))
        assert np.linalg.norm(exact - jax.grad(terminal)(theta)) > 0.1  # short-sighted
    np.testing.assert_allclose(found, exact, atol=1e-12)


@pytest.mark.parametrize("kind", [PersistentES, NoiseReuseES])
def test_evolution_strategies_on_short_windows_find_the_terminal_gradient(kind):
    theta, pairs = Spiral().init(None), 2000

    @jax.jit
    def replicates(key):
        estimator = kind(3, 1, 2 * pairs, 0.01, stagger=False)
        return jax.vmap(lambda key: estimate(estimator, theta, estimates=3, key=key))(jax.random.split(key, 8))

    found = np.asarray(replicates(KEY))
    error = found.std(axis=0, ddof=1) / len(found) ** 0.5
    exact = np.asarray(jax.grad(terminal)(theta))
    assert np.all(np.abs(found.mean(axis=0) - exact) < 4 * error)
    assert np.all(error < 0.1 * np.linalg.norm(exact))


def test_the_state_of_the_base_goes_on():
    theta, advance = Spiral().init(None), jax.jit(TOLD.advance)
    life = jax.jit(TOLD.start)(theta, KEY)
    for asked in range(3):
        life, segment = advance(theta, life, KEY)
        assert segment.metrics["asked"] == asked
        assert life.objective.base == asked + 1
