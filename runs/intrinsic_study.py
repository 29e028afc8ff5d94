"""Learned rewards beside the task's own and a count bonus: Random ABC, Key-Box (Zheng et al. 2020), and DeepSea.

    python -m runs.intrinsic_study [--worlds rooms sea] [--tasks N] [--agents N] [--steps N] [--json PATH]

Declared before anything is run: the recipes `intrinsic-places` and `intrinsic-sea` at their own settings. All agents
are tables that learn by A2C with Adam, in one stream. A2C alone and A2C with a count bonus are tuned for each task, on
lives as the reward was learned on and with as many of them: the best of a grid of learning rates and bonuses, by the
mean return over a life, as the reward is judged. Then all live in fresh tasks, several agents in each, the same for
all. In rooms, what counts is the last quarter of a life, as a share of what somebody earns who knows the task, and how
many episodes of Key-Box end in an open box; in seas of sizes that no reward was learned on, the episodes before ten in
a row find the treasure.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from learned_rl import families
from learned_rl.given_tasks import Given
from learned_rl.lifetime import Agent, Lifetime, mean_return
from learned_rl.rooms import Rooms
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.intrinsic.bonus import CountBonus
from learned_rl.rules.intrinsic.rule import Intrinsic
from learned_rl.types import Rule, TaskFamily, Theta
from runs import catalogue
from runs.devices import prepare
from runs.experiment import Experiment
from runs.schedule_study import trained
from runs.statistics import Interval, bootstrap, median

AT_ONCE = 64  # lives
RATES = (0.01, 0.03, 0.1, 0.3)
BONUSES = (0.0, 0.03, 0.1, 0.3, 1.0)
IN_A_ROW = 10
TREASURE = 0.99  # of DeepSea, less what moving right costs
NEVER = 10**9


@dataclass(frozen=True)
class World:
    """What a recipe is held to: the task families that are lived in anew, and for how many updates."""

    recipe: str
    held_out: tuple[TaskFamily, ...]
    updates: int


WORLDS = {
    "rooms": World("intrinsic-places", (families.random_abc(), families.key_box()), 150),
    "sea": World("intrinsic-sea", tuple(map(families.deep_sea, (10, 12, 14))), 2000),
}


class Lived(NamedTuple):
    """What came of lives.

    Attributes:
      score: mean return over the whole life.
      late: mean return over its last quarter.
      finished: share of the last quarter's episodes that terminated (boxes that were opened).
      solved: episodes before `IN_A_ROW` in a row earned more than half of what is possible; `NEVER` if none did.
      possible: what somebody earns who knows the task.
    """

    score: Float[Array, "*n"]
    late: Float[Array, "*n"]
    finished: Float[Array, "*n"]
    solved: Float[Array, "*n"]
    possible: Float[Array, "*n"]


class Streak(NamedTuple):
    """Of a life in one stream: the return so far of the episode under way, good ones in a row, all, and when solved."""

    earned: Float[Array, ""]
    row: Float[Array, ""]
    episodes: Float[Array, ""]
    solved: Float[Array, ""]

    def step(self, reward: Float[Array, ""], last: Bool[Array, ""], possible: Float[Array, ""]) -> "Streak":
        earned, episodes = self.earned + reward, self.episodes + last
        row = jnp.where(last, jnp.where(earned > possible / 2, self.row + 1, 0.0), self.row)
        now = (row >= IN_A_ROW) & (self.solved == NEVER)
        return Streak(jnp.where(last, 0.0, earned), row, episodes, jnp.where(now, episodes - IN_A_ROW, self.solved))


def life(lifetime: Lifetime, theta: Theta, possible: Float[Array, ""], key: PRNGKeyArray) -> Lived:
    """One life in one stream."""
    key_birth, key_life = jax.random.split(key)
    newborn = lifetime.start(theta, key_birth)

    def update(carried: tuple[Agent, Streak], key: PRNGKeyArray) -> tuple[tuple[Agent, Streak], tuple[Array, ...]]:
        agent, streak = carried
        agent, rollout, _ = lifetime.live(theta, agent, key)
        steps = (rollout.reward[:, 0], rollout.last[:, 0])
        streak, _ = jax.lax.scan(lambda s, x: (s.step(*x, possible), None), streak, steps)
        terminated = jnp.sum(rollout.last & (rollout.discount == 0))
        return (agent, streak), (mean_return(agent.streams), jnp.sum(rollout.last), terminated)

    nothing = Streak(*map(jnp.asarray, (0.0, 0.0, 0.0, float(NEVER))))
    (_, streak), (returns, ended, terminated) = jax.lax.scan(
        update, (newborn, nothing), jax.random.split(key_life, lifetime.updates)
    )
    late = lifetime.updates * 3 // 4
    finished = jnp.sum(terminated[late:]) / jnp.maximum(jnp.sum(ended[late:]), 1)
    return Lived(jnp.mean(returns), jnp.mean(returns[late:]), finished, streak.solved, possible)


class Setting(NamedTuple):
    """What is tuned by hand: the agent's learning rate, and the weight of a count bonus."""

    rate: Float[Array, "*n"] | float
    bonus: Float[Array, "*n"] | float

    def __str__(self) -> str:
        return f"learning rate {self.rate:g}" + (f", bonus {self.bonus:g}" if self.bonus else "")


def agent_of(e: Experiment) -> ActorCritic:
    """The agent that a recipe's reward is learned for."""
    assert isinstance(e.rule, Intrinsic)
    assert isinstance(e.rule.base, ActorCritic)
    return e.rule.base


