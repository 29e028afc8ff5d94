"""An experiment as compiled programs: no host work between outer steps, and nothing here touches a disk."""

import time
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from runs.experiment import Experiment
from runs.parts import Parts, part, with_parts


class Programs:
    """The two compiled programs of a run: the birth of the state, and `report_every` outer steps in one dispatch.

    The state is donated, so it exists once; only means of scalars come back. `key = fold_in(root, step)`: there is no
    random state to save.
    """

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        began = time.monotonic()
        self.theta_shape = jax.eval_shape(experiment.rule.init, jax.eval_shape(jax.random.key, 0))
        given = {path: part(self.theta_shape, path, "loaded") for path, _, _ in experiment.sources}
        self._birth = jax.jit(self._init).lower(given).compile()
        self.state_shape = jax.eval_shape(self._init, given)
        step = jax.ShapeDtypeStruct((), jnp.int32)
        self._steps = jax.jit(self._advance, donate_argnums=0).lower(self.state_shape, step).compile()
        self.compile_seconds = time.monotonic() - began

    def _root(self) -> jax.Array:
        return jax.random.key(self._experiment.seed)

    def _init(self, given: Parts) -> Any:
        e = self._experiment
        key_theta, key_lives = jax.random.split(jax.random.fold_in(self._root(), 2**31 - 1))
        return e.learner.init(e.problems, with_parts(e.rule.init(key_theta), given), key_lives)

    def _advance(self, state: Any, first: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        e = self._experiment

        def one(state, step):
            return e.learner.step(e.problems, state, jax.random.fold_in(self._root(), step))

        state, metrics = jax.lax.scan(one, state, first + jnp.arange(e.report_every, dtype=jnp.int32))
        return state, jax.tree.map(jnp.mean, metrics)

    def birth(self, given: Parts = MappingProxyType({})) -> Any:
        """The state of a new run; `given` are the parts of theta that the experiment wants loaded."""
        return jax.block_until_ready(self._birth(dict(given)))

    def advance(self, state: Any, first: int) -> tuple[Any, dict[str, float]]:
        """`report_every` outer steps. Blocks: several host devices dead-lock if programs pile up."""
        state, metrics = self._steps(state, np.int32(first))
        return jax.block_until_ready(state), {name: float(x) for name, x in jax.device_get(metrics).items()}
