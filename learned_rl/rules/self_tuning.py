"""Self-tuning: a rule's coefficients follow meta-gradients online, within one life."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.optimizers import Adam, InnerOptimizer
from learned_rl.rules.actor_critic import ActorCritic, loss, prepare
from learned_rl.rules.coefficients import Coefficients, check_names, shifted
from learned_rl.rules.nested import fed_all, parts
from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, Rule, RuleState, Theta


class Tuning(NamedTuple):
    """What self-tuning remembers.

    Attributes:
      base: the base rule's state.
      moved: how far tuning has taken eta from where it started, `[n]`.
      moments: of eta's own optimizer.
      sensitivity: z, the derivative of the agent's parameters in eta; leaves `[..., n]`.
    """

    base: RuleState
    moved: Float[Array, " n"]
    moments: RuleState
    sensitivity: Params


@dataclass(frozen=True)
class SelfTuning:
    """Combinator: moves `base`'s coefficients by the derivative of what its updates led to (Xu et al. 2018).

    An agent's update is p' = U(p, rollout; eta); the next rollout was collected by p', and judges it:

        J(p') = -E[A' log pi(a)] + value_cost' E[(V - G')^2] / 2 - entropy' E[H(pi)]      the coefficients of `outer`
        eta  <- eta - Adam(z . dJ/dp'),     z' = decay z + dU/deta                        (eqs. 3 to 5)

    A' and G' are data, made by the agent's own value head with the discount and the trace of `outer`. What is tuned is
    every coefficient in `learned`, on the scale of `coefficients.shifted`: all that Zahavy et al. 2020 (STACX) tune in
    an actor-critic, and the learning rate; of every rule in `base` that has coefficients, so that auxiliary heads
    (`AuxiliaryHead`) are tuned each on its own. eta starts at theta["start"], which an outer loop may improve and which
    is zero, `base` itself, before. theta = {"start": [n], "base": the base rule's own}, n = heads times `learned`.

    z is exact for the last update (`decay=0`, as in the paper's experiments): forward-mode, one tangent a coefficient,
    because the rollout that made an agent is gone when it is judged. With `decay` > 0 earlier updates count too, as if
    parameters stayed where they were put.

    What it cannot see: the agent's value believes in the inner discount, so that with a trace' below 1 everything late
    is undervalued by the judge as well, and discounts fall (Bonnet et al. 2022); the effect of an update on later ones,
    so that learning rates fall too early under noise (Wu et al. 2018). `Schedule` trained over lifetimes sees both.
    Rewards are judged as they arrive: put what alters rewards inside, not outside.

    Departures: J is judged on-policy, on the fresh rollout, so STACX's V-trace and KL term have nothing to correct.
    Adam's denominator inside U is data (see `optimizers`). An outer loop sees where eta started and not how tuning
    moves it: that would be a third derivative.

    Attributes:
      outer: what the judge believes in.
      rate: step of eta, whose natural scale is one.
      tuner: eta's own optimizer.

    Raises:
      ValueError: `base` has no coefficients or no value head, `learned` names something else, `decay` is not in [0, 1].
    """

    base: Rule = ActorCritic()
    learned: tuple[str, ...] = ("learning_rate", "discount", "trace", "entropy", "value_cost")
    outer: Coefficients = Coefficients()
    reach: float = 4.0
    decay: float = 0.0
    rate: float = 0.02
    tuner: InnerOptimizer = Adam(eps=1e-8, max_norm=0.0)

    def __post_init__(self):
        parts(self.base, "coefficients")
        check_names(self.learned)
        if self.base.heads.flat.get("value") != 1:
            raise ValueError(f"base: a {type(self.base).__name__} has no head `value` of width 1 to judge by")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay is in [0, 1], not {self.decay}")

    @property
    def heads(self) -> Heads:
        return self.base.heads

    def init(self, key: PRNGKeyArray) -> Theta:
        heads = len(parts(self.base, "coefficients"))
        return {"start": jnp.zeros(heads * len(self.learned)), "base": self.base.init(key)}

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, Tuning]:
        params, base = self.base.birth(theta["base"], policy, key)
        moved = jnp.zeros_like(theta["start"])
        nothing = jax.tree.map(lambda p: jnp.zeros((*p.shape, moved.size), p.dtype), params)
        return params, Tuning(base, moved, self.tuner.init(moved), nothing)

    def coefficients_at(self, eta: Float[Array, " n"]) -> tuple[Coefficients, ...]:
        """What the rules in `base` that have coefficients are told, the outermost first."""
        usual = parts(self.base, "coefficients")
        by_head = eta.reshape(len(usual), len(self.learned))
        return tuple(shifted(c, self.learned, by, self.reach) for c, by in zip(usual, by_head, strict=True))

    def update(
        self, theta: Theta, params: Params, state: Tuning, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, Tuning, Metrics]:
        moved, moments = self._tuned(state, params, rollout, policy)
        eta = theta["start"] + moved
        here = (theta["base"], params, state.base, rollout)
        new, base, metrics = self._led_to(eta, here, policy, key)
        # Data: what tuning measures carries no meta-gradient, and inputs that carry none save a third derivative.
        still, constant = jax.lax.stop_gradient((eta, here))
        last = jax.jacfwd(lambda eta: self._led_to(eta, constant, policy, key)[0])(still)
        sensitivity = jax.tree.map(lambda z, dz: self.decay * z + dz, state.sensitivity, last)
        # The innermost acts; what is around it are heads 1, 2, ... from the inside.
        for number, told in enumerate(reversed(self.coefficients_at(eta))):
            head = f"_{number}" if number else ""
            metrics = metrics | {f"tuned_{name}{head}": getattr(told, name) for name in self.learned}
        return new, Tuning(base, moved, moments, sensitivity), metrics

    def _led_to(
        self,
        eta: Float[Array, " n"],
        here: tuple[Theta, Params, RuleState, Rollout],
        policy: Policy,
        key: PRNGKeyArray,
    ) -> tuple[Params, RuleState, Metrics]:
        """U: the base's update with the coefficients at eta."""
        return fed_all(self.base, "coefficients", self.coefficients_at(eta)).update(*here, policy, key)

    def _tuned(self, state: Tuning, params: Params, rollout: Rollout, policy: Policy) -> tuple[Array, RuleState]:
        """How far eta is from its start when the rollout has judged the parameters that acted in it."""
        still, rollout = jax.lax.stop_gradient((params, rollout))
        targets = prepare(still, self.outer, rollout, policy)
        judgement, _ = jax.grad(loss, has_aux=True)(still, targets, self.outer, rollout, policy)
        by_leaf = jax.tree.map(lambda g, z: jnp.tensordot(g, z, g.ndim), judgement, state.sensitivity)
        gradient = sum(jax.tree.leaves(by_leaf), start=jnp.zeros_like(state.moved))
        return self.tuner.update(gradient, state.moments, state.moved, self.rate)