def by_hand(agent: ActorCritic, setting: Setting) -> Rule:
    """A2C with a count bonus, which may be of weight 0; the numbers may be traced, so that a grid is one program."""
    told = replace(agent, coefficients=replace(agent.coefficients, learning_rate=setting.rate))
    return Intrinsic(told, CountBonus(), intrinsic=setting.bonus)  # type: ignore[arg-type]


@cache
def _program(e: Experiment, tasks: TaskFamily, updates: int, learned: bool) -> Any:
    """Lives side by side, each with a task, a key, and a setting that the learned reward does not look at."""
    usual = replace(e.lifetime(e.families[0]), tasks=tasks, updates=updates)
    jax.eval_shape(usual.policy.init, jax.random.key(0))  # builds the environment here, not inside a loop

    def one(theta: Theta, setting: Setting, task: Any, key: PRNGKeyArray) -> Lived:
        rule = e.rule if learned else by_hand(agent_of(e), setting)
        possible = tasks.best_return(task) if isinstance(tasks, Rooms) else jnp.asarray(TREASURE)
        return life(replace(usual, tasks=Given(tasks, task), rule=rule), theta, possible, key)

    return jax.jit(jax.vmap(one, (None, 0, 0, 0)))


def live(e: Experiment, tasks: TaskFamily, updates: int, theta: Theta | None, lanes: tuple[Any, ...]) -> Lived:
    """Lives of `lanes`, `(settings, tasks, keys)` with leaves `[n]`, `AT_ONCE` at a time; by hand without a theta."""
    program, count = _program(e, tasks, updates, theta is not None), len(lanes[2])
    filled = np.minimum(np.arange(-(-count // AT_ONCE) * AT_ONCE), count - 1)
    parts = [
        jax.device_get(program(() if theta is None else theta, *jax.tree.map(lambda x, i=i: x[i], lanes)))
        for i in filled.reshape(-1, AT_ONCE)
    ]
    return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)


def tuned(e: Experiment, tasks: TaskFamily, updates: int, key: PRNGKeyArray) -> dict[str, Setting]:
    """The best setting without a bonus, and with one, of as many lives as the reward was learned on."""
    grid = [Setting(*x) for x in itertools.product(RATES, BONUSES)]
    count = e.steps * e.env_steps_per_step // (len(e.families) * updates * e.inner.steps * len(grid))
    keys = jax.random.split(key, count)
    drawn, lived = jax.vmap(lambda k: tasks.draw(jax.random.fold_in(k, 0)))(keys), np.zeros(len(grid))
    for i, setting in enumerate(grid):
        every = Setting(*(jnp.full(count, x, jnp.float32) for x in setting))
        lived[i] = live(e, tasks, updates, None, (every, drawn, keys)).score.mean()
    plain = np.array([setting.bonus == 0 for setting in grid])
    chosen = {"A2C": plain, "A2C, count bonus": ~plain}
    return {name: grid[int(np.argmax(np.where(mask, lived, -np.inf)))] for name, mask in chosen.items()}


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
        return np.mean(both[..., 0, :, 0], axis=-1) / np.mean(both[..., 1, :, 0], axis=-1)

    return Row(
        task,
        name,
        setting,
        bootstrap(share, np.stack([earned, possible])),
        bootstrap(lambda x: np.mean(x, axis=(-2, -1)), finished),
        float(np.mean(lived.solved < NEVER)),
        bootstrap(median, np.median(lived.solved, axis=1)[:, None]),
    )


def compare(world: World, steps: int | None, tasks: int, agents: int) -> Iterator[Row]:
    """Learns a reward, tunes what stands beside it, and lets all live in fresh tasks."""
    e = catalogue.recipe(world.recipe)
    if steps is not None:
        e = replace(e, steps=steps, report_every=1, checkpoint_every=1)
    root = jax.random.fold_in(jax.random.key(1_000_003), e.seed)
    print(f"{e.name}:", file=sys.stderr, flush=True)
    theta, _ = trained(e)
    for n, family in enumerate(world.held_out):
        key_tune, key_draw, key_live = jax.random.split(jax.random.fold_in(root, n), 3)
        drawn = jax.vmap(family.draw)(jax.random.split(key_draw, tasks))
        each = jax.tree.map(lambda x: np.repeat(np.asarray(x), agents, axis=0), drawn)
        keys = jax.random.split(key_live, tasks * agents)

        def lived(theta: Theta | None, setting: Setting, f=family, each=each, keys=keys) -> Lived:
            every = Setting(*(jnp.full(len(keys), x, jnp.float32) for x in setting))
            found = live(e, f, world.updates, theta, (every, each, keys))
            return jax.tree.map(lambda x: np.asarray(x).reshape(tasks, agents), found)

        yield row(family.name, "learned reward", "", lived(theta, Setting(0.0, 0.0)))
        for name, setting in tuned(e, family, world.updates, key_tune).items():
            yield row(family.name, name, str(setting), lived(None, setting))


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
    parser.add_argument("--steps", type=int, metavar="N", help="outer steps (the recipe's)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write a machine-readable report here")
    known = parser.parse_args(arguments)
    prepare()
    rows: list[dict[str, Any]] = []
    print(*header(), sep="\n", flush=True)
    for world in known.worlds:
        for found in compare(WORLDS[world], known.steps, known.tasks, known.agents):
            print(found, flush=True)
            rows.append(found._asdict())
            if known.json:
                known.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
