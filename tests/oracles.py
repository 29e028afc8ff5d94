"""Inner problems whose gradients are known in closed form, and what is known about those that users can name."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from truncation import Segment
from truncation.problems import Influence as Influence  # those that users can name live in the package
from truncation.problems import LinearQuadratic as LinearQuadratic
from truncation.problems import Lorenz as Lorenz
from truncation.problems import ToySchedule as ToySchedule


@dataclass(frozen=True)
class Ramp:
    """s' = s + θ, L = s, from s0 = 0: the gradient of the mean loss over T segments is (T + 1) / 2.

    `noise` adds inner noise of that size to the loss, `spread` draws s0 per life: neither moves the gradient.
    """

    noise: float = 0.0
    spread: float = 0.0

    def start(self, theta, key):
        origin = self.spread * jax.random.normal(key, theta.shape, theta.dtype)
        return {"origin": origin, "level": origin, "lived": jnp.array(0, jnp.int32)}

    def advance(self, theta, life, key):
        level = life["level"] + theta
        loss = level + self.noise * jax.random.normal(key, theta.shape, theta.dtype)
        return life | {"level": level, "lived": life["lived"] + 1}, Segment(loss, {"level": level})


@dataclass(frozen=True)
class Terminal:
    """The ramp judged by its last level alone: the gradient of the mean loss is 1, whatever the horizon."""

    horizon: int

    def start(self, theta, key):
        return {"level": jnp.zeros_like(theta), "lived": jnp.array(0, jnp.int32)}

    def advance(self, theta, life, key):
        life = {"level": life["level"] + theta, "lived": life["lived"] + 1}
        return life, Segment(jnp.where(life["lived"] == self.horizon, life["level"], 0), {})


@dataclass(frozen=True)
class Inherited:
    """θ acts at birth alone: s0 = θ, s' = s, L = s. The gradient is 1; windows without the birth see none of it."""

    def start(self, theta, key):
        return theta

    def advance(self, theta, life, key):
        return life, Segment(life, {})


LQ_THETA = np.array([0.1, -0.2, 0.3])
LQ_LOSS = 92.32308274939703 / 20  # published for the sum over 20 segments; the objective here is their mean
LQ_GRADIENT = np.array([117.309718202, -424.9338523675, 236.360038607]) / 20
LQ_TRUNCATED = {
    1: np.array([55.6547468773, -91.2658854054, 20.305272115]) / 20,
    5: np.array([118.0682881617, -230.0308372723, 73.3849223166]) / 20,
    10: np.array([139.7291479421, -336.703889704, 140.5073691648]) / 20,
    20: LQ_GRADIENT,
}
# trace of the variance of one pair, of sums over a lifetime in lock-step, in units of ‖G‖²: by noise block
LQ_VARIANCE = {1: 2.2354, 5: 2.6578, 10: 3.0473, 20: 4.0}


@dataclass(frozen=True)
class Fragile:
    """L = (c θ)² / 2 with a task c ~ U(0, 1) per life; what `breaks(c)` picks turns to nan (or worse) in the middle."""

    breaks: Callable
    segment: int = 1
    value: float = jnp.nan

    def start(self, theta, key):
        return {"task": jax.random.uniform(key), "lived": jnp.array(0, jnp.int32)}

    def advance(self, theta, life, key):
        broken = self.breaks(life["task"]) & (life["lived"] >= self.segment)
        loss = 0.5 * jnp.square(life["task"] * theta) * jnp.where(broken, self.value, 1.0)
        return life | {"lived": life["lived"] + 1}, Segment(loss, {"task": life["task"]})


@dataclass(frozen=True)
class Chain:
    """A wide nonlinear map, for the memory that its unrolled gradient needs."""

    width: int

    def start(self, theta, key):
        return jnp.full(self.width, 0.5)

    def advance(self, theta, life, key):
        life = jnp.tanh(theta * life + 0.1 * jax.random.normal(key, (self.width,)))
        return life, Segment(jnp.mean(life**2), {})


