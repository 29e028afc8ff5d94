"""How an optimizer inside any rule comes to know the activations of the minibatch whose gradient it is given.

Rules call their optimizer with a gradient and nothing else, and only they know what it was computed from. So the
agent's parameters are given a companion of zeros, one per unit, that no output depends on, and whose "gradient" is, by
definition, how loud the units were in the pass that is differentiated. It costs no further pass, and no rule knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from learned_rl.learned_optimizers.sites import owner, paths
from learned_rl.types import Layers, Memory, Outputs, Params, Policy, Rollout


class Heard(NamedTuple):
    """Layers, summed over passes, and how many passes they are of."""

    layers: Layers
    passes: Float[Array, ""]


_HEARD = "_heard"  # no layer is called so


def unwired(params: Mapping[str, Any]) -> dict[str, Any]:
    """The agent's own parameters, or their gradient."""
    return {name: x for name, x in params.items() if name != _HEARD}


def heard(gradient: Mapping[str, Any]) -> Heard:
    """What the gradient of wired parameters says of the pass that it is of."""
    return gradient[_HEARD]


@dataclass(frozen=True)
class WiredPolicy:
    """A `Policy` whose parameters have one entry more, the companion; without that entry, it is `policy`.

    Of a policy that has no `unroll_layers`, nothing is heard.
    """

    policy: Policy

    def init(self, key: PRNGKeyArray) -> dict[str, Any]:
        return self.wire(self.policy.init(key))

    def wire(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters with their companion."""
        _, layers = jax.eval_shape(self.layers, params)
        silence = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), layers)
        return {**params, _HEARD: Heard(silence, jnp.zeros(()))}

    def layers(self, params: Params) -> tuple[Outputs, Layers]:
        """Outputs and layers at an observation of zeros: for shapes, and for what depends on what."""
        obs, zero = jnp.zeros((1, 1, *self.policy.obs_shape)), jnp.zeros((1, 1))  # type: ignore[attr-defined]
        moment = Rollout(obs, zero, zero, zero, zero > 0, obs, zero, self.policy.start_memory(1))
        return self._listen(params, moment)

    def start_memory(self, streams: int) -> Memory:
        return self.policy.start_memory(streams)

    def act(
        self, params: Params, memory: Memory, obs: Float[Array, "B *obs"], last: Bool[Array, " B"]
    ) -> tuple[Memory, Outputs]:
        return self.policy.act(unwired(params), memory, obs, last)

    def unroll(self, params: Params, rollout: Rollout) -> Outputs:
        if _HEARD not in params:
            return self.policy.unroll(params, rollout)
        outputs, layers = self._listen(unwired(params), rollout)
        nothing = _tell(params[_HEARD], jax.lax.stop_gradient(Heard(layers, jnp.ones(()))))
        return jax.tree.map(lambda x: x + nothing, outputs)

    def unroll_next(self, params: Params, rollout: Rollout) -> Outputs:
        return self.policy.unroll_next(unwired(params), rollout)

    def _listen(self, params: Params, rollout: Rollout) -> tuple[Outputs, Layers]:
        if hasattr(self.policy, "unroll_layers"):
            return self.policy.unroll_layers(params, rollout)  # type: ignore[attr-defined]
        return self.policy.unroll(params, rollout), {}


@jax.custom_vjp
def _tell(companion: Heard, heard: Heard) -> Float[Array, ""]:
    """0, with `heard` as its gradient with respect to `companion`, whatever it is used for."""
    return jnp.zeros(())


# (Its first argument is a constant and its second is stopped: where no rule differentiates, forward mode passes by.)
_tell.defvjp(lambda companion, heard: (jnp.zeros(()), heard), lambda heard, _: (heard, None))


def activations(params: Params, said: Heard) -> Params:
    """For every tensor `[..., units]` how loud its units were: mean |output| over what was passed.

    A tensor whose last axis is several times the units of its layer (the gates of a cell) is given them as many times.
    Ones `[1]`, which says nothing, where there is no layer, or one of another size.
    """

    def of(path: str, tensor: Array) -> Array:
        layer = owner(path, said.layers)
        if not layer or not tensor.ndim or tensor.shape[-1] % said.layers[layer].size:
            return jnp.ones(1)
        units = said.layers[layer] / jnp.maximum(said.passes, 1)
        return jnp.tile(units, tensor.shape[-1] // units.size)

    leaves, structure = jax.tree.flatten(params)
    return jax.tree.unflatten(structure, [of(*each) for each in zip(paths(params), leaves, strict=True)])
