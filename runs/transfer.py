"""Transfer: agents trained with frozen rules on held-out tasks, every rule with the same environment steps."""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from learned_rl.lifetime import Lifetime
from learned_rl.rules.guard import Guard
from learned_rl.types import Params, Rule, Theta
from runs.comparison import FLOOR, Comparison, Curves
from runs.devices import lives_over
from runs.durable import replace_file
from runs.overrides import flatten
from runs.trials import Trial
from truncation.lives import all_finite, over_lives

POINTS = 50  # of a recorded learning curve
FINAL = 0.1  # the score is the mean return over this last fraction of training


class Contender(NamedTuple):
    """A rule in a comparison."""

    name: str
    rule: Rule
    theta: Theta

    @property
    def hand_designed(self) -> bool:
        """Nothing of it was learned, and it learns: what a learned rule is to be measured against."""
        return self.name != FLOOR and not jax.tree.leaves(self.theta)


def guarded(ours: Contender, reserve: Contender) -> Contender:
    """`ours` until it misbehaves, `reserve` from then on.

    Raises:
      ValueError: the two cannot be had in one life.
    """
    rule = Guard(ours.rule, reserve.rule)
    return Contender(f"{ours.name}-guarded", rule, {"base": ours.theta, "fallback": reserve.theta})


def train_agents(trial: Trial, rule: Rule, theta: Theta, seeds: int, seed: int) -> Curves:
    """Trains `seeds` agents side by side. The same seed gives every rule the same tasks and initial streams."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(seed), jnp.arange(seeds))
    microbatch = at_once(seeds)
    program = _lives(trial, rule, microbatch)
    with lives_over(seeds // microbatch):
        (returns, finite), first = program(theta, keys)
    returns = np.asarray(returns)
    return Curves(returns[:, _points(trial)], final(returns), np.flatnonzero(~np.asarray(finite)), first)


def _points(trial: Trial) -> Int[np.ndarray, " points"]:
    """The updates after which a curve is recorded."""
    return np.unique(np.linspace(0, trial.updates - 1, min(POINTS, trial.updates)).astype(int))


def final(returns: Float[np.ndarray, "seeds updates"]) -> Float[np.ndarray, " seeds"]:
    """The score of an agent: its mean return over the last tenth of training."""
    return returns[:, -max(1, round(FINAL * returns.shape[1])) :].mean(axis=1)


def at_once(agents: int) -> int:
    """The size of the micro-batches that `agents` are trained in: fixed, and at most 8, whatever the number of devices.

    So the number of devices changes no bit of the result.
    """
    return max(n for n in range(1, 9) if agents % n == 0)


@cache  # one program for a learned rule, its untrained start and every other theta
def _lives(trial: Trial, rule: Rule, microbatch: int) -> Callable[[Theta, Array], Any]:
    lifetime = Lifetime(trial.tasks, rule, trial.network, trial.streams, trial.steps, trial.updates)
    jax.eval_shape(lifetime.policy.init, jax.random.key(0))  # builds the environment here, not inside a shard

    def life(theta: Theta, key: PRNGKeyArray) -> tuple[tuple[Array, Array, tuple[PyTree, Params]], tuple[()]]:
        key_birth, key_life = jax.random.split(key)
        agent, returns = lifetime.whole(theta, lifetime.start(theta, key_birth), key_life)
        return (returns, all_finite(agent.params), (agent.task, agent.params)), ()

    def lives(theta: Theta, keys: Array) -> tuple[tuple[Array, Array], tuple[PyTree, Params]]:
        (returns, finite, agents), _ = over_lives(life, (theta,), keys, microbatch=microbatch)
        return (returns, finite), jax.tree.map(lambda x: x[0], agents)

    return jax.jit(lives)


def compare(
    trials: Sequence[Trial],
    contenders: Sequence[Contender],
    seeds: int,
    folder: Path,
    progress: Callable[[int, int, str], bool],
    seed: int = 1_000_003,
    watch: Callable[[Trial, Contender, Curves], None] | None = None,
) -> Comparison | None:
    """Trains every contender on every trial. Finished pairs are kept in `folder`, so that a killed comparison goes on.

    Args:
      seed: root of all randomness; no meta-training uses it by default, so that tasks and inits are fresh.
      progress: called before a pair is trained, and at the end, with (pairs done, pairs in all, what is trained now);
        says whether to go on.
      watch: called with what was trained, before it is kept; not for what was kept before.

    Returns:
      The comparison, or None if it was told to stop.
    """
    results: dict[str, dict[str, Curves]] = {c.name: {} for c in contenders}
    pairs = [(trial, c) for trial in trials for c in contenders]
    for done, (trial, c) in enumerate(pairs):
        file = folder / f"{trial.name}--{c.name}--{_identity(trial, c, seeds, seed)}.json"
        if not file.exists():
            if not progress(done, len(pairs), f"{c.name} on {trial.name}"):
                return None
            curves = train_agents(trial, c.rule, c.theta, seeds, seed)
            if watch:
                watch(trial, c, curves)
            folder.mkdir(parents=True, exist_ok=True)
            kept = {"returns": curves.returns, "scores": curves.scores, "broken": curves.broken}
            replace_file(file, json.dumps({k: v.tolist() for k, v in kept.items()}).encode())
        saved = json.loads(file.read_bytes())
        broken = np.array(saved.get("broken", []), int)  # results of before do not say
        results[c.name][trial.name] = Curves(np.array(saved["returns"]), np.array(saved["scores"]), broken)
    progress(len(pairs), len(pairs), "done")
    recorded = tuple(tuple(((_points(t) + 1) * t.streams * t.steps).tolist()) for t in trials)
    references = tuple(c.name for c in contenders if c.hand_designed)
    return Comparison(tuple(t.name for t in trials), tuple(t.env_steps for t in trials), results, references, recorded)


def fingerprint(contender: Contender) -> str:
    """Identity of a rule: its settings and its theta, whatever it is called."""
    digest = hashlib.sha256(repr((type(contender.rule).__name__, flatten(contender.rule))).encode())
    for path, leaf in jax.tree_util.tree_flatten_with_path(contender.theta)[0]:
        array = np.asarray(leaf)
        digest.update(repr((jax.tree_util.keystr(path), str(array.dtype), array.shape)).encode() + array.tobytes())
    return digest.hexdigest()[:12]


def _identity(trial: Trial, contender: Contender, seeds: int, seed: int) -> str:
    """Identity of what would be computed, so that a kept result is never taken for another one."""
    return hashlib.sha256(repr((flatten(trial), fingerprint(contender), seeds, seed)).encode()).hexdigest()[:12]
