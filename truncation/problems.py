"""Small inner problems about which the literature, or a closed form, knows everything: to learn on, and to measure on.

Each is an `InnerProblem`. Where the expected loss has a closed form, `expected(theta)` is it, so that its derivative is
the exact gradient.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from truncation.problem import Segment


@dataclass(frozen=True)
class LinearQuadratic:
    """LQ-20: s' = A s + B θ, L = ½ ‖s - ½‖², d = 4, P = 3. A problem with nothing random in it.

    All of it is known: gradient, truncated gradients, and the variances of evolution strategies.
    """

    def start(self, theta: Array, key: PRNGKeyArray) -> Any:
        return jnp.sin(1.0 + jnp.arange(4.0))

    def advance(self, theta: Array, life: Any, key: PRNGKeyArray) -> tuple[Any, Segment]:
        a = 0.8 * jnp.eye(4) + 0.15 * jnp.eye(4, k=1)
        b = jnp.cos(1 + jnp.arange(4.0)[:, None] + 2 * jnp.arange(3.0)[None, :])
        life = a @ life + b @ theta
        return life, Segment(0.5 * jnp.sum((life - 0.5) ** 2), {})


@dataclass(frozen=True)
class Influence:
    """Influence balancing (Vicol et al. 2021, eq. 7): the short-term gradient points the wrong way.

    A segment is `steps` inner steps, judged at its end. The steady state at θ has s[0] = 1 - 6 (θ + 1/6), so θ* = -1/6.
    """

    steps: int = 1
    steady: bool = False

    def matrices(self) -> tuple[Array, Array]:
        return 0.5 * jnp.eye(23) + 0.5 * jnp.eye(23, k=1), jnp.where(jnp.arange(23) < 10, 1.0, -1.0)

    def start(self, theta: Array, key: PRNGKeyArray) -> Any:
        a, b = self.matrices()
        settled = jnp.linalg.solve(jnp.eye(23) - a, b * jax.lax.stop_gradient(theta))  # as if reached long ago
        return settled if self.steady else jnp.ones(23)

    def advance(self, theta: Array, life: Any, key: PRNGKeyArray) -> tuple[Any, Segment]:
        a, b = self.matrices()
        life = jax.lax.fori_loop(0, self.steps, lambda _, s: a @ s + theta * b, life)
        return life, Segment(0.5 * (life[0] - 1) ** 2, {})


@dataclass(frozen=True)
class Kesten:
    """s' = (a + τ z) s + b_t θ, judged by Σ s at its end, in as many independent coordinates as θ has.

    θ as used j segments before the end has the influence M_j b = Π_{i<j} (a + τ z_i) b, whose second moment grows like
    r₂ = a² + τ². `turn` lets blocks of lags point in different directions: with 0 they all point the same way.
    """

    mean: float
    spread: float
    horizon: int = 64
    turn: float = 0.0

    def inputs(self, width: int) -> Float[np.ndarray, "horizon width"]:
        """b: of θ, by lag and coordinate."""
        return 1 + self.turn * np.cos(1 + np.arange(width)[None] + 2 * np.arange(self.horizon)[:, None])

    def expected(self, theta: Array) -> Float[Array, ""]:
        """E of the mean segment loss, which is linear in theta."""
        lags = self.mean ** np.arange(self.horizon)
        return jnp.sum(lags @ self.inputs(theta.shape[0]) * theta) / self.horizon

    def start(self, theta: Array, key: PRNGKeyArray) -> Any:
        return {"s": jnp.zeros_like(theta), "lived": jnp.array(0, jnp.int32)}

    def advance(self, theta: Array, life: Any, key: PRNGKeyArray) -> tuple[Any, Segment]:
        growth = self.mean + self.spread * jax.random.normal(key, theta.shape, theta.dtype)
        inputs = jnp.asarray(self.inputs(theta.shape[0]), theta.dtype)[self.horizon - 1 - life["lived"]]
        s, lived = growth * life["s"] + inputs * theta, life["lived"] + 1
        return {"s": s, "lived": lived}, Segment(jnp.where(lived == self.horizon, jnp.sum(s), 0), {})


@dataclass(frozen=True)
class NoisyQuadratic:
    """Gradient descent on L = ½ Σ h (x² + 1) with noisy gradients h (x + z), under a log-linear schedule of rates.

    Wu et al. 2018: short windows judge the learning rate by the noise floor and let it fall too early. θ holds the log
    rates at both ends; the loss is the terminal one.
    """

    horizon: int = 100
    curvature = (1.0, 0.1)
    spread = (1.0, 10.0)

    def rates(self, theta: Array) -> Float[Array, " horizon"]:
        ages = np.arange(self.horizon) / (self.horizon - 1)
        return jnp.exp((1 - ages) * theta[0] + ages * theta[1])

    def expected(self, theta: Array) -> Float[Array, ""]:
        """E of the mean segment loss: of the terminal one, over the horizon."""
        h = jnp.array(self.curvature)

        def step(square, rate):
            return (1 - rate * h) ** 2 * square + (rate * h) ** 2, None

        square, _ = jax.lax.scan(step, jnp.array(self.spread) ** 2, self.rates(theta))
        return 0.5 * jnp.sum(h * square) / self.horizon

    def start(self, theta: Array, key: PRNGKeyArray) -> Any:
        x = jnp.array(self.spread, theta.dtype) * jax.random.normal(key, (2,), theta.dtype)
        return {"x": x, "lived": jnp.array(0, jnp.int32)}

    def advance(self, theta: Array, life: Any, key: PRNGKeyArray) -> tuple[Any, Segment]:
        h = jnp.array(self.curvature, theta.dtype)
        noise = jax.random.normal(key, (2,), theta.dtype)
        age = life["lived"] / jnp.asarray(self.horizon - 1, theta.dtype)
        rate = jnp.exp((1 - age) * theta[0] + age * theta[1])
        x, lived = life["x"] - rate * h * (life["x"] + noise), life["lived"] + 1
        loss = 0.5 * jnp.sum(h * x**2)
        return {"x": x, "lived": lived}, Segment(jnp.where(lived == self.horizon, loss, 0), {})


@dataclass(frozen=True)
class Lorenz:
    """Lorenz's system (Li et al. 2023): find r and a from how z moves. A segment is 100 Euler steps of 2000."""

    steps: int = 100

    def start(self, theta: Array, key: PRNGKeyArray) -> Any:
        point = jnp.array([1.2, 1.3, 1.6])
        return point, point

    def advance(self, theta: Array, life: Any, key: PRNGKeyArray) -> tuple[Any, Segment]:
        a, r = jnp.exp(theta)

        def step(life, _):
            point, target = self.step(life[0], a, r, 8 / 3), self.step(life[1], 10.0, 28.0, 8 / 3)
            return (point, target), (point[2] - target[2]) ** 2

        life, losses = jax.lax.scan(step, life, length=self.steps)
        return life, Segment(jnp.mean(losses), {})

    @staticmethod
    def step(point: Array, a: Array | float, r: Array | float, b: float) -> Array:
        x, y, z = point
        return point + 0.005 * jnp.stack([a * (y - x), x * (r - z) - y, x * y - b * z])


