"""A learned rule, guarded and not, on what it was learned for and on tasks built to mislead it.

    python -m runs.guard_study [--rule FOLDER] [--only TASK ...] [--seeds N] [--updates N] [--kept DIR] [--json PATH]

Declared before anything is run: the learned rule is that of the recipe `default` (LPG, from Catch and CartPole), either
as it is in FOLDER or trained here for half as long; the fallback is PPO as built in; the guard has its default
settings. Every contender trains the same number of agents, on the same seeds and with the same number of environment
steps; the score of an agent is its mean return over the last tenth of training, and of a contender the interquartile
mean of its agents' scores. Three numbers say how the guard does on a task, as fractions of what was to be had:

    safety   (guarded - random) / (fallback - random)      is to be at least 0.95, on tasks that mislead
    kept     (guarded - random) / (learned - random)       is to be at least 0.9, on tasks as in training
    gain     (guarded - fallback) / (learned - fallback)   the same, where the learned rule is better than the fallback
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from learned_rl import families, zoo
from learned_rl.altered_tasks import PaidOtherwise, PermutedObservations, inverted
from learned_rl.rule_file import load_rule
from learned_rl.types import Rule, Theta
from runs import catalogue
from runs.comparison import Comparison
from runs.devices import prepare
from runs.statistics import Aggregate, Scores, bootstrap, iqm
from runs.studies import trained
from runs.transfer import Contender, compare, guarded
from runs.trials import Trial

NAMES = ("learned", "guarded", "fallback", "random")


def trials(updates: int) -> Mapping[str, tuple[Trial, ...]]:
    """Tasks as in training, and the same ones altered; one that it unlearns, one where it beats PPO."""
    catch, pole = families.catch(), families.cartpole()
    misleading = (
        inverted(catch),
        PaidOtherwise(catch, shift=1.0),
        PaidOtherwise(catch, scale=100.0),
        PermutedObservations(catch),
        inverted(pole),
        PermutedObservations(pole),
        families.fixed("Acrobot-v1"),
    )
    return {
        "as in training": tuple(Trial(tasks, updates=updates) for tasks in (catch, pole)),
        "misleading": tuple(Trial(tasks, updates=updates) for tasks in misleading),
        "elsewhere": (Trial(families.deep_sea(8), updates=updates),),
    }


def chosen(
    found: Mapping[str, tuple[Trial, ...]], names: Sequence[str] | None
) -> Iterator[tuple[str, tuple[Trial, ...]]]:
    """Those with one of these names; without names, all."""
    for kind, some in found.items():
        if kept := tuple(trial for trial in some if not names or trial.name in names):
            yield kind, kept


def contenders(rule: Rule, theta: Theta) -> list[Contender]:
    """The learned rule, guarded, the fallback alone, and no learning."""
    ours, fallback = Contender("learned", rule, theta), Contender("fallback", zoo.ppo(), ())
    return [ours, guarded(ours, fallback)._replace(name="guarded"), fallback, Contender("random", zoo.random(), ())]


def learned(folder: Path | None) -> tuple[Rule, Theta]:
    """The rule in a folder; without one, the recipe `default`, of half as many outer steps."""
    if folder:
        found = load_rule(folder)
        return found.rule, found.theta
    recipe = catalogue.recipe("default")
    return recipe.rule, trained(replace(recipe, steps=recipe.steps // 2))[0]


def fraction(of: str, over: str) -> Aggregate:
    """(guarded - `over`) / (`of` - `over`), of interquartile means; columns as in `NAMES`."""

    def statistic(scores: Scores) -> Float[np.ndarray, "*lead"]:
        mean = {name: iqm(scores[..., i : i + 1]) for i, name in enumerate(NAMES)}
        return np.divide(mean["guarded"] - mean[over], mean[of] - mean[over])

    return statistic


QUESTIONS = {
    "safety": fraction("fallback", "random"),
    "kept": fraction("learned", "random"),
    "gain": fraction("learned", "fallback"),
}


def rows(kind: str, comparison: Comparison) -> Iterator[dict[str, Any]]:
    """What was found on each task, with 95 % bootstrap intervals over agents."""
    for task in comparison.tasks:
        scores = np.stack([comparison.results[name][task].scores for name in NAMES], axis=1)
        row: dict[str, Any] = {"kind": kind, "task": task}
        row |= {name: bootstrap(iqm, scores[:, i : i + 1]) for i, name in enumerate(NAMES)}
        with np.errstate(divide="ignore", invalid="ignore"):
            row |= {name: bootstrap(statistic, scores) for name, statistic in QUESTIONS.items()}
        low, high = row["learned"], row["fallback"]
        if low.low <= high.high:  # a gain that is none cannot be kept
            row["gain"] = None
        yield row | {"scores": {name: scores[:, i].tolist() for i, name in enumerate(NAMES)}}


def table(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The rows as lines of Markdown."""
    columns = (*NAMES, *QUESTIONS)
    yield f"| task | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for row in found:
        cells = (f"{x.point:.2f} [{x.low:.2f}, {x.high:.2f}]" if (x := row[name]) else "" for name in columns)
        yield f"| {row['task']} ({row['kind']}) | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for bad usage."""
    parser = argparse.ArgumentParser(prog="python -m runs.guard_study", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rule", type=Path, metavar="FOLDER", help="a rule that the recipe `default` learned")
    parser.add_argument("--only", nargs="+", metavar="TASK", help="tasks by name, e.g. Acrobot-v1; default: all")
    parser.add_argument("--seeds", type=int, default=16, metavar="N", help="agents per contender and task")
    parser.add_argument("--updates", type=int, default=200, metavar="N", help="of a life; 256 environment steps each")
    parser.add_argument(
        "--kept", type=Path, metavar="DIR", help="finished trainings are kept here, and taken from here"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write a machine-readable report here")
    known = parser.parse_args(arguments)
    asked = dict(chosen(trials(known.updates), known.only))
    if known.only and (missing := {*known.only} - {trial.name for some in asked.values() for trial in some}):
        names = ", ".join(trial.name for some in trials(known.updates).values() for trial in some)
        parser.error(f"--only: there is no task {', '.join(sorted(missing))}; there are {names}")
    prepare()
    them = contenders(*learned(known.rule))
    found: list[dict[str, Any]] = []

    def show(done: int, total: int, text: str) -> bool:
        print(f"  {done}/{total} {text}", file=sys.stderr, flush=True)
        return True

    with tempfile.TemporaryDirectory() as nowhere:
        for kind, some in asked.items():
            comparison = compare(some, them, known.seeds, known.kept or Path(nowhere), show)
            assert comparison is not None
            found += rows(kind, comparison)
    print(*table(found), sep="\n", flush=True)
    if known.json:
        known.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
