"""A bridge to the library learned_optimization (Metz et al.): our problems in its estimators, its tasks in ours.

Made for version 0.0.1, the one on PyPI (extra `lopt`), whose estimators meta-train a learned optimizer on a family of
tasks. It is of 2022, so it has to be imported where it can be: `learned_rl.learned_optimizers.library.importable()`.
Nothing of it is imported before a function here is called.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from truncation.lives import select, strong
from truncation.problem import InnerProblem, Segment, Theta


class Exported(NamedTuple):
    """What its estimators want first: `TruncatedPES(*exported, trunc_length=window, steps_per_jit=window, ...)`."""

    task_family: Any
    learned_opt: Any
    trunc_sched: Any
    num_tasks: int


class _Lived(NamedTuple):
    life: Any
    age: Int[Array, ""]


def export(
    problem: InnerProblem, init: Callable[[PRNGKeyArray], Theta], horizon: int, window: int, lives: int
) -> Exported:
    """The problem as a task and an optimizer that trains it, such that its PES is unbiased for the mean segment loss.

    The "parameters" are nothing; what its optimizer carries is a life of ours, and its loss is that of a segment. Its
    PES multiplies the mean loss of a window with a mixture of accumulated and new noise as soon as one step of the
    window is the last of a lifetime, leaves the step of the reset out of the mean, and is 0/0 where that step is all.
    So a lifetime is followed by rests with loss zero, up to the end of a window and through another one, which holds
    the end and the reset; losses are larger by the ratio of all steps to `horizon`. Births wait for the first segment:
    it is perturbed as they are. The noise of the window of the reset stays in the sum, which costs variance, not bias.

    This holds in lock-step: `random_initial_iteration_offset` moves the windows.

    Args:
      problem: the inner problem.
      init: makes theta.
      horizon: segments in a lifetime.
      window: its `trunc_length`, at least 2.
      lives: how many live side by side (its `num_tasks`; its antithetic estimators double them).

    Raises:
      ImportError: learned_optimization is missing, or cannot be imported beside this jax (see the module).
      ValueError: a number is too small.
    """
    if horizon < 1 or lives < 1 or window < 2:
        raise ValueError(
            f"horizon={horizon}, window={window} and lives={lives}: at least 1, 2 and 1 are needed "
            "(the step of a reset alone in a window is 0/0)"
        )
    from learned_optimization.learned_optimizers import base as learned_base  # type: ignore[import-not-found]
    from learned_optimization.optimizers import base as optimizers_base  # type: ignore[import-not-found]
    from learned_optimization.outer_trainers import truncation_schedule  # type: ignore[import-not-found]
    from learned_optimization.tasks import base as tasks_base  # type: ignore[import-not-found]

    # As unknown types: its own signatures disagree with each other.
    learned: Any
    optimizers: Any
    schedules: Any
    tasks: Any
    learned, optimizers, schedules, tasks = learned_base, optimizers_base, truncation_schedule, tasks_base
    cycle = (-(-horizon // window) + 1) * window

    class Lifetime(tasks.Task):
        def init(self, key: Array) -> Array:
            return jnp.zeros(())

        def loss_with_state(self, params: Any, state: Any, key: Array, data: Any) -> tuple[Array, _Lived]:
            (theta, (entered, age)), key = state, _typed(key)
            newborn = strong(problem.start(theta, jax.random.fold_in(key, 1)))
            life = select(age == 0, newborn, _like(newborn, entered))
            after, segment = problem.advance(theta, life, jax.random.fold_in(key, 0))
            living = age < horizon
            loss = jnp.where(living, segment.loss * (cycle / horizon), 0)
            return loss, _Lived(_plain(select(living, strong(after), life)), age + 1)

    class Carrier(optimizers.Optimizer):
        def __init__(self, theta: Theta):
            self.theta = theta

        def init(self, params: Any, model_state: Any = None, num_steps: Any = None, key: Any = None) -> _Lived:
            life = jax.eval_shape(lambda: _plain(problem.start(self.theta, jax.random.key(0))))
            return _Lived(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), life), jnp.int32(0))

        def get_params(self, state: _Lived) -> Array:
            return jnp.zeros(())

        def get_state(self, state: _Lived) -> tuple[Theta, _Lived]:
            return self.theta, state

        def update(self, opt_state: _Lived, grad: Any, *, model_state: _Lived, **rest: Any) -> _Lived:
            return model_state

    class Carrying(learned.LearnedOptimizer):
        def init(self, key: Array) -> Theta:
            return init(_typed(key))

        def opt_fn(self, theta: Theta, is_training: bool = False) -> Carrier:
            return Carrier(theta)

    family = tasks.single_task_to_family(Lifetime(), name=type(problem).__name__)
    return Exported(family, Carrying(), schedules.ConstantTruncationSchedule(cycle - 1), lives)


@dataclass(frozen=True)
class ImportedTask:
    """Training on one of its tasks with one of its learned optimizers as an inner problem; a segment is one step.

    Its data come from the host; here they are read once, and each segment draws one batch.

    Attributes:
      task_family: of its tasks; each life samples one.
      learned_opt: a `LearnedOptimizer`; theta is what its `init` makes.
      steps: how many its optimizer is told to expect.
      batches: batches of data, stacked; `()` where the tasks have none.
    """

    task_family: Any
    learned_opt: Any
    steps: int
    batches: Any = ()

    def start(self, theta: Theta, key: PRNGKeyArray) -> tuple[Any, Any]:
        sample, init, begin = jax.random.key_data(jax.random.split(key, 3))
        task = self.task_family.sample(sample)
        params, state = self.task_family.task_fn(task).init_with_state(init)
        return task, self._optimizer(theta).init(params, state, num_steps=self.steps, key=begin)

    def advance(self, theta: Theta, life: tuple[Any, Any], key: PRNGKeyArray) -> tuple[tuple[Any, Any], Segment]:
        (task, state), optimizer, data = life, self._optimizer(theta), self.batches
        draw, learn, which = jax.random.split(key, 3)
        if leaves := jax.tree.leaves(data):
            number = jax.random.randint(which, (), 0, len(leaves[0]))
            data = jax.tree.map(lambda x: jnp.asarray(x)[number], data)
        its = self.task_family.task_fn(task)
        loss = jax.value_and_grad(its.loss_with_state, has_aux=True)
        (value, after), slope = loss(*optimizer.get_params_state(state), jax.random.key_data(draw), data)
        state = optimizer.update(state, slope, loss=value, model_state=after, key=jax.random.key_data(learn))
        return (task, state), Segment(its.normalizer(value), {})

    def _optimizer(self, theta: Theta) -> Any:
        return self.learned_opt.opt_fn(theta, is_training=True)


def _typed(key: Array) -> PRNGKeyArray:
    """It passes keys around as plain numbers."""
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)


def _plain(life: Any) -> Any:
    """Keys in a life as plain numbers."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, life)


def _like(template: Any, life: Any) -> Any:
    """Keys in a life as they are in the template."""

    def back(like: Array, x: Array) -> Array:
        return jax.random.wrap_key_data(x, impl=jax.random.key_impl(like)) if _is_key(like) else x

    return jax.tree.map(back, template, life)


def _is_key(x: Array) -> bool:
    return jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key)
