"""Learned rewards beside the task's own and a count bonus: Random ABC, Key-Box (Zheng et al. 2020), and DeepSea.

    python -m runs.intrinsic_study [--worlds rooms sea] [--tasks N] [--agents N] [--steps N] [--json PATH]

Declared before anything is run: the recipes `intrinsic-places` and `intrinsic-sea` at their own settings. All agents
are tables that learn by A2C in one stream. A2C alone and A2C with a count bonus are tuned for each task, with as many
environment steps as the reward was learned with: the best of a grid of optimizers, learning rates, entropies and
bonuses, by what the reward is judged by, the mean return over the later half of a life. Then all live in fresh tasks,
several agents in each, the same for all. In rooms, what counts is the last quarter of a life, as a share of what
somebody earns who knows the task, and how many episodes of Key-Box end in an open box; the larger rooms are of a size
that no reward was learned on. In seas, of such sizes too, it is the episodes before ten in a row find the treasure.
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
from learned_rl.optimizers import Adam, InnerOptimizer, Sgd
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
OPTIMIZERS: dict[str, tuple[InnerOptimizer, tuple[float, ...]]] = {
    "Adam": (Adam(), (0.01, 0.03, 0.1)),
    "SGD": (Sgd(), (1.0, 3.0, 5.0)),
}
ENTROPIES = (0.005, 0.03)
BONUSES = (0.0, 0.03, 0.1, 0.3)
IN_A_ROW = 10
TREASURE = 0.99  # of DeepSea, less what moving right costs
NEVER = 10**9


@dataclass(frozen=True)
class World:
    """What a recipe is held to: families of tasks that are lived in anew, and for how many updates."""

    recipe: str
    held_out: tuple[tuple[TaskFamily, int], ...]


ROOMS = ((families.random_abc(), 150), (families.key_box(), 150), (families.key_box(9, 54), 800))
SEAS = tuple((families.deep_sea(size), 2000) for size in (10, 12, 14))
WORLDS = {"rooms": World("intrinsic-places", ROOMS), "sea": World("intrinsic-sea", SEAS)}


class Lived(NamedTuple):
    """What came of lives.

    Attributes:
      score: mean return over the later half of a life.
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
    return Lived(
        jnp.mean(returns[lifetime.updates // 2 :]), jnp.mean(returns[late:]), finished, streak.solved, possible
    )


class Numbers(NamedTuple):
    """What is tuned by hand: the agent's learning rate and entropy, and the weight of a count bonus."""

    rate: Float[Array, "*n"] | float
    entropy: Float[Array, "*n"] | float
    bonus: Float[Array, "*n"] | float


class Setting(NamedTuple):
    """One of a grid."""

    optimizer: str
    numbers: Numbers

    def __str__(self) -> str:
        rate, entropy, bonus = self.numbers
        return f"{self.optimizer} {rate:g}, entropy {entropy:g}" + (f", bonus {bonus:g}" if bonus else "")


def agent_of(e: Experiment) -> ActorCritic:
    """The agent that a recipe's reward is learned for."""
    assert isinstance(e.rule, Intrinsic)
    assert isinstance(e.rule.base, ActorCritic)
    return e.rule.base


def by_hand(agent: ActorCritic, setting: Setting) -> Rule:
    """A2C with a count bonus, which may be of weight 0; the numbers may be traced, so that a grid is few programs."""
    rate, entropy, bonus = setting.numbers
    told = replace(agent.coefficients, learning_rate=rate, entropy=entropy)
    agent = replace(agent, coefficients=told, optimizer=OPTIMIZERS[setting.optimizer][0])
    return Intrinsic(agent, CountBonus(), intrinsic=bonus)  # type: ignore[arg-type]


@cache
def _program(e: Experiment, tasks: TaskFamily, updates: int, optimizer: str | None) -> Any:
    """Lives side by side, each with a task, a key, and numbers; with the learned reward if there is no optimizer."""
    usual = replace(e.lifetime(e.families[0]), tasks=tasks, updates=updates)
    jax.eval_shape(usual.policy.init, jax.random.key(0))  # builds the environment here, not inside a loop

    def one(theta: Theta, numbers: Numbers, task: Any, key: PRNGKeyArray) -> Lived:
        rule = e.rule if optimizer is None else by_hand(agent_of(e), Setting(optimizer, numbers))
        possible = tasks.best_return(task) if isinstance(tasks, Rooms) else jnp.asarray(TREASURE)
        return life(replace(usual, tasks=Given(tasks, task), rule=rule), theta, possible, key)

    return jax.jit(jax.vmap(one, (None, 0, 0, 0)))


class Lives(NamedTuple):
    """What to live, and where."""

    experiment: Experiment
    tasks: TaskFamily
    updates: int


def live(lives: Lives, who: Theta | Setting, drawn: Any, keys: PRNGKeyArray) -> Lived:
    """One life for each of `keys [n]`, in the tasks `drawn`, leaves `[n]`, with a learned reward's theta or by hand."""
    hand = who if isinstance(who, Setting) else None
    program, count = _program(*lives, hand and hand.optimizer), len(keys)
    theta, numbers = ((), hand.numbers) if hand else (who, Numbers(0.0, 0.0, 0.0))
    lanes = (jax.tree.map(lambda x: jnp.full(count, x, jnp.float32), numbers), drawn, keys)
    filled = np.minimum(np.arange(-(-count // AT_ONCE) * AT_ONCE), count - 1)
    parts = [
        jax.device_get(program(theta, *jax.tree.map(lambda x, i=i: x[i], lanes))) for i in filled.reshape(-1, AT_ONCE)
    ]
    return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)


def grid() -> list[Setting]:
    """All that is tried by hand."""
    return [
        Setting(name, Numbers(*numbers))
        for name, (_, rates) in OPTIMIZERS.items()
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
    for n, (family, updates) in enumerate(world.held_out):
        key_tune, key_draw, key_live = jax.random.split(jax.random.fold_in(root, n), 3)
        drawn = jax.vmap(family.draw)(jax.random.split(key_draw, tasks))
        drawn = jax.tree.map(lambda x: jnp.repeat(x, agents, axis=0), drawn)
        keys, lives = jax.random.split(key_live, tasks * agents), Lives(e, family, updates)
        contenders: dict[str, Any] = {"learned reward": theta, **tuned(lives, key_tune)}
        for name, who in contenders.items():
            lived = jax.tree.map(lambda x: x.reshape(tasks, agents), live(lives, who, drawn, keys))
            yield row(family.name, name, str(who) if isinstance(who, Setting) else "", lived)


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
