"""The machine: which devices lives are spread over, and where compiled programs are kept."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax

from runs.errors import UsageError
from truncation.lives import AXIS


def prepare() -> None:
    """One host device per core, and a compilation cache, so that a resumed run does not compile again.

    Has to come before the first computation. The cache is `LEARNED_RL_CACHE`, else `learned-rl` in the user's cache
    folder; an empty `LEARNED_RL_CACHE` switches it off.
    """
    with contextlib.suppress(RuntimeError):  # a device was touched already: as many as there are
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    usual = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "learned-rl"
    folder = os.environ.get("LEARNED_RL_CACHE", str(usual))
    if folder and not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@contextlib.contextmanager
def lives_over(count: int = 0) -> Iterator[None]:
    """An ambient mesh whose axis "lives" has `count` devices (0: all there are); estimators shard over it.

    Results do not depend on `count`, bit for bit, as long as the estimator's micro-batch is set.

    Raises:
      UsageError: there are fewer devices than that.
    """
    there = jax.device_count()
    if count > there:
        raise UsageError(f"--devices {count}: there are {there}")
    mesh = jax.make_mesh((count or there,), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        yield
