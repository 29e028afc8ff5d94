"""Figures, as PNG files. Drawn on the object-oriented interface: no display, no global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from runs.comparison import Comparison
from runs.statistics import Band, Interval

# Okabe & Ito's palette: told apart by colour-blind readers too.
COLOURS = ("#D55E00", "#999999", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


COLUMNS = 4  # panels side by side
WHOLE = "95 % interval"


def _axes(panels: int, width: float, height: float) -> tuple[Figure, Sequence[Any]]:
    """A figure of `panels` axes, in rows of at most `COLUMNS`."""
    columns = min(panels, COLUMNS)
    rows = -(-panels // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis in axes[panels:]:
        axis.remove()
    return figure, axes[:panels]  # type: ignore[return-value]


def _styles(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """A colour for every rule; those after the eighth have dashed lines."""
    n = len(COLOURS)
    return {
        name: {"color": COLOURS[i % n], "ls": ("-", "--", ":")[i // n % 3]} for i, name in enumerate(comparison.results)
    }


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _legend_below(figure: Figure, axis: Any) -> None:
    handles, labels = axis.get_legend_handles_labels()
    inches = 0.7 + 0.09 * max(map(len, labels))  # of an entry
    columns = max(1, min(len(labels), int(figure.get_figwidth() / inches)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def _band(axis: Any, x: Float[np.ndarray, " n"], band: Band, style: Mapping[str, Any], label: str) -> None:
    axis.plot(x, band.point, lw=1.8, label=label, **style)
    axis.fill_between(x, band.low, band.high, color=style["color"], alpha=0.18, lw=0)


def _bars(axis: Any, intervals: Mapping[str, tuple[Interval, str]]) -> None:
    """Intervals below each other: label -> (interval, colour)."""
    for y, (interval, colour) in enumerate(intervals.values()):
        axis.plot([interval.low, interval.high], [y, y], color=colour, lw=6, alpha=0.5, solid_capstyle="butt")
        axis.plot(interval.point, y, "o", color=colour, ms=7)
    axis.set_yticks(range(len(intervals)), intervals)
    axis.set_ylim(len(intervals) - 0.5, -0.5)


def learning_curves(comparison: Comparison, path: Path) -> None:
    """Mean return along training per task, one line a rule, with the standard error over agents."""
    figure, axes = _axes(len(comparison.tasks), 4.2, 3.4)
    styles = _styles(comparison)
    for axis, task in zip(axes, comparison.tasks, strict=True):
        for name, by_task in comparison.results.items():
            returns = by_task[task].returns
            mean, error = returns.mean(0), returns.std(0) / np.sqrt(len(returns))
            _band(axis, comparison.points(task), Band(mean, mean - error, mean + error), styles[name], name)
        axis.set(title=task, xlabel="environment steps", ylabel="episode return")
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    _legend_below(figure, axes[0])
    _save(figure, path)


def intervals(comparison: Comparison, path: Path) -> None:
    """Normalised IQM of every rule with its interval."""
    figure, (axis,) = _axes(1, 6.4, 0.45 * len(comparison.results) + 1.2)
    _bars(axis, {name: (comparison.aggregate(name), s["color"]) for name, s in _styles(comparison).items()})
    axis.set(xlabel=f"normalised IQM over tasks, {WHOLE}")
    for x in (0, 1):
        axis.axvline(x, color="0.8", lw=1, zorder=0)
    _save(figure, path)


def performance_profile(comparison: Comparison, path: Path) -> None:
    """The fraction of runs above a normalised score, over that score, one line a rule, with pointwise intervals."""
    figure, (axis,) = _axes(1, 6.4, 4.0 + 0.12 * len(comparison.results))
    scores = np.concatenate([comparison.normalised(name).ravel() for name in comparison.results])
    low, high = np.nanquantile(scores, [0.01, 0.99])
    taus = np.linspace(min(low, 0.0) - 0.05, max(high, 1.0) + 0.05, 201)
    for name, style in _styles(comparison).items():
        _band(axis, taus, comparison.profile(name, taus), style, name)
    axis.set(xlabel=f"normalised score tau, {WHOLE}s", ylabel="fraction of runs above tau", ylim=(-0.02, 1.02))
    axis.set_xlim(taus[0], taus[-1])
    _legend_below(figure, axis)
    _save(figure, path)


def sample_efficiency(comparison: Comparison, path: Path) -> None:
    """IQM over all tasks of the normalised return along training, one line a rule, with pointwise intervals."""
    figure, (axis,) = _axes(1, 6.4, 4.0 + 0.12 * len(comparison.results))
    for name, style in _styles(comparison).items():
        _band(axis, comparison.fractions, comparison.efficiency(name), style, name)
    axis.set(xlabel=f"fraction of a training's environment steps, {WHOLE}s", ylabel="normalised IQM", xlim=(0, 1))
    for y in (0, 1):
        axis.axhline(y, color="0.8", lw=1, zorder=0)
    _legend_below(figure, axis)
    _save(figure, path)


def probability_of_improvement(comparison: Comparison, ours: str, path: Path) -> None:
    """P(a run of ours beats one of another rule) with its interval, one bar a rule."""
    others = {name: style["color"] for name, style in _styles(comparison).items() if name != ours}
    figure, (axis,) = _axes(1, 6.4, 0.45 * len(others) + 1.2)
    _bars(axis, {name: (comparison.judge(ours, name).improvement, colour) for name, colour in others.items()})
    axis.set(xlabel=f"P({ours} beats it), {WHOLE}", xlim=(-0.02, 1.02))
    axis.axvline(0.5, color="0.6", lw=1, ls="--", zorder=0)
    _save(figure, path)


def training_curves(history: Mapping[str, tuple[Sequence[int], Sequence[float]]], path: Path) -> None:
    """What inner agents earned while the rule was learned: one panel a task family."""
    figure, axes = _axes(len(history), 4.2, 3.2)
    for axis, (name, (steps, values)) in zip(axes, history.items(), strict=True):
        axis.plot(steps, values, color=COLOURS[0], lw=1.5)
        axis.set(title=name, xlabel="outer step", ylabel="mean return over all ages")
    _save(figure, path)
