"""What the rule knows of action values: categorical, squashed, corrected for the policy that acted.

Two networks speak: the agent's own (online), and a slow average of its past (target). Both are asked what the *online*
policy would earn.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_rl.returns import retrace
from learned_rl.rules.disco.predictions import of_action
from learned_rl.types import Rollout


@dataclass(frozen=True)
class CategoricalValues:
    """A real number x as a distribution over `bins` equally spaced points of [-limit, limit].

        h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x                                         (Pohlen et al. 2018)

    is what the points are points of: decoding is h^-1 of the mean, encoding puts h(x), clipped, on its two neighbours.
    In float32 the inverse is a difference of numbers near 1 / (2 eps) and loses about 1e-4 near zero.

    Raises:
      ValueError: an even number of bins (none would be at 0), fewer than 3, or a limit or eps that is not positive.
    """

    bins: int = 601
    limit: float = 300.0
    eps: float = 1e-3

    def __post_init__(self):
        if self.bins < 3 or self.bins % 2 == 0:
            raise ValueError(f"bins must be odd and at least 3, not {self.bins}; nearest: {max(3, self.bins | 1)}")
        if self.limit <= 0 or self.eps <= 0:
            raise ValueError(f"limit and eps must be positive, not {self.limit} and {self.eps}")

    @property
    def _spacing(self) -> float:
        return 2 * self.limit / (self.bins - 1)

    def squash(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """h."""
        return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1) - 1) + self.eps * x

    def expand(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """h^-1."""
        root = jnp.sqrt(1 + 4 * self.eps * (self.eps + 1 + jnp.abs(x))) / (2 * self.eps) - 1 / (2 * self.eps)
        return jnp.sign(x) * (root**2 - 1)

    def decode(self, logits: Float[Array, "... bins"]) -> Float[Array, "..."]:
        """The number that a distribution stands for."""
        points = jnp.linspace(-self.limit, self.limit, self.bins)
        weight = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
        # Divided after the sum and not before: one pass less over what is the widest that an agent says.
        return self.expand(weight @ points / jnp.sum(weight, axis=-1))

    def encode(self, x: Float[Array, "..."]) -> Float[Array, "... bins"]:
        """The two-hot distribution of a number. (The published 1e-5 shifts that much weight to the upper point.)"""
        place = jnp.clip(self.squash(x), -self.limit, self.limit) / self._spacing
        below, above = jnp.floor(place), jnp.ceil(place)
        weight = (above - place) / (above - below + 1e-5)
        return self._one_hot(below) * weight[..., None] + self._one_hot(above) * (1 - weight)[..., None]

    def _one_hot(self, place: Float[Array, "..."]) -> Float[Array, "... bins"]:
        return jax.nn.one_hot(place.astype(jnp.int32) + self.bins // 2, self.bins)


class StateValues(NamedTuple):
    """Of states; any leading axes.

    Attributes:
      q: of every action, online.
      target_q: of every action, by the target network.
      value: mean of `q` under the online policy.
      target_value: mean of `target_q` under the online policy.
    """

    q: Float[Array, "... A"]
    target_q: Float[Array, "... A"]
    value: Float[Array, "..."]
    target_value: Float[Array, "..."]

    @property
    def action_advantage(self) -> Float[Array, "... A"]:
        """target_q - target_value, of every action."""
        return self.target_q - self.target_value[..., None]


def state_values(
    policy: Float[Array, "... A"], q: Float[Array, "... A"], target_q: Float[Array, "... A"]
) -> StateValues:
    """Values of states from the online policy's logits and both networks' action values. No gradient: they are data."""
    policy, q, target_q = jax.lax.stop_gradient((policy, q, target_q))
    pi = jax.nn.softmax(policy)
    return StateValues(q, target_q, jnp.sum(pi * q, axis=-1), jnp.sum(pi * target_q, axis=-1))


class StepValues(NamedTuple):
    """Of steps, `[T, B]`.

    Attributes:
      ratio: pi(a_t) / mu(a_t), not clipped.
      q_target: the Retrace target of the action taken.
      advantage: q_target - target_value. Not multiplied by the ratio.
      q_error: q_target - q(a_t), online.
    """

    ratio: Float[Array, "T B"]
    q_target: Float[Array, "T B"]
    advantage: Float[Array, "T B"]
    q_error: Float[Array, "T B"]


def step_values(
    rollout: Rollout,
    policy: Float[Array, "T B A"],
    now: StateValues,
    then: StateValues,
    discount: float,
    trace: float,
) -> StepValues:
    """Targets and errors of the actions taken; `policy` is the online policy's logits."""
    chosen = of_action(jax.nn.log_softmax(policy)[..., None], rollout.action)[..., 0]
    log_ratio = jax.lax.stop_gradient(chosen - rollout.behaviour_log_prob)
    taken, target_taken = (of_action(q[..., None], rollout.action)[..., 0] for q in (now.q, now.target_q))
    steps = (rollout.reward, rollout.discount, rollout.last)

    def stream(steps, next_value, taken, log_ratio):
        return retrace(steps, next_value, taken, log_ratio, discount, trace)

    q_target = jax.vmap(stream, in_axes=1, out_axes=1)(steps, then.target_value, target_taken, log_ratio)
    return StepValues(jnp.exp(log_ratio), q_target, q_target - now.target_value, q_target - taken)
