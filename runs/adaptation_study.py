"""MAML on 2-D navigation: how much of the way to a hidden goal is gone after so many updates (Finn et al. 2017, 5.3).

    python -m runs.adaptation_study [--seeds N ...] [--steps N] [--tasks N] [--json PATH]

Declared before anything is run: the recipe `maml-navigation` at its own settings. An agent plays 20 episodes between
two updates; its score after k updates is its mean episode return then, on tasks that are drawn anew; the gap that is
closed is (score after k - score after none) / (straight walk to the goal - score after none). Beside it, *pretrained*:
initial parameters learned just as long for what they earn without an update, then updated by the same rule, at the
best of five rates.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.goal_tasks import Navigation
from learned_rl.lifetime import Agent, Lifetime
from learned_rl.rules.maml import MAML
from learned_rl.rules.nested import fed, part
from learned_rl.types import Theta
from runs.devices import prepare
from runs.experiment import Experiment
from runs.statistics import Interval
from runs.studies import lasting, parser, trained

UPDATES = 3
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)


class Row(NamedTuple):
    """What agents of one theta came to on fresh tasks.

    Attributes:
      name: of the contender.
      seed: of its training.
      scores: mean episode return after 0, 1, ... updates.
      closed: share of the gap after 1, 2, ... updates, with intervals over tasks.
    """

    name: str
    seed: int
    scores: list[float]
    closed: list[Interval]

    def __str__(self) -> str:
        scores = " | ".join(f"{x:.1f}" for x in self.scores)
        closed = " | ".join(f"{x.point:.2f} [{x.low:.2f}, {x.high:.2f}]" for x in self.closed)
        return f"| {self.name} | {self.seed} | {scores} | {closed} |"


def paced(rule: MAML, rate: float) -> MAML:
    """With another learning rate inside."""
    coefficients = replace(part(rule.base, "coefficients"), learning_rate=rate)
    return replace(rule, base=fed(rule.base, "coefficients", coefficients))


def scores(e: Experiment, rule: MAML, theta: Theta, tasks: int, key: PRNGKeyArray) -> Float[np.ndarray, "tasks k+2"]:
    """Mean episode returns after 0, 1, ..., `UPDATES` updates on fresh tasks, and that of the straight walk."""
    (family,) = e.families
    assert isinstance(family, Navigation)
    lifetime = Lifetime(family, rule, e.network, e.inner.streams, e.inner.steps, UPDATES)

    def life(key: PRNGKeyArray) -> Float[Array, " k+2"]:
        key_start, *keys = jax.random.split(key, 2 + UPDATES)

        def lived(agent: Agent, key: PRNGKeyArray) -> tuple[Agent, Array]:
            agent, rollout, _ = lifetime.live(theta, agent, key)
            return agent, jnp.sum(rollout.reward) / jnp.maximum(jnp.sum(rollout.last), 1)

        agent, earned = jax.lax.scan(lived, lifetime.start(theta, key_start), jnp.stack(keys))
        return jnp.append(earned, family.best_return(agent.task))

    return np.asarray(jax.jit(jax.vmap(life))(jax.random.split(key, tasks)))


def row(name: str, seed: int, found: Float[np.ndarray, "tasks k+2"]) -> Row:
    """Shares of the gap between means over tasks, which are resampled together."""

    def closed(after: int) -> Interval:
        def share(x: Float[np.ndarray, "... tasks 3"]) -> Float[np.ndarray, "..."]:
            before, later, best = np.moveaxis(x.mean(axis=-2), -1, 0)
            return (later - before) / (best - before)

        chosen = found[:, [0, after, -1]]
        drawn = np.random.default_rng(0).integers(len(found), size=(2000, len(found)))
        return Interval(float(share(chosen)), *map(float, np.quantile(share(chosen[drawn]), (0.025, 0.975))))

    return Row(name, seed, found[:, :-1].mean(axis=0).tolist(), [closed(k) for k in range(1, UPDATES + 1)])


def compare(seed: int, steps: int | None, tasks: int) -> list[Row]:
    """MAML, and what was pretrained."""
    key = jax.random.fold_in(jax.random.key(1_000_003), seed)
    e = lasting("maml-navigation", seed, steps)
    assert isinstance(e.rule, MAML)
    ours = row("MAML", seed, scores(e, e.rule, trained(e)[0], tasks, key))
    theta, _ = trained(replace(e, rule=paced(e.rule, 0.0)))
    earned = {rate: scores(e, paced(e.rule, rate), theta, tasks, key) for rate in RATES}
    others = [row(f"pretrained, rate {rate:g}", seed, found) for rate, found in earned.items()]
    return [ours, max(others, key=lambda found: found.closed[0].point)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for bad usage."""
    options = parser("adaptation_study", __doc__)
    options.add_argument("--tasks", type=int, default=400, metavar="N", help="fresh ones")
    known = options.parse_args(arguments)
    prepare()
    columns = [f"after {k}" for k in range(UPDATES + 1)] + [f"gap closed by {k}" for k in range(1, UPDATES + 1)]
    print(f"| contender | seed | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|", sep="\n", flush=True)
    rows: list[dict[str, Any]] = []
    for seed in known.seeds:
        for found in compare(seed, known.steps, known.tasks):
            print(found, flush=True)
            rows.append(found._asdict())
        if known.json:
            known.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
