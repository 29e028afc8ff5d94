"""What an agent is, for rules whose theta holds an agent's parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from learned_rl.action_network import ActionNetwork
from learned_rl.belief_network import BeliefNetwork
from learned_rl.ledger_network import LedgerNetwork
from learned_rl.networks import Network
from learned_rl.types import Continuous, Discrete, Heads, Params, Policy, Rule, TaskFamily


@dataclass(frozen=True)
class Blueprint:
    """The agents of a rule: their network, and the shape of the tasks it is for.

    The parameters of most rules know nothing of agents. Where a network is itself learned (its weights, or what they
    start from) theta has its shape, so the rule has to know it before there is a task, and a rule file must imply it.
    A rule with a field `blueprint` brings its agents along: `Lifetime` builds them, whatever its own `network` says.

    Attributes:
      network: what agents are.
      obs_shape, actions: as of the task families that the rule is for.
    """

    network: Network | ActionNetwork | BeliefNetwork | LedgerNetwork = Network()
    obs_shape: tuple[int, ...] = (4,)
    actions: Discrete | Continuous = Discrete(2)

    @classmethod
    def of(cls, network: Network | ActionNetwork | BeliefNetwork | LedgerNetwork, tasks: TaskFamily) -> "Blueprint":
        """For tasks that are at hand."""
        return cls(network, tasks.obs_shape, tasks.actions)

    def policy(self, heads: Heads) -> Policy:
        return self.network.build(self.obs_shape, self.actions, heads)

    def check(self, tasks: TaskFamily) -> None:
        """Raises a ValueError, with both sides, if the tasks have another shape."""
        for name in ("obs_shape", "actions"):
            mine, theirs = getattr(self, name), getattr(tasks, name)
            if mine != theirs:
                raise ValueError(
                    f"rule.blueprint.{name} is {mine}, but {tasks.name} has {theirs}: theta holds a network, and it "
                    "fits tasks of one shape only"
                )


def blueprint_of(rule: Rule) -> Blueprint | None:
    """That of the outermost rule that has one (a rule, its `base`, the base of that, ...); None if none has."""
    inside: Any = rule
    while inside is not None and not hasattr(inside, "blueprint"):
        inside = getattr(inside, "base", None)
    return None if inside is None else inside.blueprint


def inherited(params: Params, policy: Policy, key: PRNGKeyArray) -> Params:
    """A newborn's parameters: `params`, and at random what the network has beyond them, such as a combinator's heads.

    Raises:
      ValueError: `params` has a leaf that the network has not, or one of another shape.
    """
    return overlaid(policy.init(key), params, "params")


def overlaid(fresh: Any, own: Any, where: str) -> Any:
    if isinstance(own, Mapping) and isinstance(fresh, Mapping):
        if strangers := sorted(set(own) - set(fresh)):
            raise ValueError(f"{where}: the agent's network has no {strangers}; it has {sorted(fresh)}")
        return {k: overlaid(fresh[k], own[k], f"{where}.{k}") if k in own else fresh[k] for k in fresh}
    shapes = [[(x.shape, x.dtype) for x in jax.tree.leaves(tree)] for tree in (own, fresh)]
    if jax.tree.structure(own) != jax.tree.structure(fresh) or shapes[0] != shapes[1]:
        raise ValueError(f"{where}: theta has {shapes[0]}, the agent's network {shapes[1]}")
    return own
