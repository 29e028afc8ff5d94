"""Hand-designed bonuses for what is new to the agent, under the protocol of the learned rewards; theta = ().

Both look at `next_obs`: what an action led to is what it is rewarded for, also at an episode's end.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_rl.layers import Linear, mlp, start_mlp
from learned_rl.losses import squared_error
from learned_rl.optimizers import Adam, AdamState
from learned_rl.rules.intrinsic.reward import bucket, observed
from learned_rl.types import Policy, Rollout, Theta


@dataclass(frozen=True)
class CountBonus:
    """r_in_t = N_t(s'_t)^(-1/2): visits to what step t led to, in this life, up to and including this one.

    (Strehl & Littman 2008; counts of hashes: Tang et al. 2017.) Steps are counted in the order of time, also within one
    update; what several streams meet at the same step is counted together and paid the same.

    Observations are rounded to multiples of 1 / resolution and hashed into `buckets`. Random multipliers tell any two
    apart; n different ones share buckets in n^2 / (2 buckets) cases in the mean (and then share a count), which is why
    a grid's n one-hot observations need no table of their own. Tang et al. hash by the signs of random projections,
    where alike observations share a count by design; the resolution does that here.

    Attributes:
      buckets: numbers that a life remembers.
      resolution: steps of an observation's numbers that count as different, per unit.
    """

    buckets: int = 16384
    resolution: float = 1.0

    def __post_init__(self):
        if self.buckets < 1 or self.resolution <= 0:
            raise ValueError(f"buckets ({self.buckets}) must be >= 1 and resolution ({self.resolution}) > 0")

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def start(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> Int[Array, " buckets"]:
        return jnp.zeros(self.buckets, jnp.int32)

    def pay(
        self, theta: Theta, memory: Int[Array, " buckets"], rollout: Rollout
    ) -> tuple[Float[Array, "T B"], Int[Array, " buckets"]]:
        def step(counts: Array, met: Int[Array, " B"]) -> tuple[Array, Array]:
            counts = counts.at[met].add(1)
            return counts, jax.lax.rsqrt(counts[met].astype(jnp.float32))

        counts, bonus = jax.lax.scan(step, memory, bucket(rollout.next_obs, self.buckets, self.resolution))
        return bonus, counts


class Distilled(NamedTuple):
    """What RND remembers of a life.

    Attributes:
      target: the random network, never trained.
      predictor: trained to agree with it where the agent has been.
      moments: of the predictor's optimizer.
      seen: how many errors there were.
      square: the mean of their squares.
    """

    target: list[Linear]
    predictor: list[Linear]
    moments: AdamState
    seen: Float[Array, ""]
    square: Float[Array, ""]


@dataclass(frozen=True)
class RandomDistillation:
    """Random network distillation (RND, Burda et al. 2018): the error of predicting a random network.

        r_in_t = ||f_hat(s'_t) - f(s'_t)||^2 / (root mean square of such errors in this life so far)

    f is random and fixed, f_hat is trained on the states that were visited, after they were paid for: a step of Adam on
    each rollout.

    Departures. Published is the standard deviation of discounted sums of errors; here it is the size of the errors
    themselves, about zero, which is not 0 where a first rollout sees a single state. Published observations are
    whitened by running statistics, here they are expected to be of order one. The two rewards are added, and do not
    get a value head each.

    Attributes:
      hidden, outputs: widths of both networks.
      observation: room for an observation.
      learning_rate: of the predictor.
    """

    hidden: int = 64
    outputs: int = 32
    observation: int = 256
    learning_rate: float = 1e-3

    def __post_init__(self):
        if min(self.hidden, self.outputs, self.observation) < 1 or self.learning_rate <= 0:
            raise ValueError(
                f"hidden ({self.hidden}), outputs ({self.outputs}) and observation ({self.observation}) must be "
                f"at least 1, learning_rate ({self.learning_rate}) positive"
            )

    def init(self, key: PRNGKeyArray) -> tuple[()]:
        return ()

    def start(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> Distilled:
        key_target, key_predictor = jax.random.split(key)
        widths = (self.observation, self.hidden, self.outputs)
        target, predictor = start_mlp(key_target, *widths), start_mlp(key_predictor, *widths)
        return Distilled(target, predictor, Adam().init(predictor), jnp.zeros(()), jnp.zeros(()))

    def pay(self, theta: Theta, memory: Distilled, rollout: Rollout) -> tuple[Float[Array, "T B"], Distilled]:
        x = observed(rollout.next_obs, self.observation)
        aim = mlp(memory.target, x)
        error = jnp.sum((mlp(memory.predictor, x) - aim) ** 2, axis=-1)
        gradient = jax.grad(lambda predictor: squared_error(mlp(predictor, x), aim))(memory.predictor)
        predictor, moments = Adam().update(gradient, memory.moments, memory.predictor, self.learning_rate)
        seen = memory.seen + error.size
        square = memory.square + (jnp.mean(error**2) - memory.square) * error.size / seen
        return error * jax.lax.rsqrt(square + 1e-12), Distilled(memory.target, predictor, moments, seen, square)
