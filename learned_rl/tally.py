"""A memory that counts: what happened is added to the places where it happened, and recalled where the agent is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from learned_rl.layers import linear, mlp, start_linear, start_mlp
from learned_rl.memories import MAX_LAYERS
from learned_rl.types import Params

SHARPNESS = 4.0  # of addresses: at birth some are told apart already, and Adam's small steps suffice to learn the rest


class Tallied(NamedTuple):
    """What has been counted in an episode.

    Attributes:
      sums: of all events, by cell; the last column counts them.
      address: where the last step was, 0 before the first.
      said: what the last step said, 0 before the first.
    """

    sums: Float[Array, "B cells values+1"]
    address: Float[Array, "B cells"]
    said: Float[Array, "B width"]


class Events(NamedTuple):
    """What T steps write into one layer; the event of a step is what happened on the way to it.

    Attributes:
      address: where it is written, a_{t-1}; 0 where an episode begins.
      entry: w_t.
      sees: which events (last axis) a step (first axis) knows of: those of its episode, up to its own.
      since: whether no episode has begun since the first of these steps, so that what was tallied before still counts.
    """

    address: Float[Array, "T B cells"]
    entry: Float[Array, "T B values+1"]
    sees: Bool[Array, "T B T"]
    since: Bool[Array, "T B"]


@dataclass(frozen=True)
class Tally:
    """Sums of what happened, by the place where it happened: linear attention whose keys are yesterday's queries.

        h_t = W x_t + b                          what a step says
        a_t = softmax(4 (A h_t + b))             where it is, over `cells`
        w_t = (relu(MLP(h_{t-1}, h_t)), 1)       what happened on the way there: an event
        M_t = M_{t-1} + a_{t-1} w_t'             0 at the beginning of an episode, which has no event
        (s, n) = a_t M_t                         what happened after places like this one, and how often
        y_t = h_t + MLP(h_t, log(1 + s), s / (1 + n), log(1 + n))

    and with several layers, y of one is x of the next. Events of the second are then of what the first knew: what was
    good about the place that was reached is written where the way to it began, as by a step of value iteration.

    Counts are the sufficient statistics of bandits and of Markov decision processes; a gated memory has to learn to
    count and to forget nothing, and gradients reach an event through as many gates as it is old. Here they reach it
    directly: M is linear in events, as in the fast weights of Katharopoulos et al. 2020 (section 3.4) and Schlag et al.
    2021. What is of our own: entries are not negative, so that sums can be compared on a logarithmic scale; and a step
    is looked up under the address that it will be written under, so that at birth, before anything is learned, memory
    is of what followed here before.

    `unroll` takes O(T^2) for T steps, in a few matrix products.

    Attributes:
      width: of h and of y; hidden layers are twice as wide.
      cells: how many places are told apart.
      values: how many sums there are in each.
      layers: how many.

    Raises:
      ValueError: a number out of range.
    """

    width: int = 48
    cells: int = 16
    values: int = 48
    layers: int = 1

    def __post_init__(self):
        if min(self.width, self.cells, self.values, self.layers) < 1 or self.layers > MAX_LAYERS:
            raise ValueError(f"width, cells, values and layers must be at least 1, layers at most {MAX_LAYERS}: {self}")

    def init(self, key: PRNGKeyArray, inputs: int) -> Params:
        widths = [inputs] + [self.width] * (self.layers - 1)
        return [self._layer(*each) for each in zip(jax.random.split(key, self.layers), widths, strict=True)]

    def _layer(self, key: PRNGKeyArray, inputs: int) -> Params:
        *keys, key_recall = jax.random.split(key, 4)
        recalled = start_mlp(key_recall, self.width + 2 * self.values + 1, 2 * self.width, self.width)
        return start_tally(keys, inputs, self.width, self.cells, self.values) | {"recall": recalled}

    def start(self, streams: int) -> tuple[Tallied, ...]:
        shapes = (self.cells, self.values + 1), (self.cells,), (self.width,)
        return tuple(Tallied(*(jnp.zeros((streams, *shape)) for shape in shapes)) for _ in range(self.layers))

    def step(
        self, params: Params, memory: tuple[Tallied, ...], x: Float[Array, "B F"]
    ) -> tuple[tuple[Tallied, ...], Float[Array, "B width"]]:
        after = []
        for layer, kept in zip(params, memory, strict=True):
            h, address = say(layer, x)
            written = kept.address[..., None] * happened(layer, kept.said, h)[..., None, :]
            after.append(Tallied(kept.sums + written, address, h))
            x = _read(layer, h, jnp.einsum("bc,bcv->bv", address, after[-1].sums))
        return tuple(after), x

    def unroll(
        self, params: Params, memory: tuple[Tallied, ...], x: Float[Array, "T B F"], begins: Bool[Array, "T B"]
    ) -> Float[Array, "T B width"]:
        for layer, kept in zip(params, memory, strict=True):
            h, address = say(layer, x)
            x = _read(layer, h, recall(kept, collect_events(layer, kept, h, address, begins), address))
        return x

    def unroll_next(
        self, params: Params, memory: tuple[Tallied, ...], x: Array, begins: Array, other: Array
    ) -> Float[Array, "T B width"]:
        for layer, kept in zip(params, memory, strict=True):
            (h, address), (next_h, next_address) = say(layer, x), say(layer, other)
            events = collect_events(layer, kept, h, address, begins)
            # All that led here, and the step from here to there, which nobody but itself sees.
            near = jnp.sum(next_address * address, axis=-1, keepdims=True)
            recalled = recall(kept, events, next_address) + near * happened(layer, h, next_h)
            x, other = _read(layer, h, recall(kept, events, address)), _read(layer, next_h, recalled)
        return other


def start_tally(keys: Sequence[PRNGKeyArray], inputs: int, width: int, cells: int, values: int) -> Params:
    """Parameters of what is said, where, and what is written there."""
    key_said, key_address, key_event = keys
    return {
        "said": start_linear(key_said, inputs, width),
        "address": start_linear(key_address, width, cells),
        "event": start_mlp(key_event, 2 * width, 2 * width, values),
    }


def say(layer: Params, x: Array) -> tuple[Float[Array, "*B width"], Float[Array, "*B cells"]]:
    """h_t and a_t."""
    h = linear(layer["said"], x)
    return h, jax.nn.softmax(SHARPNESS * linear(layer["address"], h))


def happened(layer: Params, before: Array, h: Float[Array, "*B width"]) -> Float[Array, "*B values+1"]:
    """w_t, of what is said before and after."""
    entry = jax.nn.relu(mlp(layer["event"], jnp.concatenate([before, h], axis=-1)))
    return jnp.concatenate([entry, jnp.ones_like(entry[..., :1])], axis=-1)


def collect_events(layer: Params, kept: Tallied, h: Array, address: Array, begins: Bool[Array, "T B"]) -> Events:
    """All that steps write, `kept` being what there was before them."""

    def before(first: Array, x: Array) -> Array:
        return jnp.where(begins[..., None], 0.0, jnp.concatenate([first[None], x[:-1]]))

    now = jnp.arange(len(h))[:, None]
    begun = jax.lax.cummax(jnp.where(begins, now, -1), axis=0)
    sees = (now >= now.T)[:, None] & (now[:, 0] >= begun[..., None])
    return Events(before(kept.address, address), happened(layer, before(kept.said, h), h), sees, begun < 0)


def recall(kept: Tallied, events: Events, address: Float[Array, "T B cells"]) -> Float[Array, "T B values+1"]:
    """a_t M_t for every step, without any M_t."""
    near = jnp.einsum("tbc,sbc->tbs", address, events.address) * events.sees
    before = jnp.einsum("tbc,bcv->tbv", address, kept.sums) * events.since[..., None]
    return before + jnp.einsum("tbs,sbv->tbv", near, events.entry)


def _read(layer: Params, h: Float[Array, "*B width"], recalled: Float[Array, "*B values+1"]) -> Array:
    sums, count = recalled[..., :-1], recalled[..., -1:]
    seen = (h, jnp.log1p(sums), sums / (1 + count), jnp.log1p(count))
    return h + mlp(layer["recall"], jnp.concatenate(seen, axis=-1))
