"""Environments of other libraries: imported when they are needed, and built outside of whatever is being traced."""

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Arrays made here are concrete and on one device, even if first used inside a trace or a shard."""
    nowhere = jax.sharding.AbstractMesh((), ())
    with jax.sharding.use_abstract_mesh(nowhere), jax.ensure_compile_time_eval():
        yield


def library(name: str, extra: str = "") -> Any:
    """A module, imported now: some take seconds, which no help text should wait for, and some build arrays.

    Args:
      extra: the optional dependency of this package that has it; then what it warns of is not passed on.

    Raises:
      ValueError: it is not installed, and how to install it.
    """
    if not extra:
        with outside():
            return importlib.import_module(name)
    try:
        with outside(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ValueError(f"these tasks need {package} ({error}): pip install 'learned-rl[{extra}]'") from error


def strong(tree: PyTree) -> PyTree:
    """Gives every leaf a dtype of its own: weakly typed leaves would recompile the second call."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), tree)


def typed_as(tree: PyTree, before: PyTree) -> PyTree:
    """Every leaf in the dtype that it had before: what a step gives has to be what the next one takes."""
    return jax.tree.map(lambda new, old: jnp.asarray(new, jnp.result_type(old)), tree, before)
