"""RL^2 on Bernoulli bandits, beside the exact Bayes optimum (Duan et al. 2016, section 3.1).

    python -m runs.few_shot_study [--arms N ...] [--pulls N] [--seeds N] [--steps N] [--trials N] [--json PATH]

Declared before anything is run: the recipe `rl2-bandit` at its own settings, the same for every number of arms, but for
the scale of the rewards, which is half the pulls; every seed is reported. What is learned plays fresh trials, none of
which it saw in training; the optimum is by dynamic programming over posteriors, where that can be enumerated.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl import families
from learned_rl.bandit_oracle import bayes_optimum
from learned_rl.blueprint import Blueprint
from learned_rl.rules.rl2 import RL2
from learned_rl.types import Theta
from meta_objectives.history import HistoryActorCritic
from runs import catalogue
from runs.devices import prepare
from runs.experiment import Experiment
from runs.learners import GradientDescent
from runs.schedule_study import trained

AT_ONCE = 10_000  # trials
FEW = 12  # pulls: the posteriors of more are too many to enumerate


class Row(NamedTuple):
    """What one seed came to: the mean return of fresh trials, its standard error, and what is possible."""

    arms: int
    pulls: int
    seed: int
    earned: float
    error: float
    optimum: float | None
    seconds: float

    def __str__(self) -> str:
        share = f"{self.optimum:.3f} | {self.earned / self.optimum:.4f}" if self.optimum else " | "
        earned = f"{self.earned:.3f} ± {self.error:.3f}"
        return f"| {self.arms} | {self.pulls} | {self.seed} | {earned} | {share} | {self.seconds:.0f} |"


def experiment(arms: int, pulls: int, seed: int, steps: int | None = None) -> Experiment:
    """The recipe, for other bandits."""
    usual = catalogue.recipe("rl2-bandit")
    assert isinstance(usual.rule, RL2)
    assert isinstance(usual.objective, HistoryActorCritic)
    assert isinstance(usual.outer, GradientDescent)
    tasks, steps = families.bandit_trials(arms, pulls), steps or usual.steps
    every = math.gcd(usual.report_every, steps)
    return replace(
        usual,
        rule=RL2(Blueprint.of(usual.rule.blueprint.network, tasks)),
        families=(tasks,),
        outer=replace(usual.outer, decay=usual.outer.decay ** (usual.steps / steps)),
        objective=replace(usual.objective, scale=pulls / 2),
        inner=replace(usual.inner, steps=pulls),
        steps=steps,
        report_every=every,
        checkpoint_every=every,
        seed=seed,
    )


@cache
def _optimum(arms: int, pulls: int) -> float | None:
    return bayes_optimum(arms, pulls) if pulls <= FEW else None


def returns(e: Experiment, theta: Theta, trials: int, key: PRNGKeyArray) -> Float[np.ndarray, " trials"]:
    """Of fresh trials, at least as many as asked for."""
    lifetime = replace(e.lifetime(e.families[0]), streams=min(AT_ONCE, trials))

    @jax.jit
    def play(theta: Theta, key: PRNGKeyArray) -> Float[Array, " streams"]:
        key_start, key_act = jax.random.split(key)
        _, rollout = lifetime.act(lifetime.start(theta, key_start), key_act)
        return rollout.reward.sum(axis=0)

    keys = jax.random.split(key, -(-trials // lifetime.streams))
    return np.concatenate([np.asarray(play(theta, k)) for k in keys])


def row(arms: int, pulls: int, seed: int, steps: int | None, trials: int) -> Row:
    """Learns once, and plays."""
    began, e = time.monotonic(), experiment(arms, pulls, seed, steps)
    print(f"{e.families[0].name}, seed {seed}:", file=sys.stderr, flush=True)
    earned = returns(e, trained(e)[0], trials, jax.random.fold_in(jax.random.key(1_000_003), seed))
    error = float(earned.std(ddof=1) / len(earned) ** 0.5)
    return Row(arms, pulls, seed, float(earned.mean()), error, _optimum(arms, pulls), time.monotonic() - began)


def header() -> Iterator[str]:
    """Of the table."""
    yield "| arms | pulls | seed | earned ± standard error | Bayes optimum | share | seconds |"
    yield "|---|---|---|---|---|---|---|"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for bad usage."""
    parser = argparse.ArgumentParser(prog="python -m runs.few_shot_study", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--arms", type=int, nargs="+", default=[5, 10, 50], metavar="N")
    parser.add_argument("--pulls", type=int, default=10, metavar="N", help="of a trial")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="which ones")
    parser.add_argument("--steps", type=int, metavar="N", help="outer steps (the recipe's)")
    parser.add_argument("--trials", type=int, default=100_000, metavar="N", help="fresh ones")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write a machine-readable report here")
    known = parser.parse_args(arguments)
    prepare()
    rows: list[dict[str, Any]] = []
    print(*header(), sep="\n", flush=True)
    for arms in known.arms:
        for seed in known.seeds:
            found = row(arms, known.pulls, seed, known.steps, known.trials)
            print(found, flush=True)
            rows.append(found._asdict())
            if known.json:
                known.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