@dataclass(frozen=True)
class ToySchedule:
    """Toy 2-D regression (Vicol et al. 2021): a linear schedule of log learning rates for SGD over 100 steps."""

    horizon: int = 100

    def start(self, theta: Array, key: PRNGKeyArray) -> Any:
        return jnp.array([1.0, 1.0]), jnp.array(0, jnp.int32)

    def advance(self, theta: Array, life: Any, key: PRNGKeyArray) -> tuple[Any, Segment]:
        x, step = life
        done = step / self.horizon
        rate = (1 - done) * jnp.exp(theta[0]) + done * jnp.exp(theta[1])
        x = x - rate * jax.grad(self.loss)(x)
        return (x, step + 1), Segment(self.loss(x), {})

    @staticmethod
    def loss(x: Float[Array, "2"]) -> Float[Array, ""]:
        bowl = jnp.sqrt(x[0] ** 2 + 5) - jnp.sqrt(5.0)
        return bowl + jnp.sin(x[1]) ** 2 * jnp.exp(-5 * x[0] ** 2) + 0.25 * jnp.abs(x[1] - 100)


@dataclass(frozen=True)
class Bandit:
    """Policy gradient on three arms: what is sampled depends on theta, so that pathwise derivatives are biased.

    A segment draws `pulls` arms from softmax(s) and makes s' = s + e^θ mean_i r_{a_i} ∇ log π(a_i): θ is the log of the
    learning rate. Judged by the expected reward after `horizon` segments, by enumeration of all that can be drawn.
    """

    horizon: int = 3
    pulls: int = 2
    rewards = (1.0, 0.5, -0.2)
    logits = (0.0, 0.2, 0.4)

    def start(self, theta: Array, key: PRNGKeyArray) -> Any:
        return {"s": jnp.array(self.logits, theta.dtype), "lived": jnp.array(0, jnp.int32)}

    def advance(self, theta: Array, life: Any, key: PRNGKeyArray) -> tuple[Any, Segment]:
        arms = jax.random.categorical(key, life["s"], shape=(self.pulls,))
        s, lived = self._learn(theta, life["s"], arms), life["lived"] + 1
        loss = -self.horizon * self._reward(s)
        return {"s": s, "lived": lived}, Segment(jnp.where(lived == self.horizon, loss, 0), {})

    def expected(self, theta: Array) -> Float[Array, ""]:
        """E of the mean segment loss: minus the expected reward after the last segment."""
        draws = jnp.array(list(itertools.product(range(3), repeat=self.pulls)))

        def after(s, segments):
            if not segments:
                return self._reward(s)
            chances = jnp.prod(jax.nn.softmax(s)[draws], axis=1)
            return chances @ jax.vmap(lambda arms: after(self._learn(theta, s, arms), segments - 1))(draws)

        return -after(jnp.array(self.logits, theta.dtype), self.horizon)

    def _learn(self, theta: Array, s: Array, arms: Array) -> Array:
        def step(arm):
            return jnp.asarray(self.rewards, s.dtype)[arm] * jax.grad(lambda s: jax.nn.log_softmax(s)[arm])(s)

        return s + jnp.exp(theta) * jnp.mean(jax.vmap(step)(arms), axis=0)

    def _reward(self, s: Array) -> Array:
        return jax.nn.softmax(s) @ jnp.asarray(self.rewards, s.dtype)
