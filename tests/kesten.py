"""Inner problems where how far to back-propagate is the question: Kesten's loop, and a noisy quadratic's schedule."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from truncation import Segment


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

    def inputs(self, width):
        """b: of θ, by lag and coordinate."""
        return 1 + self.turn * np.cos(1 + np.arange(width)[None] + 2 * np.arange(self.horizon)[:, None])

    def gradient(self, width):
        """Of the mean segment loss, exactly."""
        lags = self.mean ** np.arange(self.horizon)
        return lags @ self.inputs(width) / self.horizon

    def error(self, window, lives, width=1):
        """The mean squared error of `window` lags over so many lives, in units of the squared gradient, exactly."""
        j, b = np.arange(self.horizon), self.inputs(width)
        a, square = self.mean, self.mean**2 + self.spread**2
        covariance = a ** np.abs(j[:, None] - j) * square ** np.minimum(j[:, None], j) - a ** (j[:, None] + j)
        missing = (a ** j[window:]) @ b[window:]
        noise = np.sum(((b @ b.T) * covariance)[:window, :window]) / lives
        return (np.sum(missing**2) + noise) / np.sum((self.horizon * self.gradient(width)) ** 2)

    def start(self, theta, key):
        return {"s": jnp.zeros_like(theta), "lived": jnp.array(0, jnp.int32)}

    def advance(self, theta, life, key):
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

    def rates(self, theta):
        ages = np.arange(self.horizon) / (self.horizon - 1)
        return jnp.exp((1 - ages) * theta[0] + ages * theta[1])

    def expected(self, theta):
        """E of the terminal loss, less its floor ½ Σ h."""
        h = jnp.array(self.curvature)

        def step(square, rate):
            return (1 - rate * h) ** 2 * square + (rate * h) ** 2, None

        square, _ = jax.lax.scan(step, jnp.array(self.spread) ** 2, self.rates(theta))
        return 0.5 * jnp.sum(h * square)

    def start(self, theta, key):
        x = jnp.array(self.spread, theta.dtype) * jax.random.normal(key, (2,), theta.dtype)
        return {"x": x, "lived": jnp.array(0, jnp.int32)}

    def advance(self, theta, life, key):
        h = jnp.array(self.curvature, theta.dtype)
        noise = jax.random.normal(key, (2,), theta.dtype)
        age = life["lived"] / jnp.asarray(self.horizon - 1, theta.dtype)
        rate = jnp.exp((1 - age) * theta[0] + age * theta[1])
        x, lived = life["x"] - rate * h * (life["x"] + noise), life["lived"] + 1
        loss = 0.5 * jnp.sum(h * x**2)
        return {"x": x, "lived": lived}, Segment(jnp.where(lived == self.horizon, loss, 0), {})
