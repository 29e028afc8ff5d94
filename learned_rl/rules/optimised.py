"""Learned optimizers inside rules: any rule, with its gradients turned into steps by a network."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from learned_rl.learned_optimizers.protocol import LearnedOptimizer, Senses, Site, normal_like
from learned_rl.learned_optimizers.residual import Residual
from learned_rl.learned_optimizers.sensing import WiredPolicy, activations, heard, unwired
from learned_rl.learned_optimizers.sites import sites
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.nested import fed, part
from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, Rule, RuleState, Theta

_NOISE = 0x6E6F6973  # more than any number of keys that a rule splits its own into


@dataclass(frozen=True)
class Optimised:
    """Combinator: `base`, its optimizer replaced by a learned one. theta = {"base": ..., "optimizer": ...}.

    The learned optimizer sees, beside the gradient of each of base's steps (`Senses`):

        activations  of the very pass that was differentiated, whatever the base (see `sensing`)
        training     k / (n - 1) in the k-th of the n rollouts of a lifetime, from 0 to 1
        batch        e / (epochs - 1) in the e-th pass over a rollout, from 0 to 1; 0 if there is one

    as OPEN's does (Goldie et al. 2024), but for what would be 0 / 0. Sites, of tensors, are found by following what the
    agent's outputs are computed from. A base with neither epochs nor minibatches takes one step a rollout.

    Raises:
      ValueError: `base` has no optimizer.
    """

    base: Rule = ActorCritic()
    learned: LearnedOptimizer = Residual()

    def __post_init__(self):
        part(self.base, "optimizer")

    @property
    def heads(self) -> Heads:
        return self.base.heads

    def init(self, key: PRNGKeyArray) -> Theta:
        key_base, key_optimizer = jax.random.split(key)
        return {"base": self.base.init(key_base), "optimizer": self.learned.init(key_optimizer)}

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        base = fed(self.base, "optimizer", Bound(self.learned, theta["optimizer"]))
        params, state = base.birth(theta["base"], WiredPolicy(policy), key)
        return unwired(params), state

    def update(
        self, theta: Theta, params: Params, state: RuleState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, RuleState, Metrics]:
        wired = WiredPolicy(policy)
        moment = Moment(
            training=_training(rollout),
            epochs=_count(self.base, "epochs"),
            minibatches=_count(self.base, "minibatches"),
            sites=sites(wired.layers, params),
            key=jax.random.fold_in(key, _NOISE),
        )
        # The base is given its key as it is, so that around an untrained optimizer it is the base alone.
        base = fed(self.base, "optimizer", Bound(self.learned, theta["optimizer"], moment))
        new, state, metrics = base.update(theta["base"], wired.wire(params), state, rollout, wired, key)
        return unwired(new), state, metrics


class Moment(NamedTuple):
    """What is the same for all steps on one rollout."""

    training: Float[Array, ""]
    epochs: int
    minibatches: int
    sites: tuple[Site, ...]
    key: PRNGKeyArray

    def batch(self, steps: Int[Array, ""]) -> Float[Array, ""]:
        """Progress of the epochs."""
        epoch = (steps // self.minibatches) % self.epochs
        return epoch.astype(jnp.float32) / max(self.epochs - 1, 1)


class BoundState(NamedTuple):
    """`steps` in this life, and the learned optimizer's own state."""

    steps: Int[Array, ""]
    learned: PyTree


@dataclass(frozen=True)
class Bound:
    """An `InnerOptimizer`: a learned one with its theta, and the moment of a life in which it is used."""

    learned: LearnedOptimizer
    theta: Theta
    moment: Moment | None = None

    def init(self, params: Params) -> BoundState:
        return BoundState(jnp.zeros((), jnp.int32), self.learned.start(unwired(params)))

    def update(
        self, gradient: Params, state: BoundState, params: Params, learning_rate: Any
    ) -> tuple[Params, BoundState]:
        moment, plain = self.moment, unwired(params)
        assert moment is not None, "an optimizer is bound to a moment before it is used"
        senses = Senses(
            activations=activations(plain, heard(gradient)),
            training=moment.training,
            batch=moment.batch(state.steps),
            noise=normal_like(plain, jax.random.fold_in(moment.key, state.steps)),
            sites=moment.sites,
        )
        new, learned = self.learned.update(self.theta, unwired(gradient), state.learned, plain, senses, learning_rate)
        return {**params, **new}, BoundState(state.steps + 1, learned)


def _training(rollout: Rollout) -> Float[Array, ""]:
    """k / (n - 1) in the k-th of n rollouts; at most 1."""
    progress, lifetime = jnp.asarray(rollout.progress), jnp.asarray(rollout.lifetime)
    return jnp.minimum(progress * lifetime / jnp.maximum(lifetime - 1, 1), 1)


def _count(rule: Rule, name: str) -> int:
    """How many `epochs` or `minibatches` a rule has: 1 unless it says otherwise."""
    try:
        return part(rule, name)
    except ValueError:
        return 1
