"""Tuned baselines: a hand-designed rule at the best of a declared grid, for a counted number of environment steps.

A learned rule has seen environment steps before it is compared; a fair baseline may spend as many on its own settings.
They are spent by sequential halving (Karnin, Koren & Somekh 2013): candidates in a fixed shuffled order, the rule's own
setting first; every round gives all that are left the same fresh seeds and drops the worse half, until two are left,
who share the rest. A candidate is judged by all its seeds so far,

    score(c) = mean over tasks of (mean_c - random) / (best - random),

with means of `runs.transfer.final`, and the best of all single agents so far: the unit of a task on which nobody
learns is then its noise, and the task decides little. (A maximum of means over those left would come closer and
closer to random, and chance on such a task would outweigh what candidates learn on the others.) Validation tasks are
all that this file is ever given. The agents of `random` count; those of the last step, fresh seeds that show how much
of the winner's score was luck, choose nothing and do not.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from learned_rl import zoo
from learned_rl.types import Rule
from runs.candidates import Laboratory, Progress, Subject
from runs.errors import ConfigurationError
from runs.grids import GRIDS, Grid, Setting, check_grid
from runs.trials import Trial

RANDOM_SEEDS, FRESH_SEEDS = 2, 10
TUNING, FRESH = 2_000_003, 3_000_017  # roots of randomness; neither is meta-training's nor transfer's


class Round(NamedTuple):
    """How many candidates are left, and how many fresh seeds each of them gets."""

    candidates: int
    seeds: int


def halving(most: int, evaluations: int) -> tuple[Round, ...]:
    """The rounds of sequential halving that `evaluations` pay for, with as many of `most` candidates as they can.

    An evaluation is one agent on every task. Every round but the last has an equal share of them; the last, of two
    candidates, has what is left.

    Raises:
      ValueError: fewer than two candidates, or than two evaluations: nothing could be chosen.
    """
    if min(most, evaluations) < 2:
        raise ValueError(f"{most} candidates and {evaluations} evaluations: fewer than 2 of one leave no choice")
    count = next(n for n in range(most, 1, -1) if n * len(_sizes(n)) <= evaluations)
    *early, last = _sizes(count)
    rounds = [Round(size, evaluations // (len(early) + 1) // size) for size in early]
    rest = evaluations - sum(r.candidates * r.seeds for r in rounds)
    return (*rounds, Round(last, rest // last))


def _sizes(count: int) -> list[int]:
    sizes = [count]
    while sizes[-1] > 2:
        sizes.append(-(-sizes[-1] // 2))
    return sizes


class Tuned(NamedTuple):
    """What tuning chose, and all that it saw, as JSON values."""

    rule: Rule
    record: dict[str, Any]


def tune(
    name: str, trials: Sequence[Trial], env_steps: int, folder: Path, progress: Progress, grid: Grid | None = None
) -> Tuned | None:
    """Chooses the settings of the built-in rule `name` on validation tasks.

    Args:
      trials: validation tasks. Whoever holds test tasks does not pass them.
      env_steps: allowance, all tasks together; never exceeded. What is left is less than two evaluations.
      folder: finished rounds are kept here, so that a killed tuning goes on.
      progress: says whether to go on, before every task of every round.
      grid: another one than `GRIDS` has.

    Returns:
      The choice, or None if it was told to stop.

    Raises:
      UsageError: there is no grid for the rule.
      ConfigurationError: the allowance is too small to choose anything.
    """
    if grid is None:
        check_grid(name)
    subject = Subject(name, zoo.BUILT_IN[name](), grid or GRIDS[name])
    settings = subject.grid.settings(subject.rule)
    rounds = halving(len(settings), _evaluations(trials, env_steps))
    laboratory = Laboratory(tuple(trials), folder, progress, (len(rounds) + 2) * len(trials))
    low = laboratory.measure(Subject("random", zoo.BUILT_IN["random"](), Grid(())), [()], range(RANDOM_SEEDS), TUNING)
    if low is None:
        return None
    search = _search(subject, settings, rounds, laboratory, low.mean(axis=1)[0])
    if search is None:
        return None
    best, history, anchors = search
    fresh = laboratory.measure(subject, [best, settings[0]], range(FRESH_SEEDS), FRESH)
    if fresh is None:
        return None
    steps = sum(t.env_steps for t in trials)
    record = {
        "tuned": name,
        "tasks": [t.name for t in trials],
        "allowance": env_steps,
        "env_steps": steps * (RANDOM_SEEDS + sum(r.candidates * r.seeds for r in rounds)),
        "grid": {path: list(values) for path, values in subject.grid.axes},
        "own": dict(zip(subject.grid.paths, settings[0], strict=True)),
        "best": dict(zip(subject.grid.paths, best, strict=True)),
        "random": low.mean(axis=1)[0].tolist(),
        "rounds": history,
        "fresh": _fresh(fresh, anchors, steps),
    }
    return Tuned(subject.at(best), record)


def _evaluations(trials: Sequence[Trial], env_steps: int) -> int:
    """How many candidates the allowance trains on every task, one seed each, after `random`."""
    one = sum(t.env_steps for t in trials)
    evaluations = env_steps // one - RANDOM_SEEDS
    if evaluations < 2:
        raise ConfigurationError(
            f"{env_steps:,} environment steps are too few to tune with: one agent on every validation task takes "
            f"{one:,}, and tuning at least {(RANDOM_SEEDS + 2) * one:,}"
        )
    return evaluations


class Anchors(NamedTuple):
    """Per task, what 0 and 1 are: the mean of agents that do not learn, and the best agent that was seen."""

    low: Float[np.ndarray, " tasks"]
    high: Float[np.ndarray, " tasks"]

    def with_agents(self, scores: Float[np.ndarray, "settings seeds tasks"]) -> "Anchors":
        """With more agents seen, of which those that broke down do not count."""
        return Anchors(self.low, np.maximum(self.high, np.max(np.where(np.isfinite(scores), scores, self.low), (0, 1))))

    def normalised(self, means: Float[np.ndarray, "... tasks"]) -> Float[np.ndarray, "... tasks"]:
        """(mean - low) / (high - low); as it is where nobody is better than `low` by 1e-3 of its size."""
        gap = self.high - self.low
        return (means - self.low) / np.where(gap > 1e-3 * np.maximum(np.abs(self.low), 1.0), gap, 1.0)


def _search(
    subject: Subject, settings: list[Setting], rounds: Sequence[Round], laboratory: Laboratory, low: np.ndarray
) -> tuple[Setting, list[dict[str, Any]], Anchors] | None:
    """The best setting, what every round saw, and the scale."""
    left = list(range(rounds[0].candidates))
    seen: dict[int, list[np.ndarray]] = {i: [] for i in left}  # scores [seeds, tasks], a round each
    history, first, anchors = [], 0, Anchors(low, low)
    for number in rounds:
        left = left[: number.candidates]
        seeds = range(first, first + number.seeds)
        scores = laboratory.measure(subject, [settings[i] for i in left], seeds, TUNING)
        if scores is None:
            return None
        for i, score in zip(left, scores, strict=True):
            seen[i].append(score)
        means = np.stack([np.concatenate(seen[i]).mean(axis=0) for i in left])
        anchors = anchors.with_agents(scores)
        total = anchors.normalised(means).mean(axis=1)
        total = np.where(np.isfinite(total), total, -np.inf)  # who breaks down is last
        history.append(_round(subject.grid, [settings[i] for i in left], seeds, scores, total))
        left = [left[i] for i in np.argsort(-total, kind="stable")]
        first += number.seeds
    return settings[left[0]], history, anchors


def _round(grid: Grid, settings: list[Setting], seeds: range, scores: np.ndarray, total: np.ndarray) -> dict[str, Any]:
    rows = zip(settings, scores, total, strict=True)
    return {
        "seeds": list(seeds),
        "candidates": [
            {
                "setting": dict(zip(grid.paths, setting, strict=True)),
                "scores": [[_json(x) for x in row] for row in score],
                "score_so_far": _json(value),
            }
            for setting, score, value in rows
        ],
    }


def _json(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


def _fresh(scores: Float[np.ndarray, "2 seeds tasks"], anchors: Anchors, steps: int) -> dict[str, Any]:
    """The winner and the rule's own setting on seeds that chose neither, on the scale that chose the winner."""
    means = scores.mean(axis=1)
    return {
        "seeds": scores.shape[1],
        "env_steps": scores.shape[0] * scores.shape[1] * steps,
        "best": [_json(x) for x in means[0]],
        "own": [_json(x) for x in means[1]],
        "best_score": _json(anchors.normalised(means[0]).mean()),
        "own_score": _json(anchors.normalised(means[1]).mean()),
    }
