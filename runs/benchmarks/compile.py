"""Seconds to trace and compile every recipe, cold, and how large the state is that it trains."""

import math
from collections.abc import Iterator

import jax

from runs import catalogue
from runs.benchmarks.timing import Row
from runs.programs import Programs


def measure(rounds: int) -> Iterator[Row]:
    """One row a recipe. Compiled once each, with no cache on disk and none in memory; `rounds` does not matter."""
    del rounds
    jax.config.update("jax_enable_compilation_cache", False)
    for name in catalogue.recipes():
        jax.clear_caches()
        programs = Programs(catalogue.recipe(name))
        leaves = jax.tree.leaves(programs.state_shape)
        size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
        yield Row(name, programs.compile_seconds, "s to compile", details={"state_bytes": size, "leaves": len(leaves)})
