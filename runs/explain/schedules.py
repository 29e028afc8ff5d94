"""Coefficients over a lifetime: of a learned schedule, of a straight line, and where self-tuning begins."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np

from learned_rl.rules.anneal import Anneal
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.nested import part, parts
from learned_rl.rules.schedule import USUAL_KL, Schedule, Statistics
from learned_rl.rules.self_tuning import SelfTuning
from learned_rl.types import Theta
from runs.explain.explanation import Explanation, bars, most, panels, without
from runs.figures import COLOURS

PROGRESS = np.linspace(0, 1, 51, dtype=np.float32)
# What a schedule is told beside progress: at a usual moment, and at the ends of what there may be (of the KL, log10).
USUAL = {"entropy": 0.7, "kl": USUAL_KL, "improvement": 0.0, "signal": 0.0}
ENDS = {"entropy": (0.1, 1.5), "kl": (-4.0, 0.0), "improvement": (-0.9, 0.9), "signal": (-0.9, 0.9)}


def schedule(rule: Schedule, theta: Theta) -> Iterator[Explanation]:
    """Curves at usual statistics of a life, the range over others, and what the schedule reads."""

    def told(x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The learned coefficients, over those of `base`; inputs `[n]`."""

        def one(x: Mapping[str, jax.Array]) -> Coefficients:
            return rule.coefficients_at(theta, x["progress"], Statistics(*(x[name] for name in Statistics._fields)))

        found = jax.vmap(one)({name: jnp.asarray(v, jnp.float32) for name, v in x.items()})
        return {name: np.asarray(getattr(found, name)) for name in rule.learned}

    usual = told({"progress": PROGRESS} | {name: np.full_like(PROGRESS, v) for name, v in USUAL.items()})
    rng = np.random.default_rng(0)
    probes = {"progress": rng.random(512)} | {name: rng.uniform(*ends, 512) for name, ends in ENDS.items()}
    probes["kl"] = 10 ** probes["kl"]
    spread = told(probes)
    base = part(rule.base, "coefficients")

    def output(x: Mapping[str, np.ndarray]) -> np.ndarray:
        scaled = [_change(c, base, name) for name, c in told(x).items()]
        return np.stack(scaled)

    shares = without(output, probes)
    ranges = {name: (x.min(), x.max()) for name, x in spread.items()}
    figure, axes = panels(1, 2)
    _lines(axes[0, 0], {name: _relative(x, base, name) for name, x in usual.items()})
    bars(axes[0, 1], shares)
    ends = "; ".join(
        f"{name} goes from {x[0]:.3g} to {x[-1]:.3g} ({_base(base, name):.3g} in its base; "
        f"{ranges[name][0]:.3g} to {ranges[name][1]:.3g} over other statistics)"
        for name, x in usual.items()
    )
    yield Explanation("schedule", f"Coefficients over a lifetime: {ends}; {most(shares)}.", _data(usual), figure)


def annealed(rule: Anneal, theta: Theta) -> Iterator[Explanation]:
    """Straight lines."""
    base = part(rule.base, "coefficients")
    left = 1 - (1 - rule.final) * PROGRESS
    found = {name: _base(base, name) * left for name in rule.annealed}
    figure, axes = panels(1, 1)
    _lines(axes[0, 0], {name: _relative(x, base, name) for name, x in found.items()})
    ends = "; ".join(f"{name} falls from {x[0]:.3g} to {x[-1]:.3g}" for name, x in found.items())
    yield Explanation("schedule", f"Coefficients over a lifetime: {ends}, in a straight line.", _data(found), figure)


def tuned(rule: SelfTuning, theta: Theta) -> Iterator[Explanation]:
    """Where a life's tuning starts."""
    heads = zip(parts(rule.base, "coefficients"), rule.coefficients_at(theta["start"]), strict=True)
    found, moved, said = {}, {}, []
    for number, (base, start) in enumerate(heads):
        for name in rule.learned:
            label = f"{name} ({number})" if number else name  # of the rules inside, from the outside
            found[label] = x = np.asarray(getattr(start, name))
            moved[label] = float(_change(x, base, name))
            said.append(f"{label} starts at {float(x):.3g} ({_base(base, name):.3g} in its base)")
    figure, axes = panels(1, 1)
    axes[0, 0].barh(list(moved), list(moved.values()), color="#0072B2")
    axes[0, 0].set_xlabel("log of where tuning starts over the base's")
    yield Explanation("self-tuning", f"{'; '.join(said)}.", found, figure)


def _base(base: Coefficients, name: str) -> float:
    return float(asdict(base)[name])


def _relative(x: np.ndarray, base: Coefficients, name: str) -> np.ndarray:
    return x / (_base(base, name) or 1.0)


def _change(x: np.ndarray, base: Coefficients, name: str) -> np.ndarray:
    """log c / c_base: on one scale for all coefficients; of one that is 0, nothing moves."""
    return np.log(np.maximum(_relative(x, base, name), 1e-12)) if _base(base, name) else 0 * x


def _data(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"progress": PROGRESS, **found}


def _lines(axis, curves: Mapping[str, np.ndarray]) -> None:
    for colour, (name, y) in zip(COLOURS, curves.items(), strict=False):
        axis.plot(PROGRESS, y, color=colour, lw=1.8, label=name)
    axis.axhline(1, color="0.8", lw=1, zorder=0)
    axis.set(xlabel="fraction of the lifetime", ylabel="coefficient / its base's")
    axis.legend(fontsize=8, frameon=False)
