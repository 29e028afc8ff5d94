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
    one_device_per_core()
    usual = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "learned-rl"
    folder = os.environ.get("LEARNED_RL_CACHE", str(usual))
    if folder and not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def one_device_per_core() -> None:
    """Splits the host into as many devices as it has cores. Has to come before the first computation.

    Two on a single core: XLA compiles a program for one device along another path than a partitioned one, whose sums
    differ in the last bit (seen on jaxlib 0.10.2: one against two devices differ, two against four do not).
    """
    with contextlib.suppress(RuntimeError):  # a device was touched already: as many as there are
        jax.config.update("jax_num_cpu_devices", max(os.cpu_count() or 1, 2))


def lives_over(batches: int, devices: int = 0) -> contextlib.AbstractContextManager[None]:
    """An ambient mesh whose axis "lives" has `devices` devices; estimators shard their micro-batches over it.

    By default as many devices as can share the micro-batches evenly. A device never changes what a micro-batch
    computes, and sums are taken in the order of the lives, so results on two and more devices are the same bit for bit
    on CPU. One device alone may round differently (see `one_device_per_core`); lives whose micro-batches are odd in
    number end up there on a machine of two cores.

    Args:
      batches: how many micro-batches there are.
      devices: how many devices; 0 to choose.

    Raises (when called, not when entered):
      UsageError: there are fewer devices, or they cannot share the micro-batches.
    """
    there = jax.device_count()
    possible = [n for n in range(1, there + 1) if batches % n == 0]
    if devices and devices not in possible:
        raise UsageError(
            f"--devices {devices}: {there} are there, and {batches} micro-batches can be shared by {possible}"
        )
    mesh = jax.make_mesh((devices or possible[-1],), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
    return _within(mesh)


@contextlib.contextmanager
def _within(mesh: jax.sharding.Mesh) -> Iterator[None]:
    with jax.set_mesh(mesh):
        yield
