"""A drift f(r, A) and its slope in r, beside PPO's and DPO's; and as few terms of a formula as will do."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from learned_rl.rules.drift import ClipDrift, DiscoveredDrift, Drift, DriftFunction
from learned_rl.types import Theta
from runs.explain.explanation import Explanation, Relation, heat, most, panels, without
from runs.explain.symbolic import sparse_fit

LOG_RATIO, ADVANTAGE = np.linspace(-1, 1, 81, dtype=np.float32), np.linspace(-3, 3, 81, dtype=np.float32)
UPDATES = 100.0  # of the life that temporal drifts are asked about


class Surface(NamedTuple):
    """f and df/dr over advantage x log-ratio, `[81, 81]`."""

    value: Float[np.ndarray, "a l"]
    slope: Float[np.ndarray, "a l"]


def surface(drift: DriftFunction, theta: Theta, clip: float, progress: float = 0.5) -> Surface:
    """A drift on the grid, at some progress of a life of 100 updates."""
    log_ratio, advantage = jnp.meshgrid(LOG_RATIO, ADVANTAGE)
    now = (progress, np.log(UPDATES))
    value, back = jax.vjp(lambda x: drift(theta, x, advantage, clip, now), log_ratio)
    (slope,) = back(jnp.ones_like(value))
    return Surface(np.asarray(value), np.asarray(slope / jnp.exp(log_ratio)))


def drift(rule: Drift, theta: Theta) -> Iterator[Explanation]:
    """The heat maps, and, where f was learned, a formula for it."""
    clip = float(rule.coefficients.clip)
    found = {"this rule": surface(rule.drift, theta, clip), "PPO": surface(ClipDrift(), (), clip)}
    found["DPO"] = surface(DiscoveredDrift(), (), clip)
    relation = Relation.of(found["this rule"].value, advantage=ADVANTAGE, log_ratio=LOG_RATIO)
    yield Explanation("drift", _says(rule, theta, found), _data(found), _draw(found), relation)
    if jax.tree.leaves(theta):
        yield _formula(rule, theta, found)


def _data(found: dict[str, Surface]) -> dict[str, np.ndarray]:
    named = {f"{name}: {what}": x for name, s in found.items() for what, x in s._asdict().items()}
    return {"log_ratio": LOG_RATIO, "advantage": ADVANTAGE, **named}


def _says(rule: Drift, theta: Theta, found: dict[str, Surface]) -> str:
    zero = {name: f"{100 * np.mean(s.value == 0):.0f} %" for name, s in found.items()}
    ours = found["this rule"].value
    apart = {name: np.max(np.abs(ours - found[name].value)) for name in ("PPO", "DPO")}
    ends = [surface(rule.drift, theta, float(rule.coefficients.clip), progress).value.mean() for progress in (0, 1)]
    over = f"; over a life its mean goes from {ends[0]:.3g} to {ends[1]:.3g}" if ends[0] != ends[1] else ""
    return (
        f"Drift over log-ratio in [-1, 1] and advantage in [-3, 3]: zero on {zero['this rule']} "
        f"of it (PPO {zero['PPO']}, DPO {zero['DPO']}), mean {ours.mean():.3g}, at most {apart['PPO']:.3g} from PPO's "
        f"and {apart['DPO']:.3g} from DPO's{over}."
    )


def _draw(found: dict[str, Surface]):
    figure, axes = panels(2, len(found))
    for row, what, title in ((0, "value", "drift"), (1, "slope", "d drift / dr")):
        limit = max(float(np.max(np.abs(getattr(s, what)))) for s in found.values())
        for axis, (name, s) in zip(axes[row], found.items(), strict=True):
            heat(axis, LOG_RATIO, ADVANTAGE, getattr(s, what), f"{name}: {title}", limit)
            axis.set(xlabel="log r", ylabel="advantage")
    return figure


def terms(log_ratio: np.ndarray, advantage: np.ndarray, clip: float) -> dict[str, np.ndarray]:
    """The declared basis: what a drift may be made of, PPO's and DPO's own forms included."""
    u, up, down = np.expm1(log_ratio), np.expm1(log_ratio) * advantage, log_ratio * advantage
    powers = {"(r-1)^2": u**2, "(r-1)^2 A": u**2 * advantage, "(log r)^2": log_ratio**2, "(r-1) A": up}
    powers |= {"(log r)^2 A": log_ratio**2 * advantage, "log(r) A": down, "r-1": u, "log r": log_ratio}
    bent = {"relu((r-1) A)": np.maximum(up, 0), "relu(log(r) A)": np.maximum(down, 0), "|r-1|": np.abs(u)}
    bent |= {"tanh((r-1) A)": np.tanh(up), "tanh(log(r) A)": np.tanh(down), "((r-1) A)^2": up**2}
    known = {"PPO": ClipDrift(), "DPO": DiscoveredDrift()}
    return (
        powers
        | bent
        | {name: np.asarray(f((), jnp.asarray(log_ratio), jnp.asarray(advantage), clip)) for name, f in known.items()}
    )


def _formula(rule: Drift, theta: Theta, found: dict[str, Surface]) -> Explanation:
    log_ratio, advantage = np.meshgrid(LOG_RATIO, ADVANTAGE)
    clip, value = float(rule.coefficients.clip), found["this rule"].value
    basis = terms(log_ratio, advantage, clip)
    fit = sparse_fit({name: x.ravel() for name, x in basis.items()}, value.ravel())
    fitted = sum((c * basis[name] for name, c in fit.terms.items()), np.zeros_like(value))

    def output(x: dict[str, np.ndarray]):
        return rule.drift(theta, jnp.asarray(x["log r"]), jnp.asarray(x["advantage"]), clip, (0.5, np.log(UPDATES)))

    shares = without(output, {"log r": log_ratio, "advantage": advantage})
    figure, axes = panels(1, 2)
    axes[0, 0].plot(value.ravel(), fitted.ravel(), ".", ms=1.5, color="#0072B2", rasterized=True)
    axes[0, 0].axline((0, 0), slope=1, color="0.7", lw=1)
    axes[0, 0].set(xlabel="drift", ylabel="formula")
    axes[0, 0].set_title(f"R² {fit.r2:.3f} on held-out points", fontsize=10)
    axes[0, 1].barh(list(fit.terms), list(fit.terms.values()), color="#D55E00")
    axes[0, 1].set_title("coefficients of the formula", fontsize=10)
    says = (
        f"Sparse least squares over {len(basis)} declared terms: f = {fit}, with a cross-validated R² of {fit.r2:.3f}; "
        f"{most(shares)}."
    )
    return Explanation("drift-formula", says, {"drift": value, "formula": fitted}, figure)
