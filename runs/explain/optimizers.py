"""A learned optimizer: what it does to a parameter, given a gradient and what came before, beside Adam and SGD."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_rl.learned_optimizers.protocol import LearnedOptimizer, Senses, Site
from learned_rl.learned_optimizers.residual import Residual
from learned_rl.optimizers import Adam, InnerOptimizer, Sgd
from learned_rl.rules.nested import part
from learned_rl.rules.optimised import Optimised
from learned_rl.types import Theta
from runs.explain.explanation import Explanation, Relation, at, heat, panels
from runs.figures import COLOURS

GRADIENT = np.linspace(-0.1, 0.1, 41, dtype=np.float32)
BEFORE = 10  # steps with the gradient of the past, before the one that is asked about
_SITE = (Site("actor", 0.5, False),)

Step = Callable[[Any, Any, Any], tuple[Any, Any]]  # gradient, state, params -> params, state


class Response(NamedTuple):
    """Updates p' - p: `first` after birth, `[g]`; `after` ten gradients of the past, `[past, g]`."""

    first: np.ndarray
    after: np.ndarray


def optimised(rule: Optimised, theta: Theta) -> Iterator[Explanation]:
    """The update of a tensor of 1,681 scalars at zero, whose gradients are all pairs of a past and a present one."""
    rate, adam = _rate(rule), _adam(rule.learned)
    found = {
        "this rule": response(_learned(rule.learned, theta["optimizer"], rate), rule.learned.start),
        "Adam": response(_plain(adam, rate), adam.init),
        "SGD": response(_plain(Sgd(), rate), Sgd().init),
    }
    figure, axes = panels(1, 4)
    for colour, (name, r) in zip(COLOURS[::2], found.items(), strict=False):
        axes[0, 0].plot(GRADIENT, r.first, color=colour, lw=1.8, label=name)
        axes[0, 0].plot(GRADIENT, np.diag(r.after), color=colour, lw=1.2, ls="--")
    axes[0, 0].set(xlabel="gradient", ylabel="update")
    axes[0, 0].set_title(f"first step, and step {BEFORE + 1} of the same (dashed)", fontsize=9)
    axes[0, 0].legend(fontsize=8, frameon=False)
    for axis, (name, r) in zip(axes[0, 1:], found.items(), strict=True):
        heat(axis, GRADIENT, GRADIENT, r.after, f"{name}: update")
        axis.set(xlabel="gradient now", ylabel=f"gradient of the {BEFORE} steps before")
    data = {f"{name}: {what}": x for name, r in found.items() for what, x in r._asdict().items()}
    relation = Relation.of(found["this rule"].after, gradients_before=GRADIENT, gradient=GRADIENT)
    yield Explanation("optimizer", _says(found, rate), {"gradient": GRADIENT, **data}, figure, relation)


def response(step: Step, start: Callable[[Any], Any]) -> Response:
    """What an optimizer does, asked of all pairs at once: they share one tensor, as a layer's weights do."""
    past, now = jnp.meshgrid(GRADIENT, GRADIENT, indexing="ij")

    @jax.jit
    def asked(gradients):
        new = params = {"w": jnp.zeros(gradients[0].shape)}
        state = start(params)
        for gradient in gradients:
            new, state = step({"w": gradient}, state, params)
        return new["w"]

    # Parameters are put back after every step: what is asked about is the memory, not where it led.
    return Response(np.asarray(asked([now]))[0], np.asarray(asked([*[past] * BEFORE, now])))


def _learned(learned: LearnedOptimizer, theta: Theta, rate: float) -> Step:
    def step(gradient, state, params):
        senses = Senses(
            activations=jax.tree.map(lambda p: jnp.ones(p.shape[-1:]), params),
            training=jnp.asarray(0.5),
            batch=jnp.asarray(0.5),
            noise=jax.tree.map(jnp.zeros_like, params),
            sites=_SITE,
        )
        return learned.update(theta, gradient, state, params, senses, rate)

    return step


def _plain(optimizer: InnerOptimizer, rate: float) -> Step:
    return lambda gradient, state, params: optimizer.update(gradient, state, params, rate)


def _adam(learned: LearnedOptimizer) -> InnerOptimizer:
    """The one that a residual corrects, so that untrained both are the same."""
    return learned.base if isinstance(learned, Residual) else Adam()


def _rate(rule: Optimised) -> float:
    try:
        return float(part(rule.base, "coefficients").learning_rate)
    except ValueError:
        return float(part(rule.base, "learning_rate"))


def _says(found: dict[str, Response], rate: float) -> str:
    ours, adam = found["this rule"], found["Adam"]
    high = at(GRADIENT, 0.05)
    apart = np.max(np.abs(ours.after - adam.after)) / np.max(np.abs(adam.after))
    along = 100 * np.mean((np.sign(ours.first) == -np.sign(GRADIENT))[GRADIENT != 0])
    return (
        f"Update of a parameter at learning rate {rate:g}, noise left out: a gradient of 0.05 moves it by "
        f"{ours.first[high]:.3g} at the first step (Adam {adam.first[high]:.3g}, SGD {found['SGD'].first[high]:.3g}) "
        f"and by {ours.after[high, high]:.3g} at step {BEFORE + 1}; {along:.0f} % of first updates go against the "
        f"gradient; over pasts and presents it is at most {100 * apart:.3g} % of Adam's largest update from Adam."
    )
