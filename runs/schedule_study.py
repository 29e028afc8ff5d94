"""Learned schedules against tuned constants and tuned linear anneals, each tuned with as many environment steps.

    python -m runs.schedule_study [--tasks catch ...] [--steps N] [--lives N] [--json PATH]

Declared before anything is run: agents are a2c's with short lives; the score of an agent is its mean episode return
over its whole life; `Schedule` (learning rate, discount, entropy) is trained for it by an evolution strategy, starting
from the best of a grid of 20 constant settings of the same three coefficients, as found with a few lives each. The
competitors are the best of that grid, and the best of the same 20 with learning rate and entropy falling linearly to
zero. Each of the two grids lives as many lives as the meta-training and the grid that it started from, shared out
evenly. Then all train fresh agents, on the same seeds.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl import families
from learned_rl.lifetime import Agent, mean_return
from learned_rl.networks import MLP, Network
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.anneal import Anneal
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.schedule import Schedule
from learned_rl.types import Rule, TaskFamily, Theta
from meta_objectives.returns import LifetimeReturn
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import GradientDescent
from runs.statistics import bootstrap, improvement, mean
from runs.studies import trained
from truncation import FullES

LEARNED = ("learning_rate", "discount", "entropy")
FALLING = ("learning_rate", "entropy")
TASKS = {
    "catch": families.catch(),
    "cartpole": families.fixed("CartPole-v1"),
    "acrobot": families.fixed("Acrobot-v1"),
}
STEPS = 16  # of a stream, in an update
SCALES = {"catch": 1.0, "cartpole": 100.0, "acrobot": 100.0}  # of returns, for the meta-loss


class ByHand(NamedTuple):
    """A hand-designed contender: a2c with these coefficients, `FALLING` linearly to the fraction `final`."""

    coefficients: Coefficients
    final: float

    def __str__(self) -> str:
        return ", ".join(f"{name} {getattr(self.coefficients, name):g}" for name in LEARNED)


@dataclass(frozen=True)
class Study:
    """One comparison.

    Attributes:
      tasks: what agents live in.
      scale: of returns, for the meta-loss.
      updates, streams: of a life; an update is `STEPS` steps a stream.
      steps, lives: outer steps of the meta-training, and lives in each.
      first: lives of each of the 20 settings among which the meta-training finds where to start.
      seeds: fresh agents per contender.
      at_once: agents that live at once.
      rates, discounts, entropies: the grid.
      seed: root of every random number.
    """

    tasks: TaskFamily
    scale: float = 1.0
    updates: int = 100
    streams: int = 16
    steps: int = 150
    lives: int = 64
    first: int = 64
    seeds: int = 30
    at_once: int = 64
    rates: tuple[float, ...] = (2e-3, 5e-3, 1e-2, 2e-2, 5e-2)
    discounts: tuple[float, ...] = (0.9, 0.99)
    entropies: tuple[float, ...] = (0.01, 0.05)
    seed: int = 0

    @cached_property
    def experiment(self) -> Experiment:
        """The meta-training, from a2c's defaults. A segment is an update, so that the meta-loss is the score."""
        return self.meta_training(Coefficients())

    def meta_training(self, start: Coefficients) -> Experiment:
        """From other coefficients."""
        size = min(self.at_once, self.lives)
        estimator = FullES(self.updates, self.lives, std=0.1, microbatch=size)
        every = next(n for n in (10, 5, 2, 1) if self.steps % n == 0)
        return Experiment(
            name="schedule-study",
            rule=scheduled(start),
            families=(self.tasks,),
            outer=GradientDescent(estimator, learning_rate=0.05, decay=0.1 ** (1 / self.steps)),
            objective=LifetimeReturn(scale=self.scale),
            network=Network(MLP((32, 32))),
            inner=Inner(self.streams, STEPS, self.updates, segment=1),
            steps=self.steps,
            report_every=every,
            checkpoint_every=every,
            transfer=Transfer(suite=""),
            seed=self.seed,
        )

    @property
    def tuning_lives(self) -> int:
        """Of each contender, before fresh agents are trained."""
        return self.steps * self.lives + self.first * len(self.grid(1.0))

    def grid(self, final: float) -> list[ByHand]:
        """The 20 settings, constant (`final` 1) or falling."""
        points = itertools.product(self.rates, self.discounts, self.entropies)
        return [ByHand(Coefficients(learning_rate=r, discount=d, entropy=e), final) for r, d, e in points]


class Lived(NamedTuple):
    """What agents earned, their mean return after each update, and what a schedule told them on the way."""

    returns: Float[Array, "... updates"]
    told: dict[str, Float[Array, "... updates"]]


def by_hand(setting: ByHand) -> Rule:
    """The rule of a hand-designed contender; its numbers may be traced, so that a grid is one program."""
    return Anneal(ActorCritic(setting.coefficients), FALLING, setting.final)


def scheduled(start: Coefficients) -> Rule:
    """The rule of the learned schedule, which starts at these coefficients (they may be traced, too)."""
    return Schedule(ActorCritic(start), learned=LEARNED)


