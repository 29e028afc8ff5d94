"""The two action distributions, as pytrees with leading batch axes.

distrax would serve, but it pulls in a nightly build of TensorFlow Probability; these are the parts an agent needs.
"""

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_rl.types import Actions, Discrete


class Categorical(NamedTuple):
    """Over `A` actions, from unnormalised `logits`."""

    logits: Float[Array, "... A"]

    def sample(self, key: PRNGKeyArray) -> Int[Array, "..."]:
        return self.perturbed(jax.random.gumbel(key, self.logits.shape, self.logits.dtype))

    def perturbed(self, noise: Float[Array, "... A"]) -> Int[Array, "..."]:
        """The sample that standard Gumbel `noise` makes of the logits (Gumbel-max)."""
        return jnp.argmax(self.logits + noise, axis=-1)

    def mode(self) -> Int[Array, "..."]:
        return jnp.argmax(self.logits, axis=-1)

    def log_prob(self, action: Int[Array, "..."]) -> Float[Array, "..."]:
        # A one-hot contraction, not a gather: its derivative is dense, which is faster and deterministic on GPUs.
        one_hot = jax.nn.one_hot(action, self.logits.shape[-1], dtype=self.logits.dtype)
        return jnp.sum(jax.nn.log_softmax(self.logits) * one_hot, axis=-1)

    def entropy(self) -> Float[Array, "..."]:
        log_probs = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)

    def kl(self, other: "Categorical") -> Float[Array, "..."]:
        """KL(self || other)."""
        log_probs = jax.nn.log_softmax(self.logits)
        return jnp.sum(jnp.exp(log_probs) * (log_probs - jax.nn.log_softmax(other.logits)), axis=-1)


class Normal(NamedTuple):
    """Independent normals over `D` real actions."""

    mean: Float[Array, "... D"]
    log_std: Float[Array, "... D"]

    def sample(self, key: PRNGKeyArray) -> Float[Array, "... D"]:
        return self.perturbed(jax.random.normal(key, self.mean.shape, self.mean.dtype))

    def perturbed(self, noise: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """The sample that standard normal `noise` makes."""
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> Float[Array, "... D"]:
        return self.mean

    def log_prob(self, action: Float[Array, "... D"]) -> Float[Array, "..."]:
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return -jnp.sum(0.5 * z**2 + self.log_std + 0.5 * jnp.log(2 * jnp.pi), axis=-1)

    def entropy(self) -> Float[Array, "..."]:
        return jnp.sum(self.log_std + 0.5 * jnp.log(2 * jnp.pi * jnp.e), axis=-1)

    def kl(self, other: "Normal") -> Float[Array, "..."]:
        """KL(self || other)."""
        variance_ratio = jnp.exp(2 * (self.log_std - other.log_std))
        distance = ((self.mean - other.mean) * jnp.exp(-other.log_std)) ** 2
        return 0.5 * jnp.sum(variance_ratio + distance - 1 - jnp.log(variance_ratio), axis=-1)


Distribution: TypeAlias = Categorical | Normal


def action_noise(actions: Actions, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "*shape width"]:
    """What `perturbed` takes, drawn before there are logits; with it, `perturbed` is `sample(key)`."""
    if isinstance(actions, Discrete):
        return jax.random.gumbel(key, (*shape, actions.count))
    return jax.random.normal(key, (*shape, actions.size))
