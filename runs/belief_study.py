"""VariBAD on the 5x5 grid, episode by episode, beside the Bayes optimum and RL^2 (Zintgraf et al. 2020, section 5.1).

    python -m runs.belief_study [--seeds N ...] [--steps N] [--trials N] [--json PATH]

By the recipe `varibad-grid` at its own settings, which were chosen with seed 0, so that other seeds say more. RL^2 is
judged the same, on as many trials, with the same memory and policy network, but nobody tells it what a belief is. What
is learned plays fresh trials. The optimum is exact, by dynamic programming over beliefs.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from learned_rl.belief_network import BeliefNetwork
from learned_rl.blueprint import Blueprint
from learned_rl.networks import MLP, Network
from learned_rl.rules.rl2 import RL2
from learned_rl.rules.varibad import VariBAD
from meta_objectives.belief import BeliefRegularised
from runs.devices import prepare
from runs.experiment import Experiment
from runs.studies import lasting, parser, returns, trained

BAYES_OPTIMUM = 781.5 / 21  # of a trial
GOAL_KNOWN = 232.5 / 21  # of an episode, on the shortest way to a goal that is known
REPEATED_SAMPLING = 32.2  # of a trial that walks to a goal drawn from the belief, again when it turns out not to pay


class Row(NamedTuple):
    """What one contender came to: mean returns of the episodes of fresh trials, and of a trial with standard error."""

    name: str
    seed: int
    episodes: list[float]
    earned: float
    error: float
    seconds: float

    def __str__(self) -> str:
        episodes = " | ".join(f"{x:.2f}" for x in self.episodes)
        total = f"{self.earned:.2f} ± {self.error:.2f} | {self.earned / BAYES_OPTIMUM:.3f}"
        return f"| {self.name} | {self.seed} | {episodes} | {total} | {self.seconds:.0f} |"


def rl2(e: Experiment) -> Experiment:
    """The same with a memory that nobody tells what a belief is: what the policy earns trains it."""
    assert isinstance(e.rule, VariBAD)
    assert isinstance(e.rule.blueprint.network, BeliefNetwork)
    assert isinstance(e.objective, BeliefRegularised)
    network = e.rule.blueprint.network
    body = MLP(network.hidden, nn.relu)
    rule = RL2(Blueprint.of(Network(body, memory=network.memory, separate=False), e.families[0]))
    return replace(e, rule=rule, objective=e.objective.base)


def row(name: str, e: Experiment, trials: int) -> Row:
    """Learns once, and plays."""
    began = time.monotonic()
    print(f"{name}, seed {e.seed}:", file=sys.stderr, flush=True)
    theta, _ = trained(e)
    found = returns(e, theta, trials, jax.random.fold_in(jax.random.key(1_000_003), e.seed))
    total = found.sum(axis=0)
    error = float(total.std(ddof=1) / len(total) ** 0.5)
    return Row(name, e.seed, found.mean(axis=1).tolist(), float(total.mean()), error, time.monotonic() - began)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for bad usage."""
    options = parser("belief_study", __doc__)
    options.add_argument("--trials", type=int, default=100_000, metavar="N", help="fresh ones")
    known = options.parse_args(arguments)
    prepare()
    known_goal = f"an episode of a known goal {GOAL_KNOWN:.2f}"
    print(f"Bayes optimum {BAYES_OPTIMUM:.2f}, {known_goal}, posterior sampling {REPEATED_SAMPLING}", "", sep="\n")
    print("| contender | seed | episode 1 | 2 | 3 | 4 | trial ± standard error | share of optimum | seconds |")
    print("|---" * 9 + "|", flush=True)
    rows: list[dict[str, Any]] = []
    for seed in known.seeds:
        e = lasting("varibad-grid", seed, known.steps)
        for name, contender in (("VariBAD", e), ("RL^2", rl2(e))):
            rows.append((found := row(name, contender, known.trials))._asdict())
            print(found, flush=True)
            if known.json:
                known.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
