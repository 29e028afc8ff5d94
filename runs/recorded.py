"""A finished comparison, read back from the CSV files in the `report/` of its run. Needs no JAX."""

import csv
import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from runs.comparison import FLOOR, Comparison, Curves
from runs.errors import ArtifactRefused, UsageError


def recorded(run: Path) -> Comparison:
    """What `runs.tables.write` wrote, every digit of it.

    Raises:
      UsageError: the run has not compared anything yet.
      ArtifactRefused: a file is damaged, or of a version that wrote less.
    """
    if not (run / "report" / "scores.csv").is_file():
        raise UsageError(f"{run} has compared nothing yet: run its command again, it goes on where it stopped")
    scores, curves = defaultdict(list), defaultdict(list)
    tasks, roles, steps = {}, {}, {}
    for row in _rows(run / "report" / "scores.csv", "rule", "task", "score", "env_steps", "role"):
        scores[row["rule"], row["task"]].append(_number(run, row["score"]))
        tasks[row["task"]], roles[row["rule"]] = int(_number(run, row["env_steps"])), row["role"]
    for row in _rows(run / "report" / "curves.csv", "rule", "task", "seed", "env_steps", "return"):
        curves[row["rule"], row["task"], row["seed"]].append(_number(run, row["return"]))
        steps.setdefault((row["task"], int(_number(run, row["env_steps"]))))
    if FLOOR not in roles:
        raise ArtifactRefused(f"{run}/report/scores.csv: {FLOOR} is missing")
    points = {wanted: tuple(at for task, at in steps if task == wanted) for wanted in tasks}
    seeds = max(map(len, scores.values()))
    results = {name: {} for name in roles}
    for name, task in itertools.product(roles, tasks):
        returns = [curves[name, task, str(i)] for i in range(seeds)]
        if len(scores[name, task]) != seeds or any(len(curve) != len(points[task]) for curve in returns):
            raise ArtifactRefused(f"{run}/report: of {name} on {task}, lines are missing")
        results[name][task] = Curves(np.array(returns), np.array(scores[name, task]))
    references = tuple(name for name, role in roles.items() if role == "reference")
    return Comparison(tuple(tasks), tuple(tasks.values()), results, references, tuple(points.values()))


def _rows(file: Path, *columns: str) -> Iterator[dict[str, str]]:
    if not file.is_file():
        raise ArtifactRefused(f"{file} is missing: run the command of this run again, and it is written")
    with open(file, newline="") as lines:
        reader = csv.DictReader(lines)
        if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
            raise ArtifactRefused(
                f"{file} has no column {', '.join(missing)}, as in earlier versions: run the command of this run again"
            )
        yield from reader


def _number(run: Path, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError as error:
        raise ArtifactRefused(f"{run}/report is damaged: {error}") from error
