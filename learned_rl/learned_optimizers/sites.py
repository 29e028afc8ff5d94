"""Where the tensors of an agent stand, found by following what its outputs are computed from: for any network."""

from collections.abc import Mapping
from typing import Any

import jax
from jax.extend import core as jex
from jaxtyping import PyTree

from learned_rl.learned_optimizers.protocol import Site
from learned_rl.types import Outputs, Params

Reads = frozenset[str]


def sites(said: Any, params: Params) -> tuple[Site, ...]:
    """A `Site` for every tensor, in the order of `jax.tree.leaves(params)`.

    The actor is every tensor that the policy depends on, the critic the rest. A layer's index is how many layers it
    reads, which in a chain is its place in it. A tensor that is no layer's (the deviation of real actions) counts as a
    layer after the last, as in OPEN. A network of a single layer has depth 0.

    Args:
      said: `params -> (Outputs, Layers)`, see `learned_rl.types`; traced, not run.
      params: or their shapes.
    """
    outputs, layers = reads(said, params)
    policy = frozenset().union(*jax.tree.leaves(outputs.policy, is_leaf=_is_reads))
    names = paths(params)
    layer = {name: owner(name, layers) for name in names}
    index = {mine: len({layer[name] for name in read} - {mine, ""}) for mine, read in layers.items()}
    found: dict[str, Site] = {}
    for network, explores in (("actor", True), ("critic", False)):
        own = [name for name in names if (name in policy) == explores]
        after = 1 + max((index[layer[name]] for name in own if layer[name]), default=-1)
        place = {name: index.get(layer[name], after) for name in own}
        last = max([1, *place.values()])
        found |= {name: Site(network, place[name] / last, explores) for name in own}
    return tuple(found[name] for name in names)


def paths(params: Params) -> list[str]:
    """The name of every tensor, `body_0/kernel`."""
    pairs = jax.tree_util.tree_leaves_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in pairs]


def owner(path: str, layers: Mapping[str, Any]) -> str:
    """The layer that a tensor belongs to; empty if none."""
    above = [path[:i] for i, c in enumerate(path) if c == "/"]
    return next((name for name in reversed(above) if name in layers), "")


def reads(said: Any, params: Params) -> tuple[Outputs, dict[str, Reads]]:
    """The outputs and layers with every array replaced by the names of the tensors it depends on."""
    traced, shapes = jax.make_jaxpr(said, return_shape=True)(params)
    read = _through(traced.jaxpr, [frozenset({name}) for name in paths(params)])
    return jax.tree.unflatten(jax.tree.structure(shapes), read)


def _through(jaxpr: jex.Jaxpr, inputs: list[Reads]) -> list[Reads]:
    """What each output of a program depends on, given what its inputs do."""
    known: dict[Any, Reads] = dict(zip(jaxpr.invars, inputs, strict=True))

    def of(x: Any) -> Reads:
        return frozenset() if isinstance(x, jex.Literal) else known.get(x, frozenset())

    for equation in jaxpr.eqns:
        known |= dict(zip(equation.outvars, _step(equation, [of(x) for x in equation.invars]), strict=True))
    return [of(x) for x in jaxpr.outvars]


def _step(equation: Any, inputs: list[Reads]) -> list[Reads]:
    """Calls and loops are followed inside; of whatever else, every output depends on every input."""
    inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
    inner = getattr(inner, "jaxpr", inner)
    if inner is None or len(inner.invars) != len(inputs) or len(inner.outvars) != len(equation.outvars):
        return [frozenset().union(*inputs)] * len(equation.outvars)
    outputs = _through(inner, inputs)
    if equation.primitive.name != "scan":
        return outputs
    first, count = equation.params["num_consts"], equation.params["num_carry"]
    carried = [a | b for a, b in zip(inputs[first:], outputs[:count], strict=False)]
    if carried == inputs[first : first + count]:
        return outputs
    return _step(equation, [*inputs[:first], *carried, *inputs[first + count :]])


def _is_reads(x: PyTree) -> bool:
    return isinstance(x, frozenset)
