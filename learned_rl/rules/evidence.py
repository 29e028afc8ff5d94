"""Which of two agents that take turns earns more: whose an episode is, and a test that says whether that is chance."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from learned_rl.types import Rollout

ROUNDING = 1e-4  # relative to the means: a smaller difference is nothing, even between returns that never vary
ENOUGH = 8.0  # episodes: of fewer, returns of two or three values may all be the same one, and seem to have no variance


class Sample(NamedTuple):
    """Episode returns with weights, summed up: enough for their mean, and for how well it is known.

    Attributes:
      weight: sum of the weights w.
      square: sum of w^2.
      mean: weighted mean m.
      spread: sum of w (x - m)^2.
    """

    weight: Float[Array, ""]
    square: Float[Array, ""]
    mean: Float[Array, ""]
    spread: Float[Array, ""]

    @staticmethod
    def empty() -> "Sample":
        return Sample(*[jnp.zeros(())] * 4)

    def add(self, x: Float[Array, "*n"], weight: Float[Array, "*n"]) -> "Sample":
        """With more returns, of which those of weight 0 do not count (Chan et al. 1983: no difference of squares)."""
        new = jnp.sum(weight)
        mean = jnp.sum(weight * x) / jnp.maximum(new, 1e-9)
        total = self.weight + new
        share = new / jnp.maximum(total, 1e-9)
        apart = mean - self.mean
        return Sample(
            total,
            self.square + jnp.sum(weight**2),
            self.mean + share * apart,
            self.spread + jnp.sum(weight * (x - mean) ** 2) + apart**2 * self.weight * share,
        )

    @property
    def effective(self) -> Float[Array, ""]:
        """How many returns of weight one would say as much (Kish 1965): (sum w)^2 / sum w^2."""
        return self.weight**2 / jnp.maximum(self.square, 1e-9)

    @property
    def error(self) -> Float[Array, ""]:
        """Squared standard error of the mean, from the unbiased weighted variance."""
        free = self.weight - self.square / jnp.maximum(self.weight, 1e-9)
        return self.spread / jnp.maximum(free, 1e-9) * self.square / jnp.maximum(self.weight, 1e-9) ** 2


def chance(better: Sample, worse: Sample) -> Float[Array, ""]:
    """How likely so large a mean of `better` over `worse` would be if both were equal: Welch's one-sided test.

    The t of nu degrees of freedom becomes a standard normal z by Wallace 1959, within 2 % of the probability:

        z = (8 nu + 1) / (8 nu + 3) sqrt(nu log(1 + t^2 / nu))

    and 1 where either has fewer than `ENOUGH` returns.
    """
    a, b = better.error, worse.error
    apart, rounding = better.mean - worse.mean, ROUNDING * (jnp.abs(better.mean) + jnp.abs(worse.mean))
    variance = a + b + rounding**2
    t_square = apart**2 / jnp.maximum(variance, 1e-30)
    freedom = variance**2 / jnp.maximum(a**2 / (better.effective - 1) + b**2 / (worse.effective - 1), 1e-30)
    freedom = jnp.clip(freedom, 1.0, 1e6)
    z = (8 * freedom + 1) / (8 * freedom + 3) * jnp.sqrt(freedom * jnp.log1p(t_square / freedom))
    enough = jnp.minimum(better.effective, worse.effective) >= ENOUGH
    return jnp.where(enough, jax.scipy.stats.norm.sf(jnp.sign(apart) * z), 1.0)


class Ledger(NamedTuple):
    """The episodes under way in the streams that are watched, each `[streams]`.

    Attributes:
      running: return so far.
      steps: how many steps old.
      learned: how many of the steps the learned agent took.
    """

    running: Float[Array, " streams"]
    steps: Float[Array, " streams"]
    learned: Float[Array, " streams"]

    @staticmethod
    def empty(streams: int) -> "Ledger":
        return Ledger(*[jnp.zeros(streams)] * 3)

    def post(self, rollout: Rollout, learned: Bool[Array, ""]) -> tuple["Ledger", "Posted"]:
        """The episodes that ended in a rollout in which the learned agent acted, or the other one.

        The first streams are watched, as many as there is room for; a place without a stream has no episodes.
        """
        room = self.running.shape[0]
        streams = min(room, rollout.last.shape[1])

        def watched(x: Array) -> Array:
            return jnp.pad(x[:, :streams], ((0, 0), (0, room - streams)))

        def step(ledger: Ledger, now: tuple[Array, Array]) -> tuple[Ledger, Posted]:
            reward, last = now
            lived = Ledger(ledger.running + reward, ledger.steps + 1, ledger.learned + learned)
            share = lived.learned / lived.steps
            posted = Posted(lived.running, jnp.where(last, share, 0.0), jnp.where(last, 1 - share, 0.0))
            return jax.tree.map(lambda x: jnp.where(last, 0.0, x), lived), posted

        return jax.lax.scan(step, self, (watched(rollout.reward), watched(rollout.last)))


class Posted(NamedTuple):
    """Returns of episodes, and which share of its steps each agent took; both 0 where no episode ended. `[T, streams]`

    An episode that goes on over a change of agents counts for both, in proportion: dropping those would drop long ones,
    and rewards of a turn over its ends of episodes would give the one who comes second what the first one did.
    """

    returns: Float[Array, "T streams"]
    learned: Float[Array, "T streams"]
    fallback: Float[Array, "T streams"]