@dataclass(frozen=True)
class Mixed:
    """A life and a theta of several dtypes, with weak types and a key inside, as careless problems have them."""

    def start(self, theta, key):
        weak = jnp.where(jax.random.bernoulli(key), 1.0, 2.0)
        return {"s": theta["a"]["w"] * 0, "weak": weak, "key": key, "count": 0}

    def advance(self, theta, life, key):
        s = 0.9 * life["s"] + theta["a"]["w"] + theta["b"].astype(jnp.float32)
        life = {
            "s": s,
            "weak": life["weak"] * jnp.float32(0.5),
            "key": jax.random.fold_in(life["key"], 1),
            "count": life["count"] + 1,
        }
        return life, Segment(jnp.sum(s**2), {"count": jnp.asarray(life["count"], jnp.float32)})


def mixed_theta():
    return {"a": {"w": jnp.array([0.1, -0.2], jnp.float32)}, "b": jnp.array(0.5, jnp.bfloat16)}


def consecutive(estimator, problem, theta, key, estimates):
    """`(init state, last state, estimates stacked)` of consecutive estimates at fixed theta."""

    def step(state, number):
        estimate, state = estimator.estimate(problem, theta, state, jax.random.fold_in(key, number))
        return state, estimate

    first = estimator.init(problem, theta, jax.random.fold_in(key, estimates))
    last, stacked = jax.lax.scan(step, first, jnp.arange(estimates))
    return first, last, stacked


def mean_gradient(estimator, problem, theta, key, estimates=1):
    """Mean gradient of consecutive estimates at fixed theta."""
    gradients = jax.jit(lambda key: consecutive(estimator, problem, theta, key, estimates)[2].gradient)(key)
    return np.mean(gradients, axis=0)


def replicate(estimator, problem, theta, key, estimates, replicates):
    """Mean gradients of many independent repetitions of `consecutive`."""

    def one(key):
        return jnp.mean(consecutive(estimator, problem, theta, key, estimates)[2].gradient, axis=0)

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(key, replicates)))


def lq_influence(window, block):
    """d(mean loss of window w)/d(theta of noise block b) of LQ-20, `[windows, blocks, 3]`."""

    def losses(thetas):
        def segment(life, t):
            life, report = LinearQuadratic().advance(thetas[t // block], life, None)
            return life, report.loss

        reported = jax.lax.scan(segment, LinearQuadratic().start(None, None), jnp.arange(20))[1]
        return jnp.mean(reported.reshape(-1, window), axis=1)

    return np.asarray(jax.jit(jax.jacobian(losses))(jnp.tile(jnp.array(LQ_THETA), (20 // block, 1))))


def lq_variances(window, block):
    """Closed forms for one pair in units of ‖G‖²: of means over a lifetime in lock-step, and of single windows.

    Windows at uniform age; their variance is that within windows and that between them.
    """
    influence = lq_influence(window, block)
    windows, _, size = influence.shape
    born = np.arange(windows) * window // block + 1  # blocks since the birth, in each window
    square = np.sum(LQ_GRADIENT**2)
    locked = 0.0
    for t in range(windows):
        for u in range(windows):
            n = min(born[t], born[u])
            one, other = influence[t, :n], influence[u, :n]
            locked += size * n * np.sum(one * other) + one.sum(axis=0) @ other.sum(axis=0)
    total = influence.sum(axis=1)
    within = np.mean(size * born * np.sum(influence**2, axis=(1, 2)) + np.sum(total**2, axis=1))
    between = np.mean(np.sum(total**2, axis=1)) - square
    return locked / windows**2 / square, within / square, between / square


@dataclass(frozen=True)
class Cubic:
    """s' = s + θ, L = s³ from s0 = 0: with noise of variance σ² in every segment, E L_t = (tθ)³ + 3 t² θ σ²."""

    def start(self, theta, key):
        return jnp.zeros_like(theta)

    def advance(self, theta, life, key):
        life = life + theta
        return life, Segment(life**3, {})


@dataclass(frozen=True)
class Oscillation:
    """L = sin(w θ / π) / 10 + (θ / 10)² + 1/10 (Metz et al. 2019, figure 1), a life of one segment."""

    frequency: float

    def start(self, theta, key):
        return ()

    def advance(self, theta, life, key):
        return life, Segment(0.1 * jnp.sin(self.frequency * theta / jnp.pi) + (theta / 10) ** 2 + 0.1, {})


LORENZ_THETA = np.array([3.116, 3.7], np.float32)
