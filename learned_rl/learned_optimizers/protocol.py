"""What a learned optimizer is, and what it can see."""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from learned_rl.types import Params, Theta


class Site(NamedTuple):
    """Where in an agent a tensor stands.

    Attributes:
      network: which network it belongs to: the actor is all that the policy reads, the critic is the rest.
      depth: index of its layer over that of the network's last layer, in [0, 1].
      explores: whether it gets learned noise (the actor's do).
    """

    network: str
    depth: float
    explores: bool


class Senses(NamedTuple):
    """What an optimizer sees beside gradients and parameters.

    Attributes:
      activations: a tree like the parameters, of `[units]`: mean over the minibatch of the absolute output of the
        tensor's layer, after its nonlinearity; `[1]` for a tensor that is no layer's.
      training: progress of the lifetime, 0 to 1.
      batch: progress of the epochs over one rollout, 0 to 1.
      noise: a tree like the parameters, of standard normal numbers.
      sites: of the tensors, in the order of `jax.tree.leaves(params)`.
    """

    activations: Params
    training: Float[Array, ""]
    batch: Float[Array, ""]
    noise: Params
    sites: tuple[Site, ...]


@runtime_checkable
class LearnedOptimizer(Protocol):
    """What turns a gradient into new parameters by a network: settings in the fields, the network in theta.

    What it sees is data, without a meta-gradient: gradients, parameters and senses. A meta-gradient takes the paths of
    what it did, of its memory, and of theta. So do Andrychowicz et al. (2016, section 2.1) and Lan et al. (2023); the
    logarithm of a gradient has a derivative of 1 / g, which no chain of updates survives. (Evolution strategies need
    no such thing. An objective inside, learned by meta-gradients, needs a `Residual`, whose start is differentiable.)
    """

    @property
    def still(self) -> bool:
        """Whether it moves nothing before it is trained."""
        ...

    def init(self, key: PRNGKeyArray) -> Theta:
        """Untrained meta-parameters."""
        ...

    def start(self, params: Params) -> PyTree:
        """The state of an optimizer that has seen nothing."""
        ...

    def update(
        self,
        theta: Theta,
        gradient: Params,
        state: PyTree,
        params: Params,
        senses: Senses,
        learning_rate: Float[Array, ""] | float,
    ) -> tuple[Params, PyTree]:
        """New parameters and state."""
        ...


def normal_like(tree: PyTree, key: PRNGKeyArray) -> PyTree:
    """A tree of standard normal numbers, drawn at once."""
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, split_like(jax.random.normal(key, (size(leaves),)), leaves))


def split_like(x: Float[Array, "n ..."], leaves: list[Array]) -> list[Array]:
    """The rows of `x`, one for every number of all leaves, in their shapes `[*leaf.shape, ...]`."""
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1].tolist()
    return [p.reshape(*leaf.shape, *x.shape[1:]) for p, leaf in zip(jnp.split(x, ends), leaves, strict=True)]


def size(tree: PyTree) -> int:
    """How many numbers a tree holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
