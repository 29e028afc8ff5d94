"""The work-error plot: what an estimate costs, how far off it is, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from runs.bias import Outcome, Row

# Okabe & Ito's palette, without the grey and the black that stand for other things here.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", ":", "-.")
SHARES = {"bias": "#000000", "perturbation": "#0072B2", "inner": "#E69F00", "task": "#009E73", "noise": "#BBBBBB"}


def work_error(outcome: Outcome, path: Path) -> None:
    """Left: RMS error over cost, one line a setting, flat where bias is left. Right: what the error consists of."""
    rows = [row for row in outcome.rows if np.isfinite(row.trial.error(1))]
    tall = max(4.6, 0.24 * len(rows) + 1.6)
    figure = Figure(figsize=(13, tall), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    ceiling = _ceiling(outcome, rows)
    _curves(left, outcome, rows, ceiling)
    _shares(right, outcome)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside left center", fontsize=8.5, frameon=False, title="setting"
    )
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _curves(axis: Any, outcome: Outcome, rows: list[Row], ceiling: float) -> None:
    names = list(dict.fromkeys(row.setting.estimator for row in rows))
    for row in rows:
        siblings = [other for other in rows if other.setting.estimator == row.setting.estimator]
        trial = row.trial
        most = max(100 * outcome.budget / trial.cost, 10 * trial.unit)
        lives = np.geomspace(trial.unit, most, 80)
        style = STYLES[siblings.index(row) % len(STYLES)]
        colour = COLOURS[names.index(row.setting.estimator) % len(COLOURS)]
        errors = np.sqrt(trial.error(lives))
        label = str(row.setting) + (" (above)" if errors.min() > ceiling else " (exact)" if errors.max() < 1e-9 else "")
        axis.plot(lives * trial.cost, errors, style, color=colour, lw=1.6, label=label)
    row = outcome.recommended
    lives = row.trial.lives(outcome.budget)
    error = np.sqrt(row.trial.error(lives))
    if error > 1e-9:  # a logarithm has no place for an exact one
        spot = lives * row.trial.cost
        axis.plot(spot, error, marker="*", color="#000000", ms=13, zorder=5, ls="none", label="recommended")
    axis.axvline(outcome.budget, color="0.6", lw=1, ls=(0, (2, 2)), zorder=0)
    axis.axhline(1, color="0.85", lw=1, zorder=0)
    axis.annotate(
        "equal cost",
        (outcome.budget, 0.01),
        xycoords=("data", "axes fraction"),
        xytext=(4, 2),
        textcoords="offset points",
        fontsize=8,
        color="0.4",
    )
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="inner steps per estimate",
        ylabel="RMS error of an estimate / ‖∇L‖",
        title=f"{outcome.subject.name}: work and error",
    )
    errors = [float(np.sqrt(r.trial.error(100 * outcome.budget / r.trial.cost))) for r in rows]
    axis.set_ylim(0.5 * max(min([error for error in errors if error > 1e-9], default=1e-3), 1e-4), ceiling)


def _ceiling(outcome: Outcome, rows: list[Row]) -> float:
    """Above the noisiest line that is worth a look; one that no number of lives brings near 1 is not."""
    starts = [float(np.sqrt(row.trial.error(row.trial.unit))) for row in rows if row.trial.bias < 100]
    return 2 * max([1.0, *starts])


def _shares(axis: Any, outcome: Outcome) -> None:
    """The mean squared error at equal cost as fractions, of every estimator at its best setting."""
    labels, kinds = [], set()
    for y, (row, _, split) in enumerate(outcome.parts.values()):
        trial = row.trial
        lives = trial.lives(outcome.budget)
        noise = trial.variance / lives
        parts = {"bias": max(trial.bias, 0.0)}
        sources = {name: part.point for name, part in split._asdict().items() if part.low > 0} if split else {}
        whole = sum(sources.values())
        # How noise splits is known of whole lifetimes; its size, of single estimates.
        parts |= {name: noise * part / whole for name, part in sources.items()} if whole > 0 else {"noise": noise}
        total, left = sum(parts.values()), 0.0
        for name, part in parts.items():
            share = part / total if total > 0 else 0.0
            if share > 0:
                axis.barh(
                    y, share, left=left, color=SHARES[name], height=0.6, label=None if name in kinds else _KIND[name]
                )
                kinds.add(name)
            left += share
        error = f"{np.sqrt(total):.3g}" if total > 1e-20 else "0"
        labels.append(f"{row.setting}\nlives={lives}: error {error}")
    axis.set_yticks(range(len(labels)), labels, fontsize=8.5)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set(xlim=(0, 1), xlabel="share of the mean squared error at equal cost", title="best setting of each")
    if kinds:
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=4, fontsize=8.5, frameon=False)


_KIND = {
    "bias": "bias²",
    "perturbation": "perturbation noise",
    "inner": "inner noise",
    "task": "task noise",
    "noise": "noise (not split)",
}
