"""`learned-rl transfer`: agents trained with frozen rules on a suite, compared and recorded."""

import argparse
import collections
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from learned_rl.rule_file import LoadedRule
from runs import catalogue, leakage, tables
from runs.comparison import Comparison, Curves
from runs.devices import prepare
from runs.errors import UsageError
from runs.folder import RunFolder, git_commit
from runs.journal import Journal
from runs.progress import Evaluations
from runs.recording import recording, stopped
from runs.signals import StopRequest
from runs.transfer import Contender, compare, fingerprint, guarded
from runs.trials import Trial
from runs.tuned import asked, rivals


def transfer(known: argparse.Namespace) -> dict[str, Any]:
    """Trains agents with a frozen rule on one or several suites, beside built-in or other rules."""
    prepare()
    suites = together({name: catalogue.suite(name).split(known.split) for name in dict.fromkeys(known.suite)})
    reserve = [known.guard] if known.guard else []
    loaded = [catalogue.loaded(address, known.tracking_uri) for address in (known.rule, *known.against, *reserve)]
    found = [leak for name, rule in loaded for leak in leaks(suites, name, rule)]
    if not known.allow_overlap:
        leakage.refuse(found, "--allow-overlap")
    rules = [Contender(name, rule.rule, rule.theta) for name, rule in loaded]
    if reserve:
        rules.insert(1, _guarded(rules[0], rules.pop()))
    contenders = distinct([*rules, Contender("random", *catalogue.built_in("random"))])
    plan = Plan(_each_once(suites), contenders, known.seeds, leakage.notes(found))
    names, env_steps = asked(known, loaded[0][0], loaded[0][1].record)
    ours = contenders[0].name
    path: Path = known.run_dir or Path("out") / "transfer" / _folder_name(ours, known.suite, known.split)
    settings = {"rule": known.rule, "seeds": known.seeds, "against": " ".join(known.against)}
    settings |= {
        "suite": " ".join(known.suite),
        "split": known.split,
        "allow_overlap": known.allow_overlap,
        "tune": env_steps,
    }
    settings["rules"] = " ".join(fingerprint(c) for c in contenders)  # an address may come to hold another rule
    tags = {"learned_rl.kind": "transfer", "learned_rl.rule": ours, "git.commit": git_commit()}
    with recording(path, settings, known, "transfer", tags) as (folder, journal, stop):
        explained(contenders[0], folder, journal)
        validation = _each_once(together({name: catalogue.suite(name).validation for name in known.suite}))
        tuned = rivals(names, validation, env_steps, folder.path / "tuned", (journal, stop, known.quiet))
        if tuned is None:
            return stopped(folder, stop, "between two rounds of tuning")
        plan = plan._replace(contenders=distinct([*contenders, *tuned]))
        return compared(plan, folder, journal, stop, known.quiet)


def _guarded(ours: Contender, reserve: Contender) -> Contender:
    try:
        return guarded(ours, reserve)
    except ValueError as error:
        raise UsageError(f"--guard {reserve.name}: it cannot take over from {ours.name}: {error}") from error


def _each_once(suites: Mapping[str, Sequence[Trial]]) -> tuple[Trial, ...]:
    return tuple(dict.fromkeys(itertools.chain.from_iterable(suites.values())))


def leaks(suites: Mapping[str, Sequence[Trial]], name: str, rule: LoadedRule) -> list[leakage.Leak]:
    """Which tasks the rule was trained on, as far as its record says; what it does not say is said."""
    if missing := leakage.unknown(name, rule.theta, rule.record):
        print(missing, file=sys.stderr, flush=True)
    return leakage.leaks(suites, name, leakage.recorded(rule.record) or ())


class Plan(NamedTuple):
    """What is compared.

    Attributes:
      trials: on what.
      contenders: the rule in question first.
      seeds: agents per contender and trial.
      notes: of trials, by name, for the table.
    """

    trials: Sequence[Trial]
    contenders: Sequence[Contender]
    seeds: int
    notes: Mapping[str, str]


def explained(contender: Contender, folder: RunFolder, journal: Journal) -> None:
    """What the rule does, part by part, as figures; nothing of a rule that none of them is about."""
    from runs.explain import explain  # matplotlib takes a second to import

    if explain(contender.rule, contender.theta, folder.path / "explain"):
        journal.artifact("explain", "explain")


def compared(plan: Plan, folder: RunFolder, journal: Journal, stop: StopRequest, quiet: bool) -> dict[str, Any]:
    """Compares, and records the outcome."""
    from runs.films import film  # draws with matplotlib's colours, which take a second to import

    sizes = [trial.env_steps * plan.seeds for trial in plan.trials for _ in plan.contenders]
    with Evaluations(sizes, quiet=quiet) as line:

        def show(done: int, _: int, text: str) -> bool:
            line.begin(done, text)
            return not stop.requested

        agents = folder.path / "report" / "agents"

        def filmed(trial: Trial, contender: Contender, curves: Curves) -> None:
            if contender is plan.contenders[0] and curves.first is not None:
                film(trial, contender, curves.first, agents / f"{trial.name}.gif")

        evaluated = folder.path / "transfer"
        comparison = compare(plan.trials, plan.contenders, plan.seeds, evaluated, show, watch=filmed)
    if comparison is None:
        return stopped(folder, stop, "between two transfer evaluations")
    return _record(comparison, plan, folder, journal)


def _record(comparison: Comparison, plan: Plan, folder: RunFolder, journal: Journal) -> dict[str, Any]:
    """Table and figures in `report/`, one nested run per task and rule, and the table on the terminal."""
    seeds, ours = plan.seeds, plan.contenders[0].name
    text = tables.write(comparison, seeds, ours, folder.path / "report", plan.notes)
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
    journal.challenge(ours, comparison.tasks, comparison.env_steps, scores, comparison.references)
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


def together(suites: Mapping[str, Sequence[Trial]]) -> dict[str, list[Trial]]:
    """The trials of several suites, with those of one name, but with other settings, labelled by suite."""
    alike = collections.defaultdict(set)
    for trial in itertools.chain.from_iterable(suites.values()):
        alike[trial.name].add(trial)

    def labelled(suite: str, trial: Trial) -> Trial:
        return trial if len(alike[trial.name]) == 1 else replace(trial, label=f"{suite}.{trial.name}")

    return {suite: [labelled(suite, trial) for trial in trials] for suite, trials in suites.items()}


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
