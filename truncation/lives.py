"""The only place that maps over lives: micro-batches, device shards, ordered sums.

Everything else in this package is written for one life (or one antithetic pair of lives). What a life draws depends on
its identity alone (`life_key`), and what is added up over lives is added in the order of the lives, so that the result
depends neither on the number of devices nor on how the work was interleaved.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from truncation.problem import Metrics, Segment

AXIS = "lives"  # the mesh axis that lives are sharded over


def life_key(key: PRNGKeyArray, life: Int[Array, ""]) -> PRNGKeyArray:
    """Randomness of a life in one estimate; its segment `s` uses `fold_in(life_key, s)`.

    Antithetic partners, probes and replays share an index, hence every random number.
    """
    return jax.random.fold_in(key, life)


def over_lives(
    function: Callable[..., tuple[PyTree, PyTree]], shared: tuple[PyTree, ...], *lives: PyTree, microbatch: int = 0
) -> tuple[Any, Any]:
    """Maps `function`, written for one life, over the leading axis of every leaf of `lives`.

    Args:
      function: `(*shared, *life) -> (kept, added)`.
      shared: arguments that are the same for all lives: theta, keys. (Sharded code cannot close over traced values.)
      *lives: arguments with a leading axis of lives.
      microbatch: how many lives run at once; 0 means all of them. Memory is that of one micro-batch. Across device
        counts the result is bitwise the same only for a fixed micro-batch: compilers order the arithmetic inside a
        batch by its size.

    Returns:
      `kept` of every life, stacked (and sharded over the mesh axis "lives" where there is one), and the sum of `added`
      over lives, replicated. Sums are taken inside each micro-batch, gathered in the order of the lives, and then added
      in that order: never an all-reduce, whose order depends on the layout.
    """
    lives, devices = _placed(lives)
    check_microbatch(_size(lives), microbatch, max(devices, 1))

    def shard(shared: tuple[PyTree, ...], *lives: PyTree) -> tuple[PyTree, PyTree]:
        kept, parts = _in_microbatches(partial(function, *shared), lives, microbatch)
        if devices:
            parts = jax.lax.all_gather(parts, AXIS, tiled=True)
        return kept, jax.tree.map(_ordered_sum, parts)

    if not devices:
        return shard(shared, *lives)
    out = (PartitionSpec(AXIS), PartitionSpec())
    return _sharded(shard, (PartitionSpec(), *[PartitionSpec(AXIS)] * len(lives)), out)(shared, *lives)


def on_all_lives(function: Callable[..., PyTree], *lives: PyTree) -> Any:
    """Gathers `lives` in their order and calls `function` once on the whole; the result is replicated."""
    lives, devices = _placed(lives)
    if not devices:
        return function(*lives)

    def gathered(*lives: PyTree) -> PyTree:
        # Inside the manual region: outside it, the partitioner could split the reductions of `function` over devices.
        return function(*jax.lax.all_gather(lives, AXIS, tiled=True))

    return _sharded(gathered, PartitionSpec(AXIS), PartitionSpec())(*lives)


def on_one(function: Callable[..., PyTree], *shared: PyTree) -> Any:
    """Calls `function` of replicated values as every device would alone: nothing around it rewrites its arithmetic."""

    def alone(*shared: PyTree) -> PyTree:
        return jax.lax.optimization_barrier(function(*jax.lax.optimization_barrier(shared)))

    if AXIS not in jax.sharding.get_abstract_mesh().axis_names:
        return alone(*shared)
    return _sharded(alone, PartitionSpec(), PartitionSpec())(*shared)


def check_microbatch(size: int, microbatch: int, devices: int = 1, unit: int = 1) -> None:
    """Raises a ValueError that names the nearest legal sizes if `size` lives cannot be cut into such micro-batches.

    Args:
      size: how many there are.
      microbatch: how many run at once, 0 for all of a device's share.
      devices: how many devices share them.
      unit: how many cannot be torn apart (2 for antithetic pairs).
    """
    if size % devices:
        below, above = size // devices * devices, -(-size // devices) * devices
        nearest = " or ".join(str(legal) for legal in (below, above) if legal)
        raise ValueError(f"{size} lives or pairs cannot be shared by {devices} devices; nearest that can: {nearest}")
    share = size // devices
    legal = [batch for batch in range(unit, share + 1, unit) if share % batch == 0]
    if microbatch and microbatch not in legal:
        nearest = sorted(sorted(legal, key=lambda batch: abs(batch - microbatch))[:2])
        raise ValueError(
            f"microbatch={microbatch} does not cut {share} lives or pairs evenly; "
            f"nearest that do: {', '.join(map(str, nearest))} (0 = all at once)"
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tally:
    """What finite lives reported, added up over lives."""

    finite: Float[Array, ""]
    loss: Float[Array, ""]
    metrics: Metrics

    @classmethod
    def of(cls, reports: Segment, finite: Bool[Array, ""]) -> "Tally":
        """The entry of one life: means over the segments (and particles) of its reports, zero if it is masked."""
        means = jax.tree.map(lambda x: jnp.where(finite, jnp.mean(x), 0), reports)
        count = finite.astype(jnp.promote_types(reports.loss.dtype, jnp.float32))  # bfloat16 cannot count past 256
        return cls(count, *means)

    def mean(self, lives: int) -> tuple[Float[Array, ""], Metrics]:
        """Mean loss and metrics over finite lives, and which fraction was masked; nan if no life is finite."""
        loss, metrics = jax.tree.map(lambda total: total / self.finite, (self.loss, self.metrics))
        dead = (lives - self.finite) / lives
        return loss, metrics | {"dead": jnp.where(self.finite == 0, 1, dead)}  # n * (1 / n) need not be 1


def select(condition: Bool[Array, ""], chosen: PyTree, other: PyTree) -> Any:
    """`chosen` where `condition`, else `other`, for whole pytrees (also of typed keys)."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, other)


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every number in `tree` is finite."""
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]).all()


def strong(tree: PyTree) -> Any:
    """Drops weak types: a carried state must come out with exactly the types that it went in with."""

    def strengthen(leaf: Array) -> Array:
        leaf = jnp.asarray(leaf)
        return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.extended) else leaf.astype(leaf.dtype)

    return jax.tree.map(strengthen, tree)


def _size(lives: PyTree) -> int:
    return jax.tree.leaves(lives)[0].shape[0]


def _placed(lives: tuple[PyTree, ...]) -> tuple[tuple[PyTree, ...], int]:
    """The lives where the ambient mesh wants them, and over how many devices they are sharded (0: there is no mesh)."""
    mesh = jax.sharding.get_abstract_mesh()
    if AXIS not in mesh.axis_names:
        return lives, 0
    if AxisType.Explicit in mesh.axis_types:  # explicit axes reject arguments that are laid out otherwise
        lives = jax.sharding.reshard(lives, PartitionSpec(AXIS))
    return lives, mesh.shape[AXIS]


def _sharded(function: Callable, into: PyTree, out: PyTree) -> Callable:
    # check_vma would make gradients of the replicated theta a psum over devices.
    return jax.shard_map(function, in_specs=into, out_specs=out, axis_names={AXIS}, check_vma=False)


def _in_microbatches(function: Callable, lives: tuple[PyTree, ...], microbatch: int) -> tuple[PyTree, PyTree]:
    """Every life's `kept`, and the sums of `added` over each micro-batch, stacked."""

    def batch(lives: tuple[PyTree, ...]) -> tuple[PyTree, PyTree]:
        kept, added = jax.vmap(function)(*lives)
        return kept, jax.tree.map(lambda x: jnp.sum(x, axis=0), added)

    if not microbatch:
        kept, part = batch(lives)
        return kept, jax.tree.map(lambda x: x[None], part)
    size = _size(lives)
    cut = jax.tree.map(lambda x: x.reshape(size // microbatch, microbatch, *x.shape[1:]), lives)
    kept, parts = _loop(jax.jit(batch), cut)
    return jax.tree.map(lambda x: x.reshape(size, *x.shape[2:]), kept), parts


def _loop(function: Callable, blocks: PyTree) -> Any:
    """`lax.map` that compiles to the same turn, however many turns this device has.

    A loop of one turn would be inlined and fused with its surroundings, and then round differently from the same turn
    on a device that has more of them. So where lives are sharded, there is room for two turns at least, and the
    compiler is not told that only one is taken.
    """
    if AXIS not in jax.sharding.get_abstract_mesh().axis_names:
        return jax.lax.map(function, blocks)

    def at(tree: PyTree, number: Int[Array, ""]) -> Any:
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, number, keepdims=False), tree)

    def turn(number: Int[Array, ""], results: PyTree) -> PyTree:
        put = partial(jax.lax.dynamic_update_index_in_dim, index=number, axis=0)
        return jax.tree.map(put, results, function(at(blocks, number)))

    count = _size(blocks)
    room = max(count, 2)
    blocks = jax.tree.map(lambda x: jnp.concatenate([x] * (room // count)), blocks)
    shapes = jax.eval_shape(function, at(blocks, jnp.int32(0)))
    results = jax.tree.map(lambda x: jax.lax.empty((room, *x.shape), x.dtype), shapes)
    turns = jnp.where(jax.lax.axis_index(AXIS) < 0, 0, count)
    return jax.tree.map(lambda x: x[:count], jax.lax.fori_loop(0, turns, turn, results))


def _ordered_sum(parts: Float[Array, "parts ..."]) -> Float[Array, "..."]:
    total, _ = jax.lax.scan(lambda total, part: (total + part, None), jnp.zeros_like(parts[0]), parts)
    return total
