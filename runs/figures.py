"""Figures, as PNG files. Drawn on the object-oriented interface: no display, no global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from runs.comparison import Comparison

# Okabe & Ito's palette: told apart by colour-blind readers too.
COLOURS = ("#D55E00", "#999999", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def _axes(columns: int, width: float, height: float) -> tuple[Figure, Sequence[Any]]:
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, np.atleast_1d(figure.subplots(1, columns)).ravel()  # type: ignore[return-value]


def learning_curves(comparison: Comparison, path: Path) -> None:
    """Mean return along training per task, one line a rule, with the standard error over agents."""
    figure, axes = _axes(len(comparison.tasks), 4.2, 3.4)
    for axis, task, steps in zip(axes, comparison.tasks, comparison.env_steps, strict=True):
        for colour, (name, by_task) in zip(COLOURS, comparison.results.items(), strict=False):
            returns = by_task[task].returns
            x = np.linspace(0, steps, returns.shape[1])
            mean, error = returns.mean(0), returns.std(0) / np.sqrt(len(returns))
            axis.plot(x, mean, color=colour, label=name, lw=1.8)
            axis.fill_between(x, mean - error, mean + error, color=colour, alpha=0.2, lw=0)
        axis.set(title=task, xlabel="environment steps", ylabel="episode return")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(comparison.results))
    figure.savefig(path, dpi=120, metadata={"Software": None})


def intervals(comparison: Comparison, path: Path) -> None:
    """Normalised IQM of every rule with its 95 % interval."""
    figure, (axis,) = _axes(1, 6.4, 0.5 * len(comparison.results) + 1.2)
    names = list(comparison.results)[::-1]
    for y, name in enumerate(names):
        colour = COLOURS[list(comparison.results).index(name) % len(COLOURS)]
        interval = comparison.aggregate(name)
        axis.plot([interval.low, interval.high], [y, y], color=colour, lw=6, alpha=0.5, solid_capstyle="butt")
        axis.plot(interval.point, y, "o", color=colour, ms=7)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="normalised IQM over held-out tasks, 95 % stratified bootstrap interval")
    axis.axvline(0, color="0.8", lw=1, zorder=0)
    axis.axvline(1, color="0.8", lw=1, zorder=0)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def training_curves(history: Mapping[str, tuple[Sequence[int], Sequence[float]]], path: Path) -> None:
    """What inner agents earned while the rule was learned: one panel a task family."""
    figure, axes = _axes(len(history), 4.2, 3.2)
    for axis, (name, (steps, values)) in zip(axes, history.items(), strict=True):
        axis.plot(steps, values, color=COLOURS[0], lw=1.5)
        axis.set(title=name, xlabel="outer step", ylabel="mean return over all ages")
    figure.savefig(path, dpi=120, metadata={"Software": None})
