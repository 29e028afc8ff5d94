"""Generalised persistent evolution strategies: every length of noise between one window and one lifetime."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, UInt32

from truncation.antithetic import Antithetic
from truncation.evolution import Strategy
from truncation.lives import select
from truncation.noise import Arm, Noise, gaussian
from truncation.problem import Theta
from truncation.schedule import Schedule
from truncation.shaping import Shaping, unshaped


class Block(NamedTuple):
    """What a pair remembers about its noise.

    Attributes:
      total: the sum of all noise since the birth, that of the present block included.
      key: of the present block's noise, as data.
      windows: how many windows the present block has lasted.
    """

    total: Theta
    key: UInt32[Array, "..."]
    windows: Int[Array, ""]


def _blank(theta: Theta, key: PRNGKeyArray) -> Block:
    return Block(jax.tree.map(jnp.zeros_like, theta), jax.random.key_data(key), jnp.int32(0))


def _blocks(length: int, theta: Theta, std: float, old: Block, key: PRNGKeyArray) -> tuple[Arm, Arm]:
    """A block of `length` windows goes on, or ends and is followed by the next; a birth begins one."""
    over = old.windows == length
    before = gaussian(theta, std, jax.random.wrap_key_data(old.key, impl=jax.random.key_impl(key)))
    after = gaussian(theta, std, key)
    total = jax.tree.map(lambda t, n: t + jnp.where(over, n, 0), old.total, after)
    data = jax.random.key_data(key)
    continued = Block(total, jnp.where(over, data, old.key), jnp.where(over, 1, old.windows + 1))
    return Arm(select(over, after, before), total, continued), Arm(after, after, Block(after, data, jnp.int32(1)))


@dataclass(frozen=True)
class GeneralizedPES(Strategy):
    """Generalised persistent evolution strategies (GPES; Li et al. 2023): new noise every `block` segments.

    With ε_w the noise of the block that window w lies in, and ξ_w the sum of the noises of all blocks since the birth:

        ĝ_w = 1/pairs Σ_pairs ξ_w (L_w+ - L_w-) / (2 σ²),   particles live with theta ± ε_w

    `block == window` is `PersistentES`, `block >= horizon` is `NoiseReuseES`: the same draws, equal to rounding.

    Unbiased, at fixed theta and over the ages of lives, for the gradient of the mean segment loss of a lifetime
    smoothed by independent noise in every block. Where losses are quadratic, with G_wb the derivative of window w's
    loss by the theta of block b, one pair has in window w the variance

        P n_w Σ_b ‖G_wb‖² + ‖Σ_b G_wb‖²,   n_w = blocks since the birth,

    which falls with the length of the block; of sums over a lifetime in lock-step it need not (they are correlated).
    Blocks are counted from a birth in whole windows: if the birth falls inside a window, that window counts as one.

    Cost of an estimate: lives * window segments forward. Memory: lives lives and lives / 2 copies of theta between
    estimates; the noise is regenerated from a key.

    Attributes:
      horizon: segments in a lifetime.
      window: segments per estimate.
      lives: particles, two a pair.
      std: σ of the noise.
      block: segments per noise, a multiple of the window; from the horizon on, all lengths are the same.
      stagger: spread the ages of pairs over the horizon by real burn-in (else lock-step).
      microbatch: how many particles run at once (0: all).
      shaping: what is done to the losses before they are compared.

    Raises:
      ValueError: a setting is out of its range; the message says which values are allowed.
    """

    horizon: int
    window: int
    lives: int
    std: float
    block: int
    stagger: bool = True
    microbatch: int = 0
    shaping: Shaping = unshaped

    def __post_init__(self):
        super().__post_init__()
        if self.block < 1 or self.block % self.window:
            below = self.block // self.window * self.window
            nearest = " or ".join(str(legal) for legal in (below, below + self.window) if legal > 0)
            raise ValueError(f"block={self.block} is not a multiple of window={self.window}; nearest: {nearest}")

    def core(self) -> Antithetic:
        schedule = Schedule(self.horizon, self.window, self.stagger)
        # A lifetime touches at most horizon + 1 windows: so a block of that many is never over.
        length = self.block // self.window if self.block < self.horizon else self.horizon + 1
        noise = Noise(blank=_blank, draw=partial(_blocks, length))
        return Antithetic(schedule, self.lives, self.std, self.microbatch, self.shaping, noise)
