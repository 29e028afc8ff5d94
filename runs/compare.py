"""`learned-rl compare`: rules of finished runs side by side, on tasks that all of them trained agents on."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runs import tables
from runs.comparison import FLOOR, Comparison
from runs.errors import UsageError, nearest
from runs.recorded import recorded


class Entry(NamedTuple):
    """One of the rules that are compared: a contender of a finished run."""

    label: str
    run: Path
    contender: str
    comparison: Comparison


def compare(known: argparse.Namespace) -> dict[str, Any]:
    """Prints the table and who won, the first against the others."""
    entries = [entry(address) for address in known.runs]
    comparison = merged(entries)
    seeds, ours = len(comparison.scores(FLOOR)), entries[0].label
    text = tables.text(comparison, seeds, ours)
    print(text, flush=True)
    if known.out:
        tables.write(comparison, seeds, ours, known.out)
        print(known.out, flush=True)
    verdicts = {other.label: comparison.judge(ours, other.label) for other in entries[1:]}
    return {
        "tasks": list(comparison.tasks),
        "seeds": seeds,
        "references": list(comparison.references),
        "scores": {e.label: dict(zip(comparison.tasks, _means(comparison, e.label), strict=True)) for e in entries},
        "iqm": {e.label: comparison.aggregate(e.label)._asdict() for e in entries},
        "verdicts": {
            name: {"outcome": v.outcome, "difference": v.difference._asdict(), "improvement": v.improvement._asdict()}
            for name, v in verdicts.items()
        },
    }


def _means(comparison: Comparison, name: str) -> list[float]:
    return comparison.scores(name).mean(axis=0).tolist()


def entry(address: str) -> Entry:
    """Reads `RUN` or `RUN#CONTENDER`.

    Raises:
      UsageError: there is no such contender, or the run has not finished a comparison.
    """
    path, marked, name = address.partition("#")
    run = Path(path)
    comparison = recorded(run)
    names = list(comparison.results)
    if marked and name not in names:
        near = nearest(name, names)
        raise UsageError(f"{run} has no contender {name!r}; {near + '; ' if near else ''}there are: {', '.join(names)}")
    return Entry(f"{run}#{name}" if marked else str(run), run, name or names[0], comparison)


def merged(entries: Sequence[Entry]) -> Comparison:
    """One comparison: the entries, the references that all of their runs measured, and `FLOOR`.

    Raises:
      UsageError: two entries are the same, there is no task that all share, or one that they share was given other
        environment steps, seeds or agents.
    """
    first = entries[0]
    labels = [e.label for e in entries]
    if len(set(labels)) < len(labels):
        raise UsageError(f"given twice: {', '.join(sorted({x for x in labels if labels.count(x) > 1}))}")
    tasks = [t for t in first.comparison.tasks if all(t in e.comparison.tasks for e in entries)]
    if not tasks:
        have = "; ".join(f"{e.run} has {', '.join(e.comparison.tasks)}" for e in entries)
        raise UsageError(f"there is no task that all have in common: {have}")
    for other in entries[1:]:
        if different := [text for task in tasks for text in _differences(task, first, other)]:
            raise UsageError(f"{first.run} and {other.run} cannot be compared: {'; '.join(different)}")
    references = [r for r in first.comparison.references if all(r in e.comparison.references for e in entries)]
    for name in (*references, FLOOR):
        if not all(_equal(first, e, name, tasks) for e in entries):
            print(f"{name} did not earn the same in all runs: that of {first.run} is used", file=sys.stderr)
    at = [first.comparison.tasks.index(task) for task in tasks]
    results = {e.label: e.comparison.results[e.contender] for e in entries}
    results |= {name: first.comparison.results[name] for name in (*references, FLOOR)}
    steps, points = first.comparison.env_steps, first.comparison.recorded
    return Comparison(
        tuple(tasks), tuple(steps[i] for i in at), results, tuple(references), tuple(points[i] for i in at)
    )


def _differences(task: str, one: Entry, other: Entry) -> list[str]:
    """In what the runs trained agents differently on a task that both have."""

    def facts(e: Entry) -> tuple[int, int]:
        return e.comparison.env_steps[e.comparison.tasks.index(task)], len(e.comparison.results[FLOOR][task].scores)

    names = ("environment steps", "seeds")
    pairs = zip(names, facts(one), facts(other), strict=True)
    found = [f"{task}: {a:,} {name} against {b:,}" for name, a, b in pairs if a != b]
    ids = [_identities(e.run, task) for e in (one, other)]
    if not found and all(ids) and not set.intersection(*ids):
        found.append(f"{task}: other agents, streams, root seed or parameters of the task")
    return found


def _identities(run: Path, task: str) -> set[str]:
    """How the run trained `FLOOR` on the task: hashes of all that decides the result, in the names of kept files."""
    prefix = f"{task}--{FLOOR}--"
    return {
        file.stem.removeprefix(prefix) for file in (run / "transfer").glob("*.json") if file.name.startswith(prefix)
    }


def _equal(one: Entry, other: Entry, name: str, tasks: Sequence[str]) -> bool:
    return all(
        np.array_equal(*(e.comparison.results[name][task].scores for e in (one, other)), equal_nan=True)
        for task in tasks
    )
