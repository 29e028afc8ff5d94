"""A rule's functions as StableHLO, by `jax.export`: compiled code for any platform, without any of ours.

    function = jax.export.deserialize(bytearray(open("loss.stablehlo", "rb").read()))
    function.call(log_prob=..., ...)        # float32, int32 and bool arrays; jax.grad goes through it

JAX reads such a file for at least six months after it was written, so the rule file stays what is kept.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from learned_rl.export.parts import Function, Part
from learned_rl.types import Theta

PLATFORMS = ("cpu", "cuda", "tpu")


def write(parts: Iterable[Part]) -> dict[str, bytes]:
    """`NAME.stablehlo` of every function, its weights inside, for sizes that are known only where it is called."""
    return {
        f"{name}.stablehlo": exported(function, part.settings, part.theta)
        for part in parts
        for name, function in part.functions.items()
    }


def exported(function: Function, settings: Any, theta: Theta) -> bytes:
    """One function, differentiable once."""
    call = jax.jit(partial(function.call, settings, theta))
    return bytes(jax.export.export(call, platforms=PLATFORMS)(**abstract(function.arguments)).serialize(vjp_order=1))


def abstract(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays that `Function.arguments` names; words that are no numbers stand for any size."""
    scope = jax.export.SymbolicScope()

    def array(said: str) -> jax.ShapeDtypeStruct:
        *kind, dims = said.partition(" ")[::2] if said[:4] in ("bool", "int3") else ("float32", said)
        shape = jax.export.symbolic_shape(",".join(dims.split()), scope=scope)
        return jax.ShapeDtypeStruct(shape, jnp.dtype(kind[0]))

    return jax.tree.map(array, dict(arguments))
