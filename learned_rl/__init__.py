"""Everything an agent does: tasks, networks, returns, optimizers, lifetimes, and the rules they follow."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learned_rl.action_network import ActionNetwork
    from learned_rl.belief_network import BeliefNetwork
    from learned_rl.blueprint import Blueprint
    from learned_rl.hypernetwork import Hypernetwork
    from learned_rl.learned_optimizers.open import Open
    from learned_rl.learned_optimizers.recurrent import Optim4RL
    from learned_rl.learned_optimizers.residual import Residual
    from learned_rl.ledger_network import LedgerNetwork
    from learned_rl.lifetime import Lifetime
    from learned_rl.memories import GRU, Transformer
    from learned_rl.networks import Network
    from learned_rl.rule_file import LoadedRule, RuleRefused, load_rule, save_rule, verify_rule
    from learned_rl.rules.actor_critic import ActorCritic
    from learned_rl.rules.anneal import Anneal
    from learned_rl.rules.auxiliary import Auxiliary
    from learned_rl.rules.auxiliary_head import AuxiliaryHead
    from learned_rl.rules.disco.rule import Disco
    from learned_rl.rules.drift import Drift
    from learned_rl.rules.guard import Guard
    from learned_rl.rules.intrinsic.bonus import CountBonus, RandomDistillation
    from learned_rl.rules.intrinsic.learned import LifetimeReward, StateActionReward
    from learned_rl.rules.intrinsic.places import PlaceReward
    from learned_rl.rules.intrinsic.rule import Intrinsic
    from learned_rl.rules.intrinsic.value import LifetimeValue
    from learned_rl.rules.lpg import LPG
    from learned_rl.rules.maml import MAML
    from learned_rl.rules.metagenrl import MetaGenRL
    from learned_rl.rules.none import NoLearning
    from learned_rl.rules.optimised import Optimised
    from learned_rl.rules.q_learning import QLearning
    from learned_rl.rules.rl2 import RL2
    from learned_rl.rules.schedule import Schedule
    from learned_rl.rules.self_tuning import SelfTuning
    from learned_rl.rules.varibad import VariBAD
    from learned_rl.tally import Tally
    from learned_rl.trials import Trials
    from learned_rl.types import Rollout, Rule

_HOME = {
    "ActionNetwork": "learned_rl.action_network",
    "ActorCritic": "learned_rl.rules.actor_critic",
    "Anneal": "learned_rl.rules.anneal",
    "Auxiliary": "learned_rl.rules.auxiliary",
    "AuxiliaryHead": "learned_rl.rules.auxiliary_head",
    "BeliefNetwork": "learned_rl.belief_network",
    "Blueprint": "learned_rl.blueprint",
    "CountBonus": "learned_rl.rules.intrinsic.bonus",
    "Disco": "learned_rl.rules.disco.rule",
    "Drift": "learned_rl.rules.drift",
    "GRU": "learned_rl.memories",
    "Guard": "learned_rl.rules.guard",
    "Hypernetwork": "learned_rl.hypernetwork",
    "Intrinsic": "learned_rl.rules.intrinsic.rule",
    "LPG": "learned_rl.rules.lpg",
    "LedgerNetwork": "learned_rl.ledger_network",
    "Lifetime": "learned_rl.lifetime",
    "LifetimeReward": "learned_rl.rules.intrinsic.learned",
    "LifetimeValue": "learned_rl.rules.intrinsic.value",
    "LoadedRule": "learned_rl.rule_file",
    "MAML": "learned_rl.rules.maml",
    "MetaGenRL": "learned_rl.rules.metagenrl",
    "Network": "learned_rl.networks",
    "NoLearning": "learned_rl.rules.none",
    "PlaceReward": "learned_rl.rules.intrinsic.places",
    "QLearning": "learned_rl.rules.q_learning",
    "RL2": "learned_rl.rules.rl2",
    "RandomDistillation": "learned_rl.rules.intrinsic.bonus",
    "Open": "learned_rl.learned_optimizers.open",
    "Optim4RL": "learned_rl.learned_optimizers.recurrent",
    "Optimised": "learned_rl.rules.optimised",
    "Residual": "learned_rl.learned_optimizers.residual",
    "Rollout": "learned_rl.types",
    "Rule": "learned_rl.types",
    "RuleRefused": "learned_rl.rule_file",
    "Schedule": "learned_rl.rules.schedule",
    "SelfTuning": "learned_rl.rules.self_tuning",
    "StateActionReward": "learned_rl.rules.intrinsic.learned",
    "Tally": "learned_rl.tally",
    "Transformer": "learned_rl.memories",
    "Trials": "learned_rl.trials",
    "VariBAD": "learned_rl.rules.varibad",
    "load_rule": "learned_rl.rule_file",
    "save_rule": "learned_rl.rule_file",
    "verify_rule": "learned_rl.rule_file",
}


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used: importing jax takes seconds, and a help text does not need it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


__all__ = [
    "GRU",
    "LPG",
    "MAML",
    "RL2",
    "ActionNetwork",
    "ActorCritic",
    "Anneal",
    "Auxiliary",
    "AuxiliaryHead",
    "BeliefNetwork",
    "Blueprint",
    "CountBonus",
    "Disco",
    "Drift",
    "Guard",
    "Hypernetwork",
    "Intrinsic",
    "LedgerNetwork",
    "Lifetime",
    "LifetimeReward",
    "LifetimeValue",
    "LoadedRule",
    "MetaGenRL",
    "Network",
    "NoLearning",
    "Open",
    "Optim4RL",
    "Optimised",
    "PlaceReward",
    "QLearning",
    "RandomDistillation",
    "Residual",
    "Rollout",
    "Rule",
    "RuleRefused",
    "Schedule",
    "SelfTuning",
    "StateActionReward",
    "Tally",
    "Transformer",
    "Trials",
    "VariBAD",
    "load_rule",
    "save_rule",
    "verify_rule",
]
