"""A bridge to the library learned_optimization (Metz et al.): our problems in its estimators, its steps in ours.

Needed is the version with `TruncatedStep`, which is not on PyPI; nothing of it is imported before a function is called.
It wants tensorflow for files and summaries only, so while it is imported, an empty module stands in if there is none.
"""

import contextlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from truncation.lives import select, strong
from truncation.problem import InnerProblem, Segment, Theta

INSTALL = (
    "learned_optimization with outer_trainers.truncated_step is needed: pip install --no-deps "
    "git+https://github.com/google/learned_optimization && pip install learned-rl[lopt]"
)


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """Inside, learned_optimization can be imported without tensorflow.

    Raises:
      ImportError: it is not installed, or too old; the message has the command.
    """
    names = ("tensorflow", "tensorflow.compat", "tensorflow.compat.v2", "tensorflow.io", "tensorflow_datasets")
    stubs = {}
    with contextlib.suppress(ImportError):
        import flax.serialization  # (what looks for tensorflow must do so before there is a stand-in)
        import flax.training.checkpoints  # noqa: F401
        import haiku  # type: ignore[import-not-found]  # noqa: F401
    if "tensorflow" not in sys.modules and importlib.util.find_spec("tensorflow") is None:
        stubs = {name: types.ModuleType(name) for name in names}
        for name, module in stubs.items():
            module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        stubs["tensorflow"].compat = stubs["tensorflow.compat"]  # type: ignore[attr-defined]
        stubs["tensorflow.compat"].v2 = stubs["tensorflow.compat.v2"]  # type: ignore[attr-defined]
        stubs["tensorflow.compat.v2"].enable_v2_behavior = lambda: None  # type: ignore[attr-defined]
    sys.modules.update(stubs)
    try:
        yield
    except ImportError as missing:
        raise ImportError(f"{INSTALL} ({missing})") from missing
    finally:
        for name in stubs:  # others must not take it for tensorflow
            sys.modules.pop(name, None)


def export(problem: InnerProblem, init: Callable[[PRNGKeyArray], Theta], horizon: int, lives: int) -> Any:
    """The problem as its `VectorizedTruncatedStep`, such that its PES is unbiased for the mean segment loss.

    Its PES credits everything up to the first `is_done` to the accumulated noise, and what comes later to the newest.
    So a rebirth is a step of its own, and `is_done` is raised there, not at the last segment of a lifetime (whose loss
    would be credited to the newest noise alone). It divides by the number of unmasked steps of a window; a masked
    rebirth would give the others in its window more weight, and be 0/0 in a window of one. So the rebirth counts, with
    loss zero, and all other losses are larger by (horizon + 1) / horizon: means over windows are then, over
    horizon + 1 steps, means over segments. Lives start as due, so that the first birth is perturbed as well.

    Args:
      problem: the inner problem.
      init: makes theta, for its `outer_init`.
      horizon: segments in a lifetime; its cycle is one step longer.
      lives: how many live side by side (its `num_tasks`; its estimators double them).

    Raises:
      ImportError: learned_optimization is missing or too old.
    """
    if horizon < 1 or lives < 1:
        raise ValueError(f"horizon={horizon} and lives={lives}: at least 1 of each is needed")
    with importable():
        from learned_optimization.outer_trainers import truncated_step  # type: ignore[import-not-found]

    class Step(truncated_step.TruncatedStep):
        def outer_init(self, key: Array) -> Theta:
            return init(_typed(key))

        def init_step_state(self, theta: Theta, outer_state: Any, key: Array) -> tuple[Any, Array]:
            return _plain(strong(problem.start(theta, _typed(key)))), jnp.int32(horizon)

        def get_batch(self, steps: int | None = None) -> tuple[()]:
            return ()

        def unroll_step(self, theta: Theta, unroll_state: Any, key: Array, data: Any, outer_state: Any) -> tuple:
            (entered, age), key = unroll_state, _typed(key)
            due = age >= horizon
            newborn = strong(problem.start(theta, jax.random.fold_in(key, 1)))
            lived, segment = problem.advance(theta, _like(newborn, entered), jax.random.fold_in(key, 0))
            life = _plain(select(due, newborn, strong(lived)))
            age = jnp.where(due, 0, age + 1).astype(jnp.int32)
            out = truncated_step.TruncatedUnrollOut(
                loss=jnp.where(due, 0, segment.loss * ((horizon + 1) / horizon)),
                is_done=due,
                task_param=jnp.int32(0),
                iteration=age,
                mask=jnp.bool_(True),
            )
            return (life, age), out

        def task_name(self) -> str:
            return type(problem).__name__

    return truncated_step.VectorizedTruncatedStep(Step(), lives)


@dataclass(frozen=True)
class ImportedStep:
    """One of its `VectorizedTruncatedStep`s, of a single task, as an inner problem: a segment is one of its steps.

    Resets are ours: its own schedule must never end within our horizon (give it a `NeverEndingTruncationSchedule` and
    `override_num_steps`, or a longer unroll). A step that resets itself all the same reports a loss that is not finite,
    which is counted as `dead`. Its data come from the host; here they are read once, and each segment draws one batch.

    Attributes:
      step: its step; `num_tasks` must be 1, for mapping over lives is ours.
      batches: `step.get_batch(n)`, n batches of data ahead of the run; `()` where it has no data.
      outer_state: what its schedules may depend on.
    """

    step: Any
    batches: Any = ()
    outer_state: Any = None

    def __post_init__(self):
        if self.step.num_tasks != 1:
            raise ValueError(f"step.num_tasks={self.step.num_tasks} is not 1: an estimator maps over lives")

    def start(self, theta: Theta, key: PRNGKeyArray) -> Any:
        return self.step.init_step_state(theta, self.outer_state, jax.random.key_data(key))

    def advance(self, theta: Theta, life: Any, key: PRNGKeyArray) -> tuple[Any, Segment]:
        data = self.batches
        if leaves := jax.tree.leaves(data):
            which = jax.random.randint(jax.random.fold_in(key, 1), (), 0, len(leaves[0]))
            data = jax.tree.map(lambda x: jnp.asarray(x)[which], data)
        raw = jax.random.key_data(jax.random.fold_in(key, 0))
        life, out = self.step.unroll_step(theta, life, raw, data, self.outer_state)
        own_reset = jnp.asarray(out.is_done)[0] | ~jnp.asarray(out.mask)[0]
        return life, Segment(jnp.where(own_reset, jnp.nan, out.loss[0]), {})


def _typed(key: Array) -> PRNGKeyArray:
    """It passes keys around as plain numbers."""
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)


def _plain(life: Any) -> Any:
    """Keys in a life as plain numbers."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, life)


def _like(template: Any, life: Any) -> Any:
    """Keys in a life as they are in the template."""

    def back(like: Array, x: Array) -> Array:
        if not jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
            return x
        return jax.random.wrap_key_data(x, impl=jax.random.key_impl(like))

    return jax.tree.map(back, template, life)
