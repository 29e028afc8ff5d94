"""`learned-rl select`: the best of several rules on validation tasks, and its worth on seeds that chose nothing."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from learned_rl.rule_file import LoadedRule, save_rule
from runs import catalogue, leakage
from runs.comparison import FLOOR, Comparison
from runs.devices import prepare
from runs.durable import disk_errors, replace_file
from runs.errors import UsageError
from runs.evaluation import distinct, leaks
from runs.folder import RunFolder, git_commit
from runs.journal import Journal
from runs.progress import Evaluations
from runs.recording import recording, stopped
from runs.selection import Selected, select
from runs.statistics import Scores, calibrated, iqm
from runs.tables import csv_text
from runs.transfer import Contender, compare, fingerprint
from runs.trials import Trial

SELECTION, FRESH = 4_000_037, 5_000_011  # roots of randomness; neither is meta-training's, tuning's nor transfer's


class Plan(NamedTuple):
    """What is chosen from, and by what.

    Attributes:
      trials: validation tasks.
      candidates: rules.
      references: the best of them is 1 on the scale that candidates are compared on.
      seeds: agents per rule and task; of the choice, as many again.
      notes: of trials, by name, for the table.
    """

    trials: Sequence[Trial]
    candidates: Sequence[Contender]
    references: Sequence[Contender]
    seeds: int
    notes: Mapping[str, str] = MappingProxyType({})


class _Stopped(Exception):
    """Between two evaluations."""


def selected(known: argparse.Namespace) -> dict[str, Any]:
    """Chooses, and keeps the chosen rule, with the record of the choice, as the run's own rule."""
    prepare()
    trials = catalogue.suite(known.suite).validation
    loaded = [catalogue.loaded(address, known.tracking_uri) for address in known.rules]
    found = [leak for name, rule in loaded for leak in leaks({known.suite: trials}, name, rule)]
    if not known.allow_overlap:
        leakage.refuse(found, "--allow-overlap")
    candidates = distinct([Contender(name, rule.rule, rule.theta) for name, rule in loaded])
    if len(candidates) < 2:
        raise UsageError(f"{', '.join(known.rules)} are the same rule: there is nothing to select from")
    references = [Contender(*catalogue.rule(address, known.tracking_uri)) for address in known.against]
    alike = set(map(fingerprint, references))  # a candidate may be a reference, too
    references = [c for c in distinct([*candidates, *references]) if fingerprint(c) in alike]
    plan = Plan(trials, candidates, references, known.seeds, leakage.notes(found))
    path: Path = known.run_dir or Path("out") / "selected" / known.suite
    settings = {"rules": " ".join(known.rules), "suite": known.suite, "seeds": known.seeds}
    settings |= {"against": " ".join(known.against), "allow_overlap": known.allow_overlap}
    settings["fingerprints"] = " ".join(map(fingerprint, (*candidates, *references)))
    tags = {"learned_rl.kind": "select", "git.commit": git_commit()}
    with recording(path, settings, known, "select", tags) as (folder, journal, stop):
        with Evaluations(_sizes(plan), command="select", quiet=known.quiet) as line:

            def show(done: int, text: str) -> bool:
                line.begin(done, text)
                return not stop.requested

            choice = choose(plan, folder.path / "selection", show)
        if choice is None:
            return stopped(folder, stop, "between two evaluations")
        return _record(choice, plan, {fingerprint(_plain(rule)): rule for _, rule in loaded}, folder, journal)


def _plain(loaded: LoadedRule) -> Contender:
    return Contender("", loaded.rule, loaded.theta)


def _sizes(plan: Plan) -> list[int]:
    """Environment steps of every evaluation: all on the seeds that choose, the choice on fresh ones."""
    first = [t.env_steps * plan.seeds for t in plan.trials for _ in _everyone(plan)]
    return first + [t.env_steps * plan.seeds for t in plan.trials]


def _everyone(plan: Plan) -> list[Contender]:
    return distinct([*plan.candidates, *plan.references, Contender(FLOOR, *catalogue.built_in(FLOOR))])


