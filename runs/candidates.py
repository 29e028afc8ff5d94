"""Agents of many settings of one rule, side by side in one program; what is finished is kept."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.lifetime import Lifetime
from learned_rl.types import Rule
from runs.devices import lives_over
from runs.durable import replace_file
from runs.grids import Grid, Setting, fed
from runs.overrides import flatten
from runs.transfer import final
from runs.trials import Trial
from truncation.lives import over_lives

Progress = Callable[[int, int, str], bool]  # done, in all, what is trained now; says whether to go on

LANES, AT_ONCE = 16, 8  # agents a call, and of those per micro-batch: one program, whatever the number of agents


class Subject(NamedTuple):
    """A named rule with the grid that it is tuned on."""

    name: str
    rule: Rule
    grid: Grid

    def at(self, setting: Setting) -> Rule:
        return fed(self.rule, self.grid.paths, setting)


@dataclass
class Laboratory:
    """Trains candidates, keeps what is finished, and counts what is left to do."""

    trials: tuple[Trial, ...]
    folder: Path
    progress: Progress
    total: int
    done: int = 0

    def measure(
        self, subject: Subject, settings: list[Setting], seeds: range, root: int
    ) -> Float[np.ndarray, "settings seeds tasks"] | None:
        """Final scores of one agent a setting, seed and task; None if told to stop."""
        columns = []
        for trial in self.trials:
            what = f"{len(settings)} x {len(seeds)} {subject.name} on {trial.name}"
            if not self.progress(self.done, self.total, what):
                return None
            columns.append(self._kept(trial, subject, settings, seeds, root))
            self.done += 1
        return np.stack(columns, axis=-1)

    def _kept(
        self, trial: Trial, subject: Subject, settings: list[Setting], seeds: range, root: int
    ) -> Float[np.ndarray, "settings seeds"]:
        asked = (flatten(trial), flatten(subject.rule), subject.grid.paths, settings, seeds, root)
        identity = hashlib.sha256(repr(asked).encode()).hexdigest()[:12]
        file = self.folder / f"{trial.name}--{subject.name}--{identity}.json"
        if not file.exists():
            scores = train(trial, subject, settings, seeds, root)
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(file, json.dumps(scores.tolist()).encode())  # Python's JSON, which has a NaN
        return np.array(json.loads(file.read_bytes()))


def train(
    trial: Trial, subject: Subject, settings: list[Setting], seeds: range, root: int
) -> Float[np.ndarray, "settings seeds"]:
    """Final scores of fresh agents. All settings meet the same tasks and streams, seed by seed."""
    scores, paths = np.empty((len(settings), len(seeds))), subject.grid.paths
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(root), jnp.arange(seeds.start, seeds.stop))
    whole = [k for k in range(len(paths)) if isinstance(settings[0][k], int)]
    fluid = [k for k in range(len(paths)) if k not in whole]
    shared: dict[Setting, list[int]] = {}
    for i, setting in enumerate(settings):
        shared.setdefault(tuple(setting[k] for k in whole), []).append(i)
    for numbers, chosen in shared.items():
        base = fed(subject.rule, [paths[k] for k in whole], numbers)
        names = tuple(paths[k] for k in fluid)
        values = np.array([[settings[i][k] for k in fluid] for i in chosen], np.float32)
        lanes = np.repeat(values, len(seeds), axis=0), np.tile(np.arange(len(seeds)), len(chosen))
        scores[chosen] = _in_lanes(_program(trial, base, names), *lanes, keys).reshape(len(chosen), len(seeds))
    return scores


def _in_lanes(program: Callable, values: np.ndarray, numbers: np.ndarray, keys: Array) -> Float[np.ndarray, " n"]:
    """`LANES` agents at a time, the last call filled up with its last agent: what that repeats is thrown away."""
    filled = np.minimum(np.arange(-(-len(numbers) // LANES) * LANES), len(numbers) - 1).reshape(-1, LANES)
    with lives_over(LANES // AT_ONCE):
        parts = [np.asarray(program(values[lanes], keys[numbers[lanes]])) for lanes in filled]
    return final(np.concatenate(parts)[: len(numbers)])


@cache
def _program(trial: Trial, rule: Rule, paths: tuple[str, ...]) -> Callable[[Array, Array], Array]:
    """Mean returns along whole lives `[LANES, updates]`, of agents with values `[LANES, paths]` and keys `[LANES]`."""
    lifetime = Lifetime(trial.tasks, rule, trial.network, trial.streams, trial.steps, trial.updates)
    jax.eval_shape(lifetime.policy.init, jax.random.key(0))  # builds the environment here, not inside a shard

    def life(values: Array, key: PRNGKeyArray) -> tuple[Array, tuple[()]]:
        here = replace(lifetime, rule=fed(rule, paths, [values[i] for i in range(len(paths))]))
        key_birth, key_life = jax.random.split(key)
        return here.whole((), here.start((), key_birth), key_life)[1], ()

    return jax.jit(lambda values, keys: over_lives(life, (), values, keys, microbatch=AT_ONCE)[0])
