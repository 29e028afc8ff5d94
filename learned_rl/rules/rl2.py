"""RL^2: the algorithm is what the agent's memory does, and theta is the agent."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from learned_rl.blueprint import Blueprint, inherited
from learned_rl.hypernetwork import Hypernetwork
from learned_rl.memories import GRU, Transformer
from learned_rl.networks import MLP, Network
from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, RuleState, Theta

RECURRENT = Network(MLP((64,)), memory=GRU(64), separate=False)
ATTENTIVE = Network(MLP((64,)), memory=Transformer(64), separate=False)
GENERATED = Network(MLP((64,)), memory=GRU(64), separate=False, readout=Hypernetwork())


@dataclass(frozen=True)
class RL2:
    """Learned reinforcement learning by a memory alone (Duan et al. 2016; Wang et al. 2016).

        birth:  params = theta          update:  nothing

    In `Trials`, an agent sees its actions and rewards, and its memory lasts as long as a task does. What learns there
    is the memory's state; the parameters are the algorithm. theta is a tree of the agent's network, and the network
    says which algorithms there are: with a `GRU` the published one, with a `Transformer` the relatives of SNAIL
    (Mishra et al. 2018), with a `Tally` those that count, with a `LedgerNetwork` those that count what followed each
    action and treat all actions alike, with a `Hypernetwork` the recurrent hypernetwork of Beck et al. 2023.

    The head `value` is for objectives that want a baseline of the history, such as `HistoryActorCritic`.

    Attributes:
      blueprint: what agents are.
    """

    blueprint: Blueprint = Blueprint(RECURRENT)

    @property
    def heads(self) -> Heads:
        return Heads(flat={"value": 1})

    def init(self, key: PRNGKeyArray) -> Theta:
        return self.blueprint.policy(self.heads).init(key)

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        return inherited(theta, policy, key), ()

    def update(
        self, theta: Theta, params: Params, state: RuleState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, RuleState, Metrics]:
        return params, state, {"entropy": jnp.mean(rollout.behaviour.entropy())}
