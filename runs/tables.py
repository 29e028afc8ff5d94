"""A comparison as people read it: a table, sentences that say who won, CSV for whoever re-analyses it, figures."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from runs.comparison import Comparison
from runs.durable import replace_file
from runs.statistics import bootstrap


def markdown(comparison: Comparison, seeds: int, notes: Mapping[str, str] = MappingProxyType({})) -> str:
    """Mean return per task and contender with 95 % bootstrap intervals, and the normalised IQM over all tasks.

    `notes` of tasks stand beside their names.
    """
    names = list(comparison.results)
    lines = ["| task (environment steps) | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for i, (task, steps) in enumerate(zip(comparison.tasks, comparison.env_steps, strict=True)):
        cells = []
        for name in names:
            interval = bootstrap(lambda s: float(s.mean()), comparison.scores(name)[:, i : i + 1])
            cells.append(f"{interval.point:.2f} [{interval.low:.2f}, {interval.high:.2f}]")
        note = f"; {notes[task]}" if task in notes else ""
        lines.append(f"| {task} ({steps:,}{note}) | " + " | ".join(cells) + " |")
    lines.append("| **normalised IQM** | " + " | ".join(f"**{comparison.aggregate(name)}**" for name in names) + " |")
    note = (
        f"\n{seeds} agents per cell, equal environment steps for every rule; return over the last tenth of training; "
        "95 % stratified bootstrap intervals. Normalised per task: 0 = random, 1 = the better hand-designed rule, "
        "both measured in this run."
    )
    return "\n".join(lines) + "\n" + note + "\n"


def scores_csv(comparison: Comparison) -> str:
    """One line a run: rule, task, seed, score."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["rule", "task", "seed", "score"])
    for name in comparison.results:
        for j, task in enumerate(comparison.tasks):
            writer.writerows([name, task, i, repr(float(x))] for i, x in enumerate(comparison.scores(name)[:, j]))
    return out.getvalue()


def write(
    comparison: Comparison,
    seeds: int,
    ours: str,
    folder: Path,
    notes: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Writes `table.md`, `scores.csv` and two figures into `folder`; returns the table and the verdicts."""
    from runs import figures  # matplotlib takes a second to import

    verdicts = [comparison.verdict(ours, name) for name in comparison.results if name not in (ours, "random")]
    text = markdown(comparison, seeds, notes) + "\n" + "\n".join(f"- {v}" for v in verdicts) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "table.md", text.encode())
    replace_file(folder / "scores.csv", scores_csv(comparison).encode())
    figures.learning_curves(comparison, folder / "curves.png")
    figures.intervals(comparison, folder / "intervals.png")
    return text
