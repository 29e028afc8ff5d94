"""Learned rewards beside the task's own and a count bonus: Random ABC, Key-Box (Zheng et al. 2020), and DeepSea.

    python -m runs.intrinsic_study [--worlds abc rooms sea] [--rule RULE] [--tasks N] [--agents N] [--json PATH]

Declared before anything is run: the recipes `intrinsic-abc`, `intrinsic-places` (Random ABC and Key-Box together) and
`intrinsic-sea` at their own settings. All agents are tables that learn by A2C in one stream. A2C alone and A2C with a
count bonus are tuned for each task, with as many environment steps as the reward was learned with: the best of a grid
of optimizers, learning rates, entropies and bonuses, by what the reward is judged by, the mean return over a life or
its later half. Then all live in fresh tasks, several agents in each, the same for all. In rooms, what counts is the
last quarter of a life, as a share of what somebody earns who knows the task, and how many episodes of Key-Box end in an
open box; the larger rooms are of a size that no reward was learned on. In seas, of such sizes too, it is the episodes
before ten in a row find the treasure. With `--rule`, a reward that the recipe learned before is judged, not a new one.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from learned_rl import families
from learned_rl.types import TaskFamily, Theta
from runs import catalogue
from runs.devices import prepare
from runs.errors import ArtifactRefused, UsageError
from runs.experiment import Experiment
from runs.intrinsic_lives import IN_A_ROW, NEVER, Lived, Lives, Numbers, Setting, live
from runs.statistics import Interval, bootstrap
from runs.studies import trained

RATES = {"Adam": (0.01, 0.03, 0.1), "SGD": (1.0, 3.0, 5.0)}
ENTROPIES = (0.005, 0.03)
BONUSES = (0.0, 0.03, 0.1, 0.3)


@dataclass(frozen=True)
class World:
    """What a recipe is held to: names, families of tasks that are lived in anew, and for how many updates."""

    recipe: str
    held_out: tuple[tuple[str, TaskFamily, int], ...]


ROOMS = (
    ("Random ABC 5x5", families.random_abc(), 150),
    ("Key-Box 5x5", families.key_box(), 150),
    ("Key-Box 9x9", families.key_box(9, 54), 2700),  # at least 400 episodes
)
SEAS = tuple((f"DeepSea {size}", families.deep_sea(size), 2000) for size in (10, 12, 14))
WORLDS = {
    "abc": World("intrinsic-abc", ROOMS[:1]),
    "rooms": World("intrinsic-places", ROOMS),
    "sea": World("intrinsic-sea", SEAS),
}


def grid() -> list[Setting]:
    """All that is tried by hand."""
    return [
        Setting(name, Numbers(*numbers))
        for name, rates in RATES.items()
        for numbers in itertools.product(rates, ENTROPIES, BONUSES)
    ]


def tuned(lives: Lives, key: PRNGKeyArray) -> dict[str, Setting]:
    """The best setting without a bonus, and with one, with as many steps as the reward was learned with."""
    e, settings = lives.experiment, grid()
    trained_with = e.steps * e.env_steps_per_step // len(e.families)
    count = max(1, trained_with // (lives.updates * e.inner.steps * len(settings)))
    key_draw, key_live = jax.random.split(key)
    drawn = jax.vmap(lives.tasks.draw)(jax.random.split(key_draw, count))
    keys = jax.random.split(key_live, count)
    scores = np.array([live(lives, setting, drawn, keys).score.mean() for setting in settings])
    plain = np.array([setting.numbers.bonus == 0 for setting in settings])
    chosen = {"A2C": plain, "A2C, count bonus": ~plain}
    return {name: settings[int(np.argmax(np.where(mask, scores, -np.inf)))] for name, mask in chosen.items()}


class Row(NamedTuple):
    """One contender on one task family.

    Attributes:
      task, name, setting: who, where, and what was tuned.
      share: of what is possible, over the last quarter of a life; interval over tasks.
      finished: share of its episodes that terminated.
      solved: share of lives that solved the task.
      episodes: median over lives of the episodes before that.
    """

    task: str
    name: str
    setting: str
    share: Interval
    finished: Interval
    solved: float
    episodes: Interval

    def __str__(self) -> str:
        def number(x: float) -> str:
            return "never" if x >= NEVER else f"{x:.0f}"

        share, finished = (f"{x.point:.3f} [{x.low:.3f}, {x.high:.3f}]" for x in (self.share, self.finished))
        episodes = "{} [{}, {}]".format(*map(number, self.episodes))
        cells = (self.task, self.name, self.setting, share, finished, f"{self.solved:.2f}", episodes)
        return "| " + " | ".join(cells) + " |"


def row(task: str, name: str, setting: str, lived: Lived) -> Row:
    """Of lives `[tasks, agents]`: agents of a task are averaged, intervals are over tasks."""
    earned, possible, finished = (np.mean(x, axis=1)[:, None] for x in (lived.late, lived.possible, lived.finished))

    def share(both: np.ndarray) -> np.ndarray:
        earned, possible = (np.mean(both[..., i, :, 0], axis=-1) for i in (0, 1))
        some = possible > 0  # of few tasks, none may be worth anything
        return np.where(some, earned / np.where(some, possible, 1.0), 0.0)

    return Row(
        task,
        name,
        setting,
        bootstrap(share, np.stack([earned, possible])),
        bootstrap(lambda x: np.mean(x, axis=(-2, -1)), finished),
        float(np.mean(lived.solved < NEVER)),
        bootstrap(lambda x: _middle(x[..., 0], axis=-1), _middle(lived.solved, axis=1)[:, None]),
    )


def _middle(x: Any, axis: int) -> np.ndarray:
    """The median; of two in the middle the later one, for a mean with `NEVER` says nothing."""
    return np.quantile(x, 0.5, axis=axis, method="higher")


def experiment(world: World, steps: int | None) -> Experiment:
    """The recipe, or fewer steps of it."""
    e = catalogue.recipe(world.recipe)
    return e if steps is None else replace(e, steps=steps, report_every=1, checkpoint_every=1)


def learned(e: Experiment, address: str | None) -> Theta:
    """theta of a rule that the recipe learned before, or of a new one.

    Raises:
      UsageError: the rule is not what the recipe learns.
    """
    if address is None:
        print(f"{e.name}:", file=sys.stderr, flush=True)
        return trained(e)[0]
    _, rule, theta = catalogue.rule(address, None)
    if rule != e.rule:
        raise UsageError(f"--rule {address}: the recipe {e.name} learns another rule")
    return theta


def compare(world: World, e: Experiment, theta: Theta, tasks: int, agents: int) -> Iterator[Row]:
    """Tunes what stands beside a reward, and lets all live in fresh tasks."""
    root = jax.random.fold_in(jax.random.key(1_000_003), e.seed)
    for n, (task, family, updates) in enumerate(world.held_out):
        key_tune, key_draw, key_live = jax.random.split(jax.random.fold_in(root, n), 3)
        drawn = jax.vmap(family.draw)(jax.random.split(key_draw, tasks))
        drawn = jax.tree.map(lambda x: jnp.repeat(x, agents, axis=0), drawn)
        keys, lives = jax.random.split(key_live, tasks * agents), Lives(e, family, updates)
        contenders: dict[str, Any] = {"learned reward": theta, **tuned(lives, key_tune)}
        for name, who in contenders.items():
            lived = jax.tree.map(lambda x: x.reshape(tasks, agents), live(lives, who, drawn, keys))
            yield row(task, name, str(who) if isinstance(who, Setting) else "", lived)


def header() -> Iterator[str]:
    """Of the table."""
    yield (
        f"| task | agent | tuned | share of the possible, last quarter | episodes finished | solved | episodes before "
        f"{IN_A_ROW} good ones in a row |"
    )
    yield "|---|---|---|---|---|---|---|"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for bad usage."""
    parser = argparse.ArgumentParser(prog="python -m runs.intrinsic_study", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--worlds", nargs="+", choices=sorted(WORLDS), default=sorted(WORLDS))
    parser.add_argument("--tasks", type=int, default=100, metavar="N", help="fresh ones, of each family")
    parser.add_argument("--agents", type=int, default=8, metavar="N", help="in each task")
    parser.add_argument("--rule", metavar="RULE", help="learned before; a folder or a name, for one world")
    parser.add_argument("--steps", type=int, metavar="N", help="outer steps (the recipe's)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write a machine-readable report here")
    known = parser.parse_args(arguments)
    if known.rule and len(known.worlds) > 1:
        parser.error("--rule is for one of --worlds")
    prepare()
    rows: list[dict[str, Any]] = []
    print(*header(), sep="\n", flush=True)
    for world in known.worlds:
        e = experiment(WORLDS[world], known.steps)
        try:
            theta = learned(e, known.rule)
        except (UsageError, ArtifactRefused) as error:
            parser.error(str(error))
        for found in compare(WORLDS[world], e, theta, known.tasks, known.agents):
            print(found, flush=True)
            rows.append(found._asdict())
            if known.json:
                known.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
