"""`learned-rl sweep`: how far a frozen rule generalises, one knob of the training of agents turned at a time.

A sweep is a comparison (`runs.transfer.compare`) of trials that differ in one setting; so it is kept, and goes on after
a kill, pair by pair, and every rule has the same environment steps at every value.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from learned_rl.blueprint import blueprint_of
from learned_rl.rule_file import LoadedRule
from runs import catalogue, knobs, sweep_report
from runs.comparison import Comparison, Curves
from runs.devices import prepare
from runs.errors import UsageError, nearest
from runs.evaluation import distinct
from runs.folder import RunFolder, git_commit
from runs.journal import Journal
from runs.knobs import Knob
from runs.recording import recording, stopped
from runs.statistics import Interval, bootstrap
from runs.transfer import Contender, compare, fingerprint
from runs.trials import Trial

REPORT = "sweep-report"  # where `learned-rl report` looks for sweeps
RESHAPING = ("width", "depth", "actions", "distractions")  # of agents, which some rules bring along


class Point(NamedTuple):
    """What a rule's agents earned at one value of a knob.

    Attributes:
      scores: in units that are comparable over values, `[seeds]`.
      mean: of the scores that are finite, with its 95 % interval.
      broken: how many agents ended with a parameter, or a score, that is not finite.
      below: whether they earned less than agents that do not learn, by more than noise: the upper end of the 95 %
        interval of the difference, agents paired by seed, is negative.
    """

    knob: str
    value: float
    rule: str
    scores: Float[np.ndarray, " seeds"]
    mean: Interval
    broken: int
    below: bool

    @property
    def diverged(self) -> str:
        """In words; empty if they did not."""
        lost = [f"{self.broken} of {len(self.scores)} agents not finite"] if self.broken else []
        return ", ".join([*lost, *(["below random"] if self.below else [])])


def sweep(known: argparse.Namespace) -> dict[str, Any]:
    """Trains agents with a frozen rule at every value of every knob, beside baselines."""
    prepare()
    name, loaded = catalogue.loaded(known.rule, known.tracking_uri)
    trial = base(known.suite, known.task)
    turned = dict(chosen(known.over, trial, loaded))
    others = [Contender(*catalogue.rule(address, known.tracking_uri)) for address in known.against]
    none = Contender("random", *catalogue.built_in("random"))
    contenders = distinct([Contender(name, loaded.rule, loaded.theta), *others, none])
    path: Path = known.run_dir or Path("out") / "sweep" / f"{name}-{trial.name}"
    settings = {"rule": known.rule, "suite": known.suite, "task": trial.name, "over": " ".join(turned)}
    settings |= {"seeds": known.seeds, "against": " ".join(known.against)}
    settings["rules"] = " ".join(fingerprint(c) for c in contenders)  # an address may come to hold another rule
    tags = {"learned_rl.kind": "sweep", "learned_rl.rule": name, "git.commit": git_commit()}

    with recording(path, settings, known, "sweep", tags) as (folder, journal, stop):

        def show(done: int, total: int, text: str) -> bool:
            if not known.quiet:
                print(f"sweep {done}/{total}  {text}", file=sys.stderr, flush=True)
            return not stop.requested

        trials = list(dict.fromkeys(t for knob in turned.values() for t in knob.trials.values()))
        comparison = compare(trials, contenders, known.seeds, folder.path / "sweep", show)
        if comparison is None:
            return stopped(folder, stop, "between two values of a sweep")
        return _record(turned, list(points(turned, comparison)), trial, folder, journal)


def base(suite: str, task: str | None) -> Trial:
    """The trial that knobs are turned of: by name, from any split.

    Raises:
      UsageError: the suite has no such task; the message has the nearest names.
    """
    found = catalogue.suite(suite)
    known = {trial.name: trial for trial in (*found.train, *found.validation, *found.test)}
    if task is None:
        return found.test[0]
    if task not in known:
        near = nearest(task, known)
        raise UsageError(f"suite {suite} has no task {task!r}; {near + '; ' if near else ''}it has: {', '.join(known)}")
    return known[task]


def chosen(names: Sequence[str] | None, trial: Trial, loaded: LoadedRule) -> Iterator[tuple[str, Knob]]:
    """The knobs, their trials named; of those not asked for by name, the ones that can be turned.

    Raises:
      UsageError: one that was asked for cannot be turned.
    """
    for name in dict.fromkeys(names or catalogue.knobs()):
        try:
            if name in RESHAPING and blueprint_of(loaded.rule) is not None:
                raise UsageError(f"{name}: the rule brings its agents, which have one shape")
            knob = getattr(knobs, name.replace("-", "_"))(trial, loaded.record)
        except UsageError:
            if names:
                raise
            continue
        labelled = {value: _labelled(t, trial, f"{name}-{value:g}") for value, t in knob.trials.items()}
        yield name, replace(knob, trials=labelled)


def _labelled(turned: Trial, trial: Trial, label: str) -> Trial:
    """Under a name of its own, unless nothing was turned: that is one trial, whatever the knob."""
    return turned if turned == trial else replace(turned, label=f"{trial.name}.{label}")


def points(turned: Mapping[str, Knob], comparison: Comparison) -> Iterator[Point]:
    """What was earned at every value of every knob with every rule."""
    for name, knob in turned.items():
        for value, trial in knob.trials.items():
            random = comparison.results["random"][trial.name].scores / knob.unit(value)
            for rule, by_trial in comparison.results.items():
                curves = by_trial[trial.name]
                yield _point(name, value, rule, curves, curves.scores / knob.unit(value), random)


def _point(
    knob: str, value: float, rule: str, curves: Curves, scores: Float[np.ndarray, " seeds"], random: np.ndarray
) -> Point:
    lost = ~np.isfinite(scores)
    lost[curves.broken] = True
    finite = np.isfinite(scores)
    below = bool(finite.any()) and rule != "random" and _mean((scores - random)[finite]).high < 0
    mean = _mean(scores[finite]) if finite.any() else Interval(np.nan, np.nan, np.nan)
    return Point(knob, value, rule, scores, mean, int(lost.sum()), below)


def _mean(scores: Float[np.ndarray, " seeds"]) -> Interval:
    return bootstrap(lambda drawn: float(drawn.mean()), scores[:, None])


def _record(
    turned: Mapping[str, Knob], found: Sequence[Point], trial: Trial, folder: RunFolder, journal: Journal
) -> dict[str, Any]:
    """Table, CSV and figures, one nested run a knob, and the table on the terminal."""
    text = sweep_report.write(turned, found, trial, folder.path / REPORT)
    for name, knob in turned.items():
        here = [point for point in found if point.knob == name]
        journal.child(
            name,
            name=f"sweep/{name}",
            tags={"learned_rl.kind": "sweep", "learned_rl.task": trial.name, "learned_rl.knob": name},
            params={"values": " ".join(f"{value:g}" for value in knob.trials), "base": f"{knob.base:g}"},
            metrics={f"sweep/{point.rule}/{point.value:g}": float(point.mean.point) for point in here},
        )
    journal.artifact(REPORT, "report")
    print(f"\n{text}\n{folder.path / REPORT}", flush=True)
    diverged = [{"knob": p.knob, "value": p.value, "rule": p.rule, "how": p.diverged} for p in found if p.diverged]
    return {"path": str(folder.path), "report": str(folder.path / REPORT), "diverged": diverged}
