"""Layers as pure functions of `{"w", "b"}`, `w` being `[inputs, outputs]`."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

Linear: TypeAlias = dict[str, Array]


def orthogonal(gain: float) -> Callable[..., Float[Array, "rows columns"]]:
    """Initialiser of matrices whose columns (rows, if there are more columns) are orthogonal, of norm `gain`.

    Saxe et al. 2014. The same numbers as `jax.nn.initializers.orthogonal`, by modified Gram-Schmidt instead of LAPACK:
    births happen inside loops over lives, where on two cores a call of LAPACK and parallel kernels can wait for each
    other in XLA's thread pool for ever (seen on jaxlib 0.10.2).
    """

    def init(key: PRNGKeyArray, shape: tuple[int, int], dtype: Any = jnp.float32) -> Float[Array, "rows columns"]:
        rows, columns = shape
        drawn = jax.random.normal(key, (max(shape), min(shape)) if rows != columns else shape, dtype)

        def orthonormal(j: Array, q: Array) -> Array:
            column = q[:, j] / jnp.linalg.norm(q[:, j])
            later = jnp.where(jnp.arange(q.shape[1]) > j, column @ q, 0)
            return (q - jnp.outer(column, later)).at[:, j].set(column)

        q = drawn
        for _ in range(2):  # once leaves errors of the size of the condition number, twice does not
            q = jax.lax.fori_loop(0, q.shape[1], orthonormal, q)
        return gain * (q.T if rows < columns else q)

    return init


def start_linear(key: PRNGKeyArray, inputs: int, outputs: int, std: float | None = None) -> Linear:
    """Truncated normal weights of standard deviation `std` (1 / sqrt(inputs) if none), no bias."""
    initialiser = jax.nn.initializers.truncated_normal(1.0, lower=-2.0, upper=2.0)
    scale = inputs**-0.5 if std is None else std
    return {"w": scale * initialiser(key, (inputs, outputs)), "b": jnp.zeros(outputs)}


def linear(layer: Linear, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
    """x w + b."""
    return x @ layer["w"] + layer["b"]


def start_mlp(key: PRNGKeyArray, *widths: int) -> list[Linear]:
    """One layer between each two widths."""
    keys = jax.random.split(key, len(widths) - 1)
    return [start_linear(*each) for each in zip(keys, widths[:-1], widths[1:], strict=True)]


def mlp(layers: list[Linear], x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
    """relu in between, not after the last."""
    return mlp_layers(layers, x)[-1]


def mlp_layers(layers: list[Linear], x: Float[Array, "... inputs"]) -> list[Array]:
    """What each layer of `mlp` says."""
    said = []
    for layer in layers[:-1]:
        said.append(x := jax.nn.relu(linear(layer, x)))
    return [*said, linear(layers[-1], x)]


def loudness(output: Float[Array, "... units"]) -> Float[Array, " units"]:
    """Mean of |output after the nonlinearity| over all there is but units: an entry of `types.Layers`."""
    return jnp.mean(jnp.abs(output), axis=range(output.ndim - 1))


def over_actions(layer: Linear, x: Float[Array, "... A inputs"]) -> Float[Array, "... A outputs"]:
    """relu(w [x_a, mean of x over actions] + b): the same for every action, so that their order and number are free."""
    mean = jnp.mean(x, axis=-2, keepdims=True)
    own, common = jnp.split(layer["w"], 2)
    return jax.nn.relu(x @ own + mean @ common + layer["b"])


class LSTMState(NamedTuple):
    hidden: Float[Array, "... hidden"]
    cell: Float[Array, "... hidden"]


def start_lstm(key: PRNGKeyArray, inputs: int, hidden: int) -> Linear:
    """One map of `[input, hidden]` to the gates."""
    return start_linear(key, inputs + hidden, 4 * hidden)


def lstm(layer: Linear, state: LSTMState, x: Float[Array, "... inputs"]) -> LSTMState:
    """One step of an LSTM with gates in the order input, candidate, forget, output, and 1 added to the forget gate.

    c = sigmoid(f + 1) c + sigmoid(i) tanh(g),   h = sigmoid(o) tanh(c)
    """
    from_input, from_hidden = jnp.split(layer["w"], [x.shape[-1]])
    return lstm_gates(x @ from_input + layer["b"] + state.hidden @ from_hidden, state.cell)


def lstm_backwards(
    layer: Linear, x: Float[Array, "T B inputs"], last: Bool[Array, "T B"]
) -> Float[Array, "T B hidden"]:
    """Outputs of an LSTM that reads from the end, and begins anew where an episode ended: what follows is another."""
    from_input, from_hidden = jnp.split(layer["w"], [x.shape[-1]])
    zeros = jnp.zeros((*x.shape[1:-1], from_hidden.shape[0]), x.dtype)

    def step(state: LSTMState, inputs: Any) -> tuple[LSTMState, Array]:
        x_t, last_t = inputs
        state = jax.tree.map(lambda s: jnp.where(last_t[..., None], 0.0, s), state)
        state = lstm_gates(x_t + state.hidden @ from_hidden, state.cell)
        return state, state.hidden

    # What does not wait for the step after is done for all steps at once.
    projected = x @ from_input + layer["b"]
    return jax.lax.scan(step, LSTMState(zeros, zeros), (projected, last), reverse=True)[1]


def lstm_gates(gates: Float[Array, "... 4*hidden"], cell: Float[Array, "... hidden"]) -> LSTMState:
    """The state after a step, given what the linear map made of input and hidden state."""
    i, g, f, o = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(f + 1) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    return LSTMState(jax.nn.sigmoid(o) * jnp.tanh(cell), cell)