@cache
def _program(study: Study, make: Callable[[Any], Rule]) -> Callable[[Theta, Any, Array], Lived]:
    """Whole lives of agents side by side, each with a setting and a key of its own."""
    lifetime = study.experiment.lifetime(study.tasks)
    jax.eval_shape(lifetime.policy.init, jax.random.key(0))  # builds the environment here, not inside a loop

    def life(theta: Theta, setting: Any, key: PRNGKeyArray) -> Lived:
        here = replace(lifetime, rule=make(setting))
        key_birth, key_life = jax.random.split(key)

        def update(agent: Agent, key: PRNGKeyArray) -> tuple[Agent, Lived]:
            agent, _, metrics = here.live(theta, agent, key)
            told = {name: x for name, x in metrics.items() if name.startswith("schedule_")}
            return agent, Lived(mean_return(agent.streams), told)

        return jax.lax.scan(update, here.start(theta, key_birth), jax.random.split(key_life, study.updates))[1]

    return jax.jit(jax.vmap(life, in_axes=(None, 0, 0)))


def live(study: Study, make: Callable[[Any], Rule], theta: Theta, settings: Any, keys: Array) -> Lived:
    """Lives of `keys [n]` with `settings`, leaves `[n]`, `at_once` at a time: one compiled program for any n."""
    count, size = len(keys), study.at_once
    program = _program(study, make)

    def some(lanes: np.ndarray) -> Lived:
        return jax.device_get(program(theta, jax.tree.map(lambda x: x[lanes], settings), keys[lanes]))

    lanes = np.minimum(np.arange(-(-count // size) * size), count - 1)  # filled up with the last life
    parts = [some(part) for part in lanes.reshape(-1, size)]
    return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)


def scores(study: Study, settings: list[ByHand], keys: Array) -> Float[np.ndarray, "n k"]:
    """Mean return over the life of every agent in `keys [k]` with each of n settings."""
    n, k = len(settings), len(keys)
    lanes = jax.tree.map(lambda *x: np.repeat(np.asarray(x, np.float32), k), *settings)
    return np.mean(live(study, by_hand, (), lanes, jnp.tile(keys, n)).returns, axis=-1).reshape(n, k)


def compare(study: Study) -> dict[str, Any]:
    """Tunes all three, trains fresh agents with each, and says how they compare."""
    root = jax.random.key(study.seed + 1_000_003)
    fresh, grid_key = jax.random.split(jax.random.fold_in(root, 0), study.seeds), jax.random.fold_in(root, 1)
    constant, tuning = study.grid(1.0), {}
    keys = jax.random.split(jax.random.fold_in(root, 2), study.first)
    tuning["first look"] = scores(study, constant, keys).mean(axis=1)
    start = constant[int(np.nanargmax(tuning["first look"]))]
    print(f"{study.tasks.name}, from {start}:", file=sys.stderr, flush=True)
    theta, losses = trained(study.meta_training(start.coefficients))
    every = jax.tree.map(lambda x: np.full(study.seeds, x, np.float32), start.coefficients)
    lived = live(study, scheduled, theta, every, fresh)
    ours = np.mean(lived.returns, axis=-1)
    rows = [_row("learned schedule", f"from {start}", ours, None)]
    others = {"a2c's defaults": [ByHand(Coefficients(), 1.0)]}
    others |= {"best constant": constant, "best linear anneal": study.grid(0.0)}
    for name, settings in others.items():
        keys = jax.random.split(grid_key, study.tuning_lives // len(settings))
        if len(settings) > 1:
            print(f"  {name}: {len(settings)} settings, {len(keys)} lives each", file=sys.stderr, flush=True)
        tuning[name] = scores(study, settings, keys).mean(axis=1) if len(settings) > 1 else np.zeros(1)
        best = settings[int(np.nanargmax(tuning[name]))]
        rows.append(_row(name, str(best), scores(study, [best], fresh)[0], ours))
    return {
        "task": study.tasks.name,
        "env_steps_of_each_tuning": study.tuning_lives * study.updates * study.streams * STEPS,
        "meta_losses": losses,
        "grids": {name: mean.tolist() for name, mean in tuning.items()},
        "told": {name: x.mean(axis=0)[:: max(1, study.updates // 10)].tolist() for name, x in lived.told.items()},
        "rows": rows,
    }


def _row(name: str, setting: str, earned: Float[np.ndarray, " seeds"], ours: np.ndarray | None) -> dict[str, Any]:
    earns = bootstrap(mean, earned[:, None])
    chance = None if ours is None else bootstrap(improvement, ours[:, None], earned[:, None])
    return {"name": name, "setting": setting, "score": earns, "improvement": chance, "scores": earned.tolist()}


def table(report: dict[str, Any]) -> Iterator[str]:
    """The comparison as lines of Markdown."""
    yield f"{report['task']}: {report['env_steps_of_each_tuning']:,} environment steps to tune each"
    yield ""
    yield "| contender | setting | mean return over a life | P(the learned schedule beats it) |"
    yield "|---|---|---|---|"
    for row in report["rows"]:
        yield f"| {row['name']} | {row['setting']} | {row['score']} | {row['improvement'] or ''} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for bad usage."""
    parser = argparse.ArgumentParser(prog="python -m runs.schedule_study", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tasks", nargs="+", choices=sorted(TASKS), default=["catch"])
    for name in ("updates", "streams", "steps", "lives", "first", "seeds", "at_once", "seed"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Study, name))
    parser.add_argument("--json", type=Path, metavar="PATH", help="write a machine-readable report here")
    known = vars(parser.parse_args(arguments))
    path, reports = known.pop("json"), []
    for name in known.pop("tasks"):
        reports.append(compare(Study(TASKS[name], SCALES[name], **known)))
        print(*table(reports[-1]), "", sep="\n", flush=True)
        if path:
            path.write_text(json.dumps(reports, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
