"""Memories of an agent's network: what it carries from step to step, and what it reads out of it.

Settings with pure methods, for features `x` that a body made of observations; `inputs` is their width:

    init(key, inputs) -> params
    start(streams) -> memory                                       leaves [B, ...]: the beginning of an episode
    step(params, memory, x [B, F]) -> (memory, y [B, width])       one step
    unroll(params, memory, x [T, B, F], begins [T, B]) -> y        all steps at once; `begins` is true where the episode
                                                                   does, and the memory is cleared before that step
    unroll_next(params, memory, x, begins, other) -> y             at `other[t]`, had it come after `x[t]`

`unroll` says what `step` would have said; it exists because most of the work does not wait for the step before.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from learned_rl.layers import linear, mlp, orthogonal, start_linear, start_mlp
from learned_rl.types import Params

MAX_LAYERS = 32  # a rule file must not be able to ask for a program without end


@dataclass(frozen=True)
class GRU:
    """Gated recurrent unit (Cho et al. 2014), its reset gate after the recurrent product.

        r, z = sigmoid(W x + U h + b)      n = tanh(W x + b + r (U h + c))      h' = (1 - z) n + z h

    Recurrent matrices start orthogonal, gate by gate. The memory is h, `[B, width]`, and it is also what is read.

    Attributes:
      width: of h.
    """

    width: int = 64

    def __post_init__(self):
        if self.width < 1:
            raise ValueError(f"width={self.width} must be at least 1")

    def init(self, key: PRNGKeyArray, inputs: int) -> Params:
        key_input, *keys = jax.random.split(key, 4)
        square = (self.width, self.width)
        return {
            "input": start_linear(key_input, inputs, 3 * self.width),
            "recurrent": jnp.concatenate([orthogonal(1.0)(k, square) for k in keys], axis=1),
            "candidate": jnp.zeros(self.width),
        }

    def start(self, streams: int) -> Float[Array, "B width"]:
        return jnp.zeros((streams, self.width))

    def step(
        self, params: Params, memory: Float[Array, "*B width"], x: Float[Array, "*B F"]
    ) -> tuple[Float[Array, "*B width"], Float[Array, "*B width"]]:
        after = self._gated(params, memory, linear(params["input"], x))
        return after, after

    def unroll(self, params: Params, memory: Array, x: Float[Array, "T B F"], begins: Bool[Array, "T B"]) -> Array:
        def step(memory: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
            projected, begins = inputs
            after = self._gated(params, jnp.where(begins[:, None], 0.0, memory), projected)
            return after, after

        return jax.lax.scan(step, memory, (linear(params["input"], x), begins))[1]

    def unroll_next(self, params: Params, memory: Array, x: Array, begins: Array, other: Array) -> Array:
        return self.step(params, self.unroll(params, memory, x, begins), other)[1]

    def _gated(self, params: Params, h: Array, projected: Float[Array, "*B 3*width"]) -> Array:
        r_x, z_x, n_x = jnp.split(projected, 3, axis=-1)
        r_h, z_h, n_h = jnp.split(h @ params["recurrent"], 3, axis=-1)
        r, z = jax.nn.sigmoid(r_x + r_h), jax.nn.sigmoid(z_x + z_h)
        n = jnp.tanh(n_x + r * (n_h + params["candidate"]))
        return (1 - z) * n + z * h


class Cache(NamedTuple):
    """What a transformer remembers of the last `window` steps of an episode, the newest last.

    Attributes:
      keys, values: of every layer.
      steps: how many steps the episode has had. Entries older than that are void.
    """

    keys: Float[Array, "B window layers width"]
    values: Float[Array, "B window layers width"]
    steps: Int[Array, " B"]


@dataclass(frozen=True)
class Transformer:
    """Causal self-attention over the last `window` steps of the episode, this one included.

        x_0 = W x + position(t),   x <- x + attention(norm(x)),   x <- x + mlp(norm(x)),   y = norm(x)

    Pre-norm (Xiong et al. 2020), sinusoidal positions (Vaswani et al. 2017) that count from the beginning of the
    episode, so that they have no largest one. With L layers, y depends on the last L (window - 1) + 1 steps. Maps
    back into the residual stream start at zero: at birth y is what the step alone says.

    The memory is the keys and values of all layers (`Cache`): a step costs one query, not a whole sequence.

    Attributes:
      width: of the residual stream and of y; the MLP is twice as wide.
      heads: of attention; divides `width`.
      layers: how many.
      window: steps that are attended to.
    """

    width: int = 64
    heads: int = 4
    layers: int = 2
    window: int = 32

    def __post_init__(self):
        if min(self.width, self.heads, self.layers, self.window) < 1 or self.layers > MAX_LAYERS:
            raise ValueError(f"width, heads, layers, window must be at least 1 and layers at most {MAX_LAYERS}: {self}")
        if self.width % (2 * self.heads):
            raise ValueError(f"width={self.width} is no multiple of 2 heads, 2 x {self.heads}")

    def init(self, key: PRNGKeyArray, inputs: int) -> Params:
        key_embed, *keys = jax.random.split(key, 1 + self.layers)
        return {
            "embed": start_linear(key_embed, inputs, self.width),
            "layers": [self._layer(k) for k in keys],
            "scale": jnp.ones(self.width),
        }

    def _layer(self, key: PRNGKeyArray) -> Params:
        key_read, key_inner = jax.random.split(key)
        inner = start_mlp(key_inner, self.width, 2 * self.width, self.width)
        return {
            "read": start_linear(key_read, self.width, 3 * self.width),
            "write": {"w": jnp.zeros((self.width, self.width)), "b": jnp.zeros(self.width)},
            "inner": [inner[0], {"w": jnp.zeros_like(inner[1]["w"]), "b": inner[1]["b"]}],
            "scale": jnp.ones((2, self.width)),
        }

    def start(self, streams: int) -> Cache:
        zeros = jnp.zeros((streams, self.window, self.layers, self.width))
        return Cache(zeros, zeros, jnp.zeros(streams, jnp.int32))

    def step(self, params: Params, memory: Cache, x: Float[Array, "B F"]) -> tuple[Cache, Float[Array, "B width"]]:
        sequence, allowed = self._told(memory, x[None], jnp.zeros((1, len(x)), bool))
        keys, values, y = self._run(params, memory, sequence, allowed)
        return Cache(keys[:, -self.window :], values[:, -self.window :], memory.steps + 1), y[0]

    def unroll(self, params: Params, memory: Cache, x: Float[Array, "T B F"], begins: Bool[Array, "T B"]) -> Array:
        return self._run(params, memory, *self._told(memory, x, begins))[2]

    def unroll_next(self, params: Params, memory: Cache, x: Array, begins: Array, other: Array) -> Array:
        # One sequence: every step, then every step that could have come next, which nobody but itself sees.
        (_, position), allowed = self._told(memory, x, begins)
        steps = len(x)
        now = jnp.arange(steps)[:, None, None] + 1
        begun = _begun(memory.steps, begins)[..., None]
        times = jnp.arange(-self.window, steps)
        further = self._allowed(now, times, begun) & (times < now)  # the step that did come at that time is another
        itself = jnp.broadcast_to(jnp.eye(steps, dtype=bool)[:, None], (*position.shape, steps))
        rows = [jnp.concatenate(r, axis=-1) for r in ((allowed, jnp.zeros_like(itself)), (further, itself))]
        sequence = jnp.concatenate([x, other]), jnp.concatenate([position, now[..., 0] - begun[..., 0]])
        return self._run(params, memory, sequence, jnp.concatenate(rows))[2][steps:]

    def _told(self, memory: Cache, x: Array, begins: Array) -> tuple[tuple[Array, Array], Bool[Array, "T B S"]]:
        """`(x, positions)`, and which of the cached steps and these each of them sees."""
        now = jnp.arange(len(x))[:, None]
        begun = _begun(memory.steps, begins)
        return (x, now - begun), self._allowed(now[..., None], jnp.arange(-self.window, len(x)), begun[..., None])

    def _allowed(self, now: Array, times: Array, begun: Array) -> Bool[Array, "T B S"]:
        return (times <= now) & (times > now - self.window) & (times >= begun)

    def _run(
        self, params: Params, memory: Cache, sequence: tuple[Array, Array], allowed: Bool[Array, "T B S"]
    ) -> tuple[Array, Array, Float[Array, "T B width"]]:
        """Keys and values `[B, window + T, layers, width]` of what is cached and of a sequence; what is read there."""
        x, position = sequence
        x = linear(params["embed"], x) + _sinusoids(position, self.width)
        keys, values = [], []
        for i, layer in enumerate(params["layers"]):
            q, k, v = jnp.split(linear(layer["read"], _norm(layer["scale"][0], x)), 3, axis=-1)
            keys.append(jnp.concatenate([memory.keys[:, :, i], jnp.moveaxis(k, 0, 1)], axis=1))
            values.append(jnp.concatenate([memory.values[:, :, i], jnp.moveaxis(v, 0, 1)], axis=1))
            x = x + linear(layer["write"], self._attention(q, keys[-1], values[-1], allowed))
            x = x + mlp(layer["inner"], _norm(layer["scale"][1], x))
        return jnp.stack(keys, axis=2), jnp.stack(values, axis=2), _norm(params["scale"], x)

    def _attention(
        self, q: Float[Array, "T B width"], keys: Float[Array, "B S width"], values: Array, allowed: Array
    ) -> Float[Array, "T B width"]:
        q, keys, values = (x.reshape(*x.shape[:-1], self.heads, -1) for x in (q, keys, values))
        score = jnp.einsum("tbhd,bshd->tbhs", q, keys) * q.shape[-1] ** -0.5
        weight = jax.nn.softmax(jnp.where(allowed[:, :, None], score, -jnp.inf))  # a step always sees itself
        mixed = jnp.einsum("tbhs,bshd->tbhd", weight, values)
        return mixed.reshape(*mixed.shape[:2], -1)


def _begun(steps: Int[Array, " B"], begins: Bool[Array, "T B"]) -> Int[Array, "T B"]:
    """The time at which the episode of each step began; negative if before time 0."""
    return jax.lax.cummax(jnp.where(begins, jnp.arange(len(begins))[:, None], -steps), axis=0)


def _sinusoids(position: Int[Array, "T B"], width: int) -> Float[Array, "T B width"]:
    """Vaswani et al. 2017, section 3.5, wavelengths from 2 pi to 2 pi 10^4."""
    phase = position[..., None] * 10_000.0 ** (-jnp.arange(width // 2) / (width // 2))
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)


def _norm(scale: Float[Array, " width"], x: Float[Array, "... width"]) -> Float[Array, "... width"]:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return scale * centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-6)
