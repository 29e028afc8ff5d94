"""Where an agent's policy is read from its features: a linear map, or a network that other features generate."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.layers import orthogonal

NEARLY_UNIFORM = 0.01  # gain of the last layer: an agent is born close to uniform, whatever comes before it


@dataclass(frozen=True)
class Linear:
    """The policy is a linear map of the features."""

    def __call__(self, features: Float[Array, "... F"], obs: Array, outputs: int) -> Float[Array, "... outputs"]:
        return nn.Dense(outputs, kernel_init=orthogonal(NEARLY_UNIFORM), name="policy")(features)


@dataclass(frozen=True)
class Hypernetwork:
    """The policy is a network of the observation alone, and its weights are a linear map of the features.

        w = W features + b,   policy = MLP_w(obs)

    With a memory before it, this is the recurrent hypernetwork of Beck et al. 2023: the memory infers the task, and
    what it knows is turned into a policy, instead of being one more input of it. By Bias-HyperInit (Beck et al. 2022)
    W starts at zero and b as an ordinary network would, so that all tasks begin with one and the same policy; with
    larger W the generated networks start at scales that no initialisation was made for.

    `obs` is what the agent sees: in trials also the last action and reward, which the paper gives to the memory only.
    The generated weights take `... x |w|` numbers of memory, once per step and stream.

    Attributes:
      hidden: widths of the generated network's hidden layers.
      activation: between its layers.
      spread: standard deviation of W at birth; 0 is Bias-HyperInit.
    """

    hidden: tuple[int, ...] = (32,)
    activation: Callable = nn.tanh
    spread: float = 0.0

    def __post_init__(self):
        if self.spread < 0:
            raise ValueError(f"spread={self.spread} is a standard deviation, at least 0")

    def __call__(self, features: Float[Array, "... F"], obs: Array, outputs: int) -> Float[Array, "... outputs"]:
        x = obs.reshape((*features.shape[:-1], -1))
        widths = (x.shape[-1], *self.hidden, outputs)
        for i, (inputs, width) in enumerate(itertools.pairwise(widths)):
            final = i == len(self.hidden)
            start = _ordinary(inputs, width, NEARLY_UNIFORM if final else 2**0.5)
            kernel = nn.initializers.normal(self.spread)
            generate = nn.Dense((inputs + 1) * width, kernel_init=kernel, bias_init=start, name=f"policy_{i}")
            weight, bias = jnp.split(generate(features), [inputs * width], axis=-1)
            x = jnp.einsum("...i,...io->...o", x, weight.reshape(*weight.shape[:-1], inputs, width)) + bias
            x = x if final else self.activation(x)
        return x


def _ordinary(inputs: int, outputs: int, gain: float) -> Callable[..., Float[Array, " n"]]:
    """Initialises `[weight, bias]` of a layer as one vector."""

    def init(key: PRNGKeyArray, shape: Any, dtype: Any = jnp.float32) -> Float[Array, " n"]:
        return jnp.concatenate([orthogonal(gain)(key, (inputs, outputs), dtype).ravel(), jnp.zeros(outputs, dtype)])

    return init


Readout: TypeAlias = Linear | Hypernetwork
