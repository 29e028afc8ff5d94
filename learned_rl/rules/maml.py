"""Model-agnostic meta-learning: agents are born where a few steps of an ordinary rule lead far."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from learned_rl.blueprint import Blueprint, inherited, overlaid
from learned_rl.optimizers import InnerOptimizer, Sgd
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.nested import fed, part
from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, Rule, RuleState, Theta

VANILLA = ActorCritic(Coefficients(learning_rate=0.1, trace=1.0, entropy=0.0, value_cost=0.02), Sgd())


@dataclass(frozen=True)
class MAML:
    """Combinator: `base` starts from learned parameters and moves each of them at a learned rate.

        birth:   params = initial                                             (Finn et al. 2017, algorithm 3)
        update:  params <- params + rates * (what `base` would have added)    (Meta-SGD, Li et al. 2017, eq. 3)

    so that with `Sgd` inside alpha = learning_rate * rates. Rates start at one: untrained, this is `base` with random
    initial parameters. They may become negative, as in the paper. Around any rule that has an optimizer, learned ones
    included; what the rule keeps of newborns' parameters (target networks, say) it keeps of the learned ones.
    theta = {"base": the base rule's own, "initial": ..., "rates": ...}.

    Data come from the parameters that are learned, so the meta-gradient at given data lacks what they do to the data.
    `SamplingCorrected(ValidationReturn(...))` has both terms (E-MAML, Stadie et al. 2018); without the correction it is
    the published one, which is biased (Al-Shedivat et al. 2018, Rothfuss et al. 2019).

    A head that a combinator around this one asks for is not in theta: it is born at random, and moves at rate one.

    Departure: the default base has a value for a baseline, its initial parameters learned like the others; the paper
    fits a linear baseline to each batch.

    Attributes:
      base: whose initial parameters and rates are learned.
      blueprint: what agents are.
      per_parameter: one rate a parameter (Li et al. 2017); else one a tensor (Antoniou et al. 2019).

    Raises:
      ValueError: `base` has no optimizer.
    """

    base: Rule = VANILLA
    blueprint: Blueprint = Blueprint()
    per_parameter: bool = True

    def __post_init__(self):
        part(self.base, "optimizer")

    @property
    def heads(self) -> Heads:
        return self.base.heads

    def init(self, key: PRNGKeyArray) -> Theta:
        key_base, key_initial = jax.random.split(key)
        initial = self.blueprint.policy(self.heads).init(key_initial)
        return {"base": self.base.init(key_base), "initial": initial, "rates": self._ones(initial)}

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        bearing: Any = Bearing(policy, theta["initial"])
        return self.base.birth(theta["base"], bearing, key)

    def update(
        self, theta: Theta, params: Params, state: RuleState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, RuleState, Metrics]:
        rates = overlaid(self._ones(params), theta["rates"], "rates")
        base = fed(self.base, "optimizer", Paced(part(self.base, "optimizer"), rates))
        return base.update(theta["base"], params, state, rollout, policy, key)

    def _ones(self, params: Params) -> PyTree:
        return jax.tree.map(lambda p: jnp.ones(p.shape if self.per_parameter else (), p.dtype), params)


@dataclass(frozen=True)
class Paced:
    """`base` with each of its steps multiplied by a rate."""

    base: InnerOptimizer
    rates: PyTree

    def init(self, params: Params) -> PyTree:
        return self.base.init(params)

    def update(
        self, gradient: Params, state: PyTree, params: Params, learning_rate: Float[Array, ""] | float
    ) -> tuple[Params, PyTree]:
        moved, state = self.base.update(gradient, state, params, learning_rate)
        return jax.tree.map(lambda p, m, rate: p + rate * (m - p), params, moved, self.rates), state


@dataclass(frozen=True)
class Bearing:
    """A `Policy` whose newborns have `initial` parameters."""

    policy: Policy
    initial: Params

    def init(self, key: PRNGKeyArray) -> Params:
        return inherited(self.initial, self.policy, key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)
