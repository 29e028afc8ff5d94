"""`learned-rl transfer`: agents trained with frozen rules on a suite, compared and recorded."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runs import catalogue, tables
from runs.comparison import Comparison
from runs.devices import prepare
from runs.folder import RunFolder, git_commit
from runs.journal import Journal
from runs.recording import recording, stopped
from runs.signals import StopRequest
from runs.suites import Trial
from runs.transfer import Contender, compare, fingerprint


def transfer(known: argparse.Namespace) -> dict[str, Any]:
    """Trains agents with a frozen rule on one or several suites, beside built-in or other rules."""
    prepare()
    trials = together({name: catalogue.suite(name).split(known.split) for name in dict.fromkeys(known.suite)})
    rules = [Contender(*catalogue.rule(name, known.tracking_uri)) for name in (known.rule, *known.against)]
    contenders = distinct([*rules, Contender("random", *catalogue.built_in("random"))])
    ours = contenders[0].name
    path: Path = known.run_dir or Path("out") / "transfer" / _folder_name(ours, known.suite, known.split)
    settings = {"rule": known.rule, "seeds": known.seeds, "against": " ".join(known.against)}
    settings |= {"suite": " ".join(known.suite), "split": known.split}
    settings["rules"] = " ".join(fingerprint(c) for c in contenders)  # an address may come to hold another rule
    tags = {"learned_rl.kind": "transfer", "learned_rl.rule": ours, "git.commit": git_commit()}
    with recording(path, settings, known, "transfer", tags) as (folder, journal, stop):
        return compared(trials, contenders, known.seeds, folder, journal, stop, known.quiet)


def compared(
    trials: Sequence[Trial],
    contenders: Sequence[Contender],
    seeds: int,
    folder: RunFolder,
    journal: Journal,
    stop: StopRequest,
    quiet: bool,
) -> dict[str, Any]:
    """Compares, and records the outcome."""

    def show(done: int, total: int, text: str) -> bool:
        if not quiet:
            print(f"transfer {done}/{total}  {text}", file=sys.stderr, flush=True)
        return not stop.requested

    comparison = compare(trials, contenders, seeds, folder.path / "transfer", show)
    if comparison is None:
        return stopped(folder, stop, "between two transfer evaluations")
    return _record(comparison, seeds, contenders[0].name, folder, journal)


def _record(comparison: Comparison, seeds: int, ours: str, folder: RunFolder, journal: Journal) -> dict[str, Any]:
    """Table and figures in `report/`, one nested run per task and rule, and the table on the terminal."""
    text = tables.write(comparison, seeds, ours, folder.path / "report")
    for name, by_task in comparison.results.items():
        for task, steps in zip(comparison.tasks, comparison.env_steps, strict=True):
            scores = by_task[task].scores
            journal.child(
                f"{task}/{name}",
                name=f"eval/{task}/{name}",
                tags={"learned_rl.kind": "evaluation", "learned_rl.task": task, "learned_rl.contender": name},
                params={"seeds": seeds, "env_steps": steps},
                metrics={f"eval/{task}/return": float(scores.mean()), f"eval/{task}/std": float(scores.std())},
            )
    journal.artifact("report", "report")
    scores = {name: comparison.scores(name).tolist() for name in comparison.results}
    journal.challenge(ours, comparison.tasks, comparison.env_steps, scores)
    aggregates = {name: comparison.aggregate(name)._asdict() for name in comparison.results}
    journal.child(
        "aggregate",
        name="eval/aggregate",
        tags={"learned_rl.kind": "evaluation"},
        params={"seeds": seeds, "tasks": " ".join(comparison.tasks)},
        metrics={f"iqm/{name}": value["point"] for name, value in aggregates.items()},
    )
    print(f"\n{text}\n{folder.path / 'report'}", flush=True)
    return {"path": str(folder.path), "iqm": aggregates, "report": str(folder.path / "report")}


def _folder_name(ours: str, suites: Sequence[str], split: str) -> str:
    return "-".join([ours, "+".join(suites), *([] if split == "test" else [split])])


def together(suites: Mapping[str, Sequence[Trial]]) -> tuple[Trial, ...]:
    """The trials of several suites: each once, and those of one name, but with other settings, told apart by suite."""
    found = [(suite, trial) for suite, trials in suites.items() for trial in trials]
    one_name = {trial.name: {other for _, other in found if other.name == trial.name} for _, trial in found}
    labelled = (
        trial if len(one_name[trial.name]) == 1 else replace(trial, label=f"{suite}.{trial.name}")
        for suite, trial in found
    )
    return tuple(dict.fromkeys(labelled))


def distinct(contenders: Sequence[Contender]) -> list[Contender]:
    """Each once, and under a name of its own."""
    found: dict[str, Contender] = {}
    for contender in contenders:
        name, number = contender.name, 1
        while name in found and fingerprint(found[name]) != fingerprint(contender):
            number += 1
            name = f"{contender.name}-{number}"
        found.setdefault(name, contender._replace(name=name))
    return list(found.values())
