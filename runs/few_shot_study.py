"""RL^2 on Bernoulli bandits and random MDPs, beside the Bayes optimum and what is published (Duan et al. 2016).

    python -m runs.few_shot_study [--arms N ...] [--pulls N] [--mdps] [--seeds N ...] [--steps N] [--json PATH]

Bandits of up to ten arms and twelve pulls are learned by the recipe `rl2-bandit`, larger ones by `rl2-long-bandit` and
MDPs by `rl2-mdp`, at the recipes' own settings: but for the number of pulls, which `rl2-bandit` halves for the scale of
its rewards, and for fewer trials at once where there are more than ten arms, `FEW_STREAMS`. Settings were chosen by
training with seed 0, so that other seeds say more (those for MDPs with 0, 1 and 2); every seed is reported. What is
learned plays fresh trials, none of which it saw in training, for what they pay, whatever it was trained on; the optimum
is by dynamic programming over posteriors, where that can be enumerated.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax

from learned_rl import families
from learned_rl.bandit_oracle import bayes_optimum
from learned_rl.blueprint import Blueprint
from learned_rl.rules.rl2 import RL2
from learned_rl.trials import Trials
from meta_objectives.history import HistoryActorCritic
from runs.devices import prepare
from runs.experiment import Experiment
from runs.studies import lasting, parser, returns, trained

FEW = 12  # pulls: the posteriors of more are too many to enumerate
FEW_ARMS = 10
FEW_STREAMS = 64
PUBLISHED = {"Bandit-5-x100": 78.7, "Bandit-10-x100": 83.5, "Bandit-50-x100": 84.9, "TabularMDP-10x5-x10": 156.2}


class Row(NamedTuple):
    """What one seed came to: the mean return of fresh trials, its standard error, what is possible, and published."""

    tasks: str
    seed: int
    earned: float
    error: float
    optimum: float | None
    published: float | None
    seconds: float

    def __str__(self) -> str:
        optimum = f"{self.optimum:.3f}, share {self.earned / self.optimum:.4f}" if self.optimum else ""
        cells = (self.seed, f"{self.earned:.3f} ± {self.error:.3f}", optimum, self.published or "")
        return f"| {self.tasks} | " + " | ".join(map(str, cells)) + f" | {self.seconds:.0f} |"


def experiment(recipe: str, tasks: Trials, seed: int, steps: int | None = None) -> Experiment:
    """The recipe, for other tasks."""
    usual = lasting(recipe, seed, steps)
    assert isinstance(usual.rule, RL2)
    assert isinstance(usual.objective, HistoryActorCritic)
    assert isinstance(usual.families[0], Trials)
    many = tasks.actions.count > FEW_ARMS  # type: ignore[union-attr]
    return replace(
        usual,
        rule=RL2(Blueprint.of(usual.rule.blueprint.network, tasks)),
        families=(replace(tasks, credited=usual.families[0].credited),),
        objective=replace(usual.objective, scale=tasks.episodes / 2) if recipe == "rl2-bandit" else usual.objective,
        inner=replace(
            usual.inner,
            steps=usual.inner.steps if recipe == "rl2-mdp" else tasks.episodes,
            streams=FEW_STREAMS if many else usual.inner.streams,
        ),
    )


@cache
def _optimum(arms: int, pulls: int) -> float | None:
    return bayes_optimum(arms, pulls) if pulls <= FEW else None


def row(recipe: str, tasks: Trials, seed: int, steps: int | None, trials: int) -> Row:
    """Learns once, and plays."""
    began, e = time.monotonic(), experiment(recipe, tasks, seed, steps)
    print(f"{tasks.name}, seed {seed}:", file=sys.stderr, flush=True)
    theta, _ = trained(e)
    earned = returns(e, theta, trials, jax.random.fold_in(jax.random.key(1_000_003), seed)).sum(axis=0)
    error = float(earned.std(ddof=1) / len(earned) ** 0.5)
    optimum = _optimum(tasks.tasks.actions.count, tasks.episodes) if recipe != "rl2-mdp" else None  # type: ignore[union-attr]
    published = PUBLISHED.get(tasks.name)
    return Row(tasks.name, seed, float(earned.mean()), error, optimum, published, time.monotonic() - began)


def games(arms: Sequence[int], pulls: int, mdps: bool) -> Iterator[tuple[str, Trials]]:
    """Recipes, and what they are played on."""
    for count in arms:
        small = pulls <= FEW and count <= FEW_ARMS
        yield "rl2-bandit" if small else "rl2-long-bandit", families.bandit_trials(count, pulls)
    if mdps:
        yield "rl2-mdp", families.mdp_trials()


def header() -> Iterator[str]:
    """Of the table."""
    yield "| tasks | seed | earned ± standard error | Bayes optimum | published RL^2 | seconds |"
    yield "|---|---|---|---|---|---|"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for bad usage."""
    options = parser("few_shot_study", __doc__)
    options.add_argument("--arms", type=int, nargs="*", default=[5, 10, 50], metavar="N", help="of bandits; or none")
    options.add_argument("--pulls", type=int, default=10, metavar="N", help="of a bandit's trial")
    options.add_argument("--mdps", action="store_true", help="random MDPs too, ten episodes each")
    options.add_argument("--trials", type=int, default=100_000, metavar="N", help="fresh ones")
    known = options.parse_args(arguments)
    prepare()
    rows: list[dict[str, Any]] = []
    print(*header(), sep="\n", flush=True)
    for recipe, tasks in games(known.arms, known.pulls, known.mdps):
        for seed in known.seeds:
            found = row(recipe, tasks, seed, known.steps, known.trials)
            print(found, flush=True)
            rows.append(found._asdict())
            if known.json:
                known.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
