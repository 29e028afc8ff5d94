"""A comparison as people read it: a table, sentences that say who won, CSV for whoever re-analyses it, figures."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from runs.comparison import FLOOR, Comparison
from runs.durable import disk_errors, replace_file
from runs.statistics import bootstrap, calibrated, iqm, mean, median, optimality_gap
from runs.verdict import LEVEL

AGGREGATES = {
    "normalised IQM": iqm,
    "normalised median": median,
    "normalised mean": mean,
    "optimality gap": optimality_gap,
}
SHOWN = ("normalised IQM", "normalised median", "optimality gap")


def markdown(comparison: Comparison, seeds: int, notes: Mapping[str, str] = MappingProxyType({})) -> str:
    """Mean return per task and contender, and aggregates of the normalised scores, with 95 % intervals.

    `notes` of tasks stand beside their names.
    """
    names = list(comparison.results)
    lines = ["| task (environment steps) | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for i, (task, steps) in enumerate(zip(comparison.tasks, comparison.env_steps, strict=True)):
        cells = [calibrated(mean, comparison.scores(name)[:, i : i + 1]) for name in names]
        note = f"; {notes[task]}" if task in notes else ""
        lines.append(
            f"| {task} ({steps:,}{note}) | " + " | ".join(f"{x:.2f} [{a:.2f}, {b:.2f}]" for x, a, b in cells) + " |"
        )
    for title in SHOWN:
        mark = "**" if title == SHOWN[0] else ""
        cells = [f"{mark}{comparison.aggregate(name, AGGREGATES[title])}{mark}" for name in names]
        lines.append(f"| {mark}{title}{mark} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n" + _note(comparison, seeds) + "\n"


def _note(comparison: Comparison, seeds: int) -> str:
    return (
        f"{seeds} agents per cell, equal environment steps for every rule; return over the last tenth of training; "
        "95 % stratified bootstrap intervals, widened for few runs (rliable's stand in aggregates.csv). "
        f"{_normalisation(comparison)} Won or lost: the {100 * LEVEL:g} % intervals of the paired difference (same "
        "task, same seed; IQM) and of P(improvement) both leave out what says that rules are equal."
    )


def _normalisation(comparison: Comparison) -> str:
    """What 0 and 1 are."""
    best: dict[str, list[str]] = {}
    for task, name in zip(comparison.tasks, comparison.scale.by, strict=True):
        best.setdefault(name, []).append(task)
    unscaled, references = best.pop("", []), comparison.references
    where = "; ".join(f"{name}: {', '.join(tasks)}" for name, tasks in best.items())
    text = f"Normalised per task by means of this run: 0 = {FLOOR}, 1 = the best of {', '.join(references) or 'all'}"
    if references and not set(best) <= set(references):
        text += f", or where none of these beats {FLOOR}, of all"
    if best:
        text += f" ({where})"
    if unscaled:
        text += f"; nobody beats {FLOOR} on {', '.join(unscaled)}: differences in the task's own unit"
    return text + "."


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([repr(float(x)) if isinstance(x, float) else x for x in row] for row in rows)
    return out.getvalue()


def scores_csv(comparison: Comparison) -> str:
    """One line a run. `role` is floor for what is 0 on the normalised scale, reference for what may be 1."""
    roles = {FLOOR: "floor"} | dict.fromkeys(comparison.references, "reference")

    def rows() -> Iterable[Sequence[Any]]:
        for name in comparison.results:
            raw, normalised, role = comparison.scores(name), comparison.normalised(name), roles.get(name, "contender")
            for j, (task, steps) in enumerate(zip(comparison.tasks, comparison.env_steps, strict=True)):
                for i in range(len(raw)):
                    yield name, task, i, raw[i, j], normalised[i, j], steps, role

    return csv_text(["rule", "task", "seed", "score", "normalised", "env_steps", "role"], rows())


def curves_csv(comparison: Comparison) -> str:
    """One line a recorded point of a run's learning curve."""

    def rows() -> Iterable[Sequence[Any]]:
        for name, by_task in comparison.results.items():
            for task in comparison.tasks:
                points = comparison.points(task).astype(int).tolist()
                for i, run in enumerate(by_task[task].returns):
                    yield from ((name, task, i, step, value) for step, value in zip(points, run, strict=True))

    return csv_text(["rule", "task", "seed", "env_steps", "return"], rows())


def aggregates_csv(comparison: Comparison) -> str:
    """One line an aggregate of a rule: its 95 % interval, and the percentile interval that rliable gives."""

    def rows() -> Iterable[Sequence[Any]]:
        for name in comparison.results:
            for title, aggregate in AGGREGATES.items():
                theirs = comparison.aggregate(name, aggregate, bootstrap)
                yield name, title, *comparison.aggregate(name, aggregate), theirs.low, theirs.high

    return csv_text(["rule", "aggregate", "value", "low", "high", "rliable_low", "rliable_high"], rows())


def text(comparison: Comparison, seeds: int, ours: str, notes: Mapping[str, str] = MappingProxyType({})) -> str:
    """The table, and who won: `ours` against every other contender."""
    verdicts = [comparison.verdict(ours, name) for name in comparison.results if name not in (ours, FLOOR)]
    return markdown(comparison, seeds, notes) + "\n" + "\n".join(f"- {v}" for v in verdicts) + "\n"


def write(
    comparison: Comparison,
    seeds: int,
    ours: str,
    folder: Path,
    notes: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Writes `table.md`, three CSV files and five figures into `folder`; returns the table and the verdicts.

    Raises:
      DiskError: it cannot be written.
    """
    from runs import figures  # matplotlib takes a second to import

    table = text(comparison, seeds, ours, notes)
    files = {
        "table.md": table,
        "scores.csv": scores_csv(comparison),
        "curves.csv": curves_csv(comparison),
        "aggregates.csv": aggregates_csv(comparison),
    }
    with disk_errors("writing the report", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            replace_file(folder / name, content.encode())
        figures.learning_curves(comparison, folder / "curves.png")
        figures.intervals(comparison, folder / "intervals.png")
        figures.performance_profile(comparison, folder / "performance-profile.png")
        figures.sample_efficiency(comparison, folder / "sample-efficiency.png")
        figures.probability_of_improvement(comparison, ours, folder / "probability-of-improvement.png")
    return table