def choose(plan: Plan, folder: Path, progress: Callable[[int, str], bool]) -> Selected[Contender] | None:
    """Chooses by the interquartile mean of normalised scores; None if it was told to stop.

    Fresh scores are on the scale that chose: both numbers of the choice have one unit.

    Args:
      folder: what is finished is kept here.
      progress: called before an evaluation with its number and what it is; says whether to go on.
    """
    everyone = _everyone(plan)

    def measured(contenders: Sequence[Contender], seed: int, before: int, which: str) -> Comparison:
        def show(done: int, _: int, text: str) -> bool:
            return progress(before + done, f"{text}{which}")

        found = compare(plan.trials, contenders, plan.seeds, folder, show, seed)
        if found is None:
            raise _Stopped
        return found

    def evaluate(candidate: Contender, seed: int) -> Scores:
        if seed == SELECTION:
            return judged.normalised(candidate.name)
        fresh = measured([candidate], seed, len(plan.trials) * len(everyone), ", fresh seeds")
        return (fresh.scores(candidate.name) - judged.scale.zero) / (judged.scale.one - judged.scale.zero)

    try:
        judged = replace(measured(everyone, SELECTION, 0, ""), references=tuple(c.name for c in plan.references))
        return select(evaluate, plan.candidates, SELECTION, FRESH, iqm)
    except _Stopped:
        return None


def _record(
    found: Selected[Contender], plan: Plan, loaded: dict[str, LoadedRule], folder: RunFolder, journal: Journal
) -> dict[str, Any]:
    """The rule file, the table and every score; the table on the terminal."""
    chosen = loaded[fingerprint(found.choice)]
    scores = {c.name: s for c, s in zip(plan.candidates, found.scores, strict=True)}
    said = {"from": list(scores), "validation": found.validation._asdict(), "fresh": found.fresh._asdict()}
    save_rule(chosen.rule, chosen.theta, folder.rule, chosen.record | {"selected": said})
    text = table(found, scores, plan)
    with disk_errors("writing the report", folder.path):
        report = folder.path / "report"
        report.mkdir(exist_ok=True)
        replace_file(report / "table.md", text.encode())
        replace_file(report / "selection.csv", scores_csv(found, scores, plan.trials).encode())
    for name, its in scores.items():
        journal.child(
            f"selected/{name}",
            name=f"select/{name}",
            tags={"learned_rl.kind": "selection", "learned_rl.contender": name},
            params={"seeds": plan.seeds},
            metrics={"select/validation_iqm": float(iqm(its))},
        )
    journal.artifact("report", "report")
    journal.artifact("rule", "rule")
    print(f"\n{text}\n{folder.rule}", flush=True)
    return {"path": str(folder.path), "rule": str(folder.rule), "choice": found.choice.name, **said}


def table(found: Selected[Contender], scores: dict[str, Scores], plan: Plan) -> str:
    """What every candidate earned, and what the choice is worth."""
    lines = ["| rule | normalised IQM on the seeds that chose |", "|---|---|"]
    lines += [f"| {name} | {calibrated(iqm, its)} |" for name, its in scores.items()]
    tasks = ", ".join(f"{t.name} ({note})" if (note := plan.notes.get(t.name)) else t.name for t in plan.trials)
    best = ", ".join(c.name for c in plan.references) or "all"
    return "\n".join(
        [
            *lines,
            "",
            f"{plan.seeds} agents per rule and validation task ({tasks}); 0 = {FLOOR}, 1 = the best of {best}.",
            "",
            f"- chosen: {found.choice.name}; IQM {found.validation} on the seeds that chose it, {found.fresh} on "
            f"{plan.seeds} fresh ones: {found.optimism:+.3f} of it was luck",
            "",
        ]
    )


def scores_csv(found: Selected[Contender], scores: dict[str, Scores], trials: Sequence[Trial]) -> str:
    """One line a run: `seeds` says whether it chose, or came after."""
    sets = [(name, "selection", its) for name, its in scores.items()]
    sets.append((found.choice.name, "fresh", found.fresh_scores))
    rows = (
        (name, which, trial.name, i, float(its[i, j]))
        for name, which, its in sets
        for j, trial in enumerate(trials)
        for i in range(len(its))
    )
    return csv_text(["rule", "seeds", "task", "seed", "normalised"], rows)
