"""The gradient that reaches theta through *which* data an agent learned from, and not through what it made of them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.lifetime import Agent, Lifetime
from learned_rl.types import Theta
from meta_objectives.bootstrapped import Bootstrapped
from meta_objectives.problem import History, MetaObjective
from meta_objectives.validation import PolicyGradientSurrogate
from truncation.problem import Segment


class Scored(NamedTuple):
    """What a corrected objective remembers of a life.

    Attributes:
      base: the wrapped objective's own state.
      score: sum of log pi(a) over all actions so far, less its own value: always 0, but its derivative is the score.
      offset: the same sum, each action times the loss that was expected when it was taken; 0 as well.
      expected: that expectation: a running mean of the losses of this life.
    """

    base: Any
    score: Float[Array, ""]
    offset: Float[Array, ""]
    expected: Float[Array, ""]


@dataclass(frozen=True)
class SamplingCorrected:
    """Combinator: adds to `base` what its gradient lacks where an agent learns from data that it collects itself.

        d E[L_t] / d theta = E[ dL_t/dtheta|_data + L_t sum_{tau <= t} d log pi(a_tau; params_tau) / d theta ]

    An unrolled update differentiates the first term alone: it takes the data as given, although theta shaped the agent
    that collected them. The second (E-MAML, Stadie et al. 2018; Al-Shedivat et al. 2018; the lambda of Vuorio et al.
    2022) comes from `Rollout.behaviour_log_prob`, summed over the life in the objective's state:

        loss_t = L_t + L_t sum_{tau <= t} l_tau - sum_{tau <= t} b_tau l_tau,   l_tau = log pi(a_tau) - constant(itself)

    The value is that of `base`. Each action's score weighs the losses after it, less a baseline b_tau that was known
    before it was drawn: no bias, less variance.

    Unbiased for the gradient of E[L_t], at fixed theta, with estimators that differentiate whole lifetimes, if

    * the value of `base` is what is to be lowered, and its derivative is the gradient at given data: `LifetimeReturn`
      (no gradient of its own: then this is REINFORCE over whole lifetimes, Duan et al. 2016), `ValidationReturn`;
    * the rule differentiates the update that was made, with nothing but actions and what came of them as data. Ours do,
      but for the statistics that a `Schedule` reads. Updates whose own derivative already holds score terms (DiCE,
      Foerster et al. 2018; ratios with constant denominators) would count them twice; without this correction they are
      still biased, since they differentiate the expected update instead. By enumeration of all histories of a bandit,
      of the four combinations only this one is exact.

    A window that is shorter than a lifetime also cuts the score where it cuts the unroll: actions before its head are
    data. Variance grows with the number of actions in a window. Evolution strategies do not need it and see nothing of
    it. Costs one backward pass more through the acting network, and three numbers per life.

    Attributes:
      base: the objective.
      expected: b_tau before anything was judged in a life.
      rate: how fast b_tau follows the losses of the life, in [0, 1]; 0 keeps `expected`, 1 is the last loss.

    Raises:
      ValueError: the value of `base` is only a surrogate; or `rate` is not in [0, 1].
    """

    base: MetaObjective
    expected: float = 0.0
    rate: float = 0.3

    def __post_init__(self):
        judge: Any = self.base
        while judge is not None:  # a combinator passes on the value of its own base
            if isinstance(judge, PolicyGradientSurrogate | Bootstrapped):
                raise ValueError(
                    f"base: the value of a {type(judge).__name__} is not what is lowered, only its derivative means "
                    "something; nearest objectives that can be corrected: ValidationReturn, LifetimeReturn"
                )
            judge = getattr(judge, "base", None)
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate={self.rate} is not in [0, 1]")

    def start(self, lifetime: Lifetime, key: PRNGKeyArray) -> Scored:
        zero = jnp.zeros(())
        return Scored(self.base.start(lifetime, key), zero, zero, jnp.full((), self.expected, zero.dtype))

    def judge(
        self, lifetime: Lifetime, theta: Theta, agent: Agent, history: History, state: Scored, key: PRNGKeyArray
    ) -> tuple[Segment, Scored]:
        segment, base = self.base.judge(lifetime, theta, agent, history, state.base, key)
        log_prob = jnp.sum(history.rollout.behaviour_log_prob)
        new = log_prob - jax.lax.stop_gradient(log_prob)
        score, offset = state.score + new, state.offset + state.expected * new
        value = jax.lax.stop_gradient(segment.loss)
        expected = state.expected + self.rate * (value - state.expected)
        return segment._replace(loss=segment.loss + value * score - offset), Scored(base, score, offset, expected)
