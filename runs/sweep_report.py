"""A sweep as people read it: a table and a figure a knob, and CSV for whoever re-analyses it, or draws it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runs.durable import replace_file
from runs.knobs import Knob
from runs.tables import csv_text
from runs.trials import Trial

if TYPE_CHECKING:
    from runs.sweep import Point

SUMMARY = ("mean", "low", "high", "in_training", "diverged")
NOTE = (
    "Mean return over the last tenth of training, 95 % bootstrap intervals over agents; equal environment steps for "
    "every rule at a value. Diverged: parameters or scores that are not finite, or a mean below that of agents that do "
    "not learn by more than noise."
)


def write(turned: Mapping[str, Knob], found: Sequence[Point], trial: Trial, folder: Path) -> str:
    """Writes `sweep.md`, `sweep.csv`, `agents.csv` and a figure a knob into `folder`; returns the text."""
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(turned, found, trial)
    replace_file(folder / "sweep.md", text.encode())
    replace_file(folder / "sweep.csv", csv_text(("knob", "value", "rule", *SUMMARY), summary(turned, found)).encode())
    replace_file(folder / "agents.csv", csv_text(("knob", "value", "rule", "seed", "score"), agents(found)).encode())
    for name, knob in turned.items():
        figure([p for p in found if p.knob == name], knob, trial, folder / f"sweep-{name}.png")
    return text


def markdown(turned: Mapping[str, Knob], found: Sequence[Point], trial: Trial) -> str:
    """A table a knob: what every rule earned at every value, and what there is to be said of the value."""
    lines = [f"# {trial.name}: {trial.streams} streams x {trial.steps} steps x {trial.updates} updates", ""]
    for name, knob in turned.items():
        here = [p for p in found if p.knob == name]
        rules = list(dict.fromkeys(p.rule for p in here))
        lines += [f"## {name}: {knob.title}", "", f"| value | {' | '.join(rules)} | |", "|---" * (len(rules) + 2) + "|"]
        for value in knob.trials:
            row = [p for p in here if p.value == value]
            cells = [f"{p.mean.point:.2f} [{p.mean.low:.2f}, {p.mean.high:.2f}]" for p in row]
            lines.append(f"| {value:g} | {' | '.join(cells)} | {remarks(row, knob, value)} |")
        lines.append("")
    return "\n".join([*lines, NOTE]) + "\n"


def remarks(row: Sequence[Point], knob: Knob, value: float) -> str:
    """Whether a value is the rule's training's, and whose agents diverged."""
    seen = ["in training"] if in_training(knob, value) else []
    return "; ".join([*seen, *(f"{p.rule}: {p.diverged}" for p in row if p.diverged)])


def in_training(knob: Knob, value: float) -> bool:
    """Within the range of the training, as far as the rule's record says."""
    return bool(knob.trained) and min(knob.trained) <= value <= max(knob.trained)


def summary(turned: Mapping[str, Knob], found: Sequence[Point]) -> Iterator[tuple[Any, ...]]:
    """One line a knob, value and rule."""
    for p in found:
        seen = in_training(turned[p.knob], p.value)
        yield p.knob, f"{p.value:g}", p.rule, *map(float, p.mean), "yes" if seen else "no", p.diverged


def agents(found: Sequence[Point]) -> Iterator[tuple[Any, ...]]:
    """One line an agent, every digit."""
    for p in found:
        yield from ((p.knob, f"{p.value:g}", p.rule, i, repr(float(x))) for i, x in enumerate(p.scores))


def figure(here: Sequence[Point], knob: Knob, trial: Trial, path: Path) -> None:
    """Return over the knob, a line a rule with its interval; the training range shaded, divergence crossed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from runs.figures import COLOURS

    drawing = Figure(figsize=(5.6, 4.0), layout="constrained")
    FigureCanvasAgg(drawing)
    axis = drawing.subplots()
    _axis(axis, knob)
    for colour, rule in zip(COLOURS, dict.fromkeys(p.rule for p in here), strict=False):
        line = [p for p in here if p.rule == rule]
        x, y = np.array([p.value for p in line]), np.array([p.mean.point for p in line])
        low, high = np.array([p.mean.low for p in line]), np.array([p.mean.high for p in line])
        axis.plot(x, y, "o-", color=colour, lw=1.6, ms=4, label=rule)
        axis.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
        lost = np.array([bool(p.diverged) for p in line])
        axis.plot(x[lost], y[lost], "x", color=colour, ms=11, mew=2)
        # Where no agent was left there is no return to draw it at: it stands on the lower edge.
        none = x[np.isnan(y)]
        edge = axis.get_xaxis_transform()
        (cross,) = axis.plot(none, np.zeros(len(none)), "x", color=colour, ms=11, mew=2, transform=edge, clip_on=False)
        cross.set_in_layout(False)
    axis.set(xlabel=knob.title, ylabel="episode return", title=trial.name)
    drawing.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    drawing.savefig(path, dpi=120, metadata={"Software": None})


def _axis(axis: Any, knob: Knob) -> None:
    """The scale, a tick a value, what is the base, and what was seen in training."""
    values = list(knob.trials)
    if knob.log and min(values) > 0:
        axis.set_xscale("log", base=knob.log)
    axis.set_xticks(values, [f"{value:g}" for value in values])
    axis.minorticks_off()
    axis.axvline(knob.base, color="0.7", lw=1, ls=(0, (2, 2)), zorder=0)
    if knob.trained:
        factor = 1.12 if knob.log else 1.0
        margin = 0.0 if knob.log else 0.04 * (max(values) - min(values))
        low, high = min(knob.trained) / factor - margin, max(knob.trained) * factor + margin
        axis.axvspan(low, high, color="#009E73", alpha=0.15, lw=0, zorder=0, label="in training")
