"""Whole lives of agents that learn from a reward that was learned, or from a count bonus, and what came of them."""

from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from learned_rl.given_tasks import Given
from learned_rl.lifetime import Agent, Lifetime, mean_return
from learned_rl.optimizers import Adam, InnerOptimizer, Sgd
from learned_rl.rooms import Rooms
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.intrinsic.bonus import CountBonus
from learned_rl.rules.intrinsic.rule import Intrinsic
from learned_rl.types import Rule, TaskFamily, Theta
from meta_objectives.returns import LifetimeReturn
from runs.experiment import Experiment

AT_ONCE = 64  # lives
OPTIMIZERS: dict[str, InnerOptimizer] = {"Adam": Adam(), "SGD": Sgd()}
IN_A_ROW = 10
TREASURE = 0.99  # of DeepSea, less what moving right costs
NEVER = 10**9


class Lived(NamedTuple):
    """What came of lives.

    Attributes:
      score: mean return over the fraction of the life that the reward was judged by.
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


def life(lifetime: Lifetime, theta: Theta, possible: Float[Array, ""], final: float, key: PRNGKeyArray) -> Lived:
    """One life in one stream; its last fraction `final` is its score."""
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
        jnp.mean(returns[round((1 - final) * lifetime.updates) :]),
        jnp.mean(returns[late:]),
        finished,
        streak.solved,
        possible,
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
    agent = replace(agent, coefficients=told, optimizer=OPTIMIZERS[setting.optimizer])
    return Intrinsic(agent, CountBonus(), intrinsic=bonus)  # type: ignore[arg-type]


@cache
def _program(e: Experiment, tasks: TaskFamily, updates: int, optimizer: str | None) -> Any:
    """Lives side by side, each with a task, a key, and numbers; with the learned reward if there is no optimizer."""
    usual = replace(e.lifetime(e.families[0]), tasks=tasks, updates=updates)
    assert isinstance(e.objective, LifetimeReturn)
    final = e.objective.final
    jax.eval_shape(usual.policy.init, jax.random.key(0))  # builds the environment here, not inside a loop

    def one(theta: Theta, numbers: Numbers, task: Any, key: PRNGKeyArray) -> Lived:
        rule = e.rule if optimizer is None else by_hand(agent_of(e), Setting(optimizer, numbers))
        possible = tasks.best_return(task) if isinstance(tasks, Rooms) else jnp.asarray(TREASURE)
        return life(replace(usual, tasks=Given(tasks, task), rule=rule), theta, possible, final, key)

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
