"""A rule's functions as StableHLO, by `jax.export`: compiled code for any platform, without any of ours.

    function = jax.export.deserialize(bytearray(open("loss.stablehlo", "rb").read()))
    function.call(log_prob=..., ...)        # float32, int32 and bool arrays; jax.grad goes through it

JAX reads such a file for at least six months after it was written, so the rule file stays what is kept.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from learned_rl.export.optimizers import start, step
from learned_rl.export.parts import Function, NotExportable, Part
from learned_rl.types import Params, Theta

PLATFORMS = ("cpu", "cuda", "tpu")


def write(parts: Iterable[Part], like: Params | None = None) -> dict[str, bytes]:
    """`NAME.stablehlo` of every function, its weights inside, for sizes that are known only where it is called.

    Args:
      like: parameters as an optimizer is to move; its functions are of this tree alone.

    Raises:
      NotExportable: there is an optimizer, and no such tree.
    """
    files = {}
    for part in parts:
        if part.kind == "optimizer":
            if like is None:
                raise NotExportable("StableHLO is of arrays of one shape: say of which parameters, an .npz (--like)")
            files |= {f"{name}.stablehlo": content for name, content in _optimizer(part, like).items()}
        else:
            for name, function in part.functions.items():
                files[f"{name}.stablehlo"] = exported(function, part.settings, part.theta)
    return files


def _optimizer(part: Part, like: Params) -> dict[str, bytes]:
    """`init(params)`, and `update(gradient, state, params, activations, training, batch, learning_rate)`, no noise.

    States are lists of arrays: named tuples would have to be known where the file is read.
    """
    params = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, jnp.float32), like)
    state, tree = jax.tree.flatten(jax.eval_shape(partial(start, part.settings, part.theta), params))
    number = jax.ShapeDtypeStruct((), jnp.float32)
    loud = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape[-1:] or (1,), jnp.float32), params)

    def init(params: Params) -> list[jax.Array]:
        return jax.tree.leaves(start(part.settings, part.theta, params))

    def update(gradient, state, params, activations, training, batch, learning_rate) -> Any:
        senses = {"activations": activations, "training": training, "batch": batch, "learning_rate": learning_rate}
        new, after = step(part.settings, part.theta, gradient, jax.tree.unflatten(tree, state), params, **senses)
        return new, jax.tree.leaves(after)

    arguments = (params, state, params, loud, number, number, number)
    return {"init": _written(init, params), "update": _written(update, *arguments)}


def _written(call: Callable[..., Any], *arguments: Any, **named: Any) -> bytes:
    """Compiled for every platform, differentiable once."""
    return bytes(jax.export.export(jax.jit(call), platforms=PLATFORMS)(*arguments, **named).serialize(vjp_order=1))


def exported(function: Function, settings: Any, theta: Theta) -> bytes:
    """One function of arrays."""
    return _written(partial(function.call, settings, theta), **abstract(function.arguments))


def abstract(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays that `Function.arguments` names; words that are no numbers stand for any size."""
    scope = jax.export.SymbolicScope()

    def array(said: str) -> jax.ShapeDtypeStruct:
        *kind, dims = said.partition(" ")[::2] if said[:4] in ("bool", "int3") else ("float32", said)
        shape = jax.export.symbolic_shape(",".join(dims.split()), scope=scope)
        return jax.ShapeDtypeStruct(shape, jnp.dtype(kind[0]))

    return jax.tree.map(array, dict(arguments))
