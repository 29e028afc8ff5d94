"""Architectures of the library learned_optimization (Metz et al.) as learned optimizers of agents.

Its own code runs (extra `lopt`); it is imported when a rule with one of these is first used.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from learned_rl.learned_optimizers.library import importable
from learned_rl.types import Params, Theta

RATE = 1e-3  # the sizes of their steps and their learning rates begin at this
_FRESH = 1e-6  # 1 - decay is at least this: in 32 bits a smaller one is soon none, and theirs then divide by zero
_UNSEEN = 1e-12  # stands for a gradient of exactly zero, at which roots of their moments have no derivative


class Borrowed:
    """What the architectures have in common.

        p <- p + learning_rate / 0.001 (theirs(g, p) - p)

    Theirs knows no learning rate from outside: with ours at 0.001 a step is theirs exactly, and a schedule scales it.
    Losses, the length of a life and whether a step is valid are not shown to it: none of these architectures looks.

    Departure: learned decays stay within [0, 1 - 1e-6], wherever theta goes: at 1 theirs turn to NaN, below -1 they
    explode. Theta beyond has no gradient.
    """

    still = False

    def made(self) -> Any:
        """The `LearnedOptimizer` of the library.

        Raises:
          ImportError: it is not installed; the message has the command.
        """
        raise NotImplementedError

    def held(self, theta: Theta) -> Theta:
        """Theta with its decays where they make sense."""
        return theta

    def init(self, key: PRNGKeyArray) -> Theta:
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), dict(self.made().init(jax.random.key_data(key))))

    def start(self, params: Params) -> PyTree:
        # What remembers nothing yet is the same whatever theta is.
        made = self.made()
        nothing = made.opt_fn(made.init(jax.random.PRNGKey(0))).init(params, num_steps=1)
        return _holding(nothing, ())

    def update(self, theta, gradient, state, params, senses, learning_rate) -> tuple[Params, PyTree]:
        gradient, seen = jax.lax.stop_gradient((jax.tree.map(_unseen, gradient), params))
        after = self.made().opt_fn(self.held(theta)).update(_holding(state, seen), gradient, loss=jnp.zeros(()))
        scale = learning_rate / RATE
        new = jax.tree.map(lambda p, old, new: p + scale * (new - old), params, seen, after.params)
        return new, _holding(after, ())


def _unseen(g):
    return jnp.where(g == 0, _UNSEEN, g)


def _holding(state: Any, params: Any) -> Any:
    """A state of theirs, which also holds the parameters, with others; ours does not keep a second copy."""
    state = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), state)  # some of its counters are bare numbers
    if dataclasses.is_dataclass(state):
        return dataclasses.replace(state, params=params)  # type: ignore[type-var]
    return state._replace(params=params)


@dataclass(frozen=True)
class LearnableAdam(Borrowed):
    """Adam (eps_root 1e-8 too) whose learning rate, decays and eps are theta: 4 numbers (`base.LearnableAdam`)."""

    def made(self) -> Any:
        with importable():
            from learned_optimization.learned_optimizers import base  # type: ignore[import-not-found]
        return base.LearnableAdam(initial_lr=RATE, use_summary=False)

    def held(self, theta: Theta) -> Theta:
        # Each is the logarithm of 1 - decay.
        betas = ("one_minus_beta1", "one_minus_beta2")
        return theta | {name: jnp.clip(theta[name], jnp.log(_FRESH), 0.0) for name in betas}


@dataclass(frozen=True)
class ElementMLP(Borrowed):
    """One network for every number alike: gradient, parameter, six momenta, time (`mlp_lopt.MLPLOpt`; Metz 2020).

    p <- p - 0.001 d exp(0.001 m),    d, m = MLP_theta(19 features, each scaled by its root mean square in the tensor)
    """

    hidden: int = 32
    layers: int = 2

    def made(self) -> Any:
        with importable():
            from learned_optimization.learned_optimizers import mlp_lopt  # type: ignore[import-not-found]
        return mlp_lopt.MLPLOpt(hidden_size=self.hidden, hidden_layers=self.layers, compute_summary=False)


_DECAYS = {
    "momentum_decays": (0.9, 0.99, 0.999),
    "rms_decays": (0.999,),
    "adafactor_decays": (0.9, 0.99, 0.999),
}  # at the start, theirs


@dataclass(frozen=True)
class AdafactorMLP(Borrowed):
    """A smaller network that also sees Adafactor's moments, its decays learned (`AdafacMLPLOpt`; Metz 2022)."""

    hidden: int = 4
    layers: int = 2

    def made(self) -> Any:
        with importable():
            from learned_optimization.learned_optimizers import adafac_mlp_lopt  # type: ignore[import-not-found]
        decays = {f"initial_{name}": starts for name, starts in _DECAYS.items()}
        return adafac_mlp_lopt.AdafacMLPLOpt(hidden_size=self.hidden, hidden_layers=self.layers, **decays)

    def held(self, theta: Theta) -> Theta:
        # Theirs is a tenth of the logarithm of (1 - decay) / (1 - the decay at the start).
        def within(x, starts):
            fresh = 1 - jnp.asarray(starts)
            return jnp.clip(x, jnp.log(_FRESH / fresh) / 10, -jnp.log(fresh) / 10)

        return theta | {name: within(theta[name], starts) for name, starts in _DECAYS.items()}
