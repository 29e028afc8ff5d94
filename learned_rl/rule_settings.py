"""Settings of rules as JSON values, and back, through a closed list.

A settings object becomes `{"id": ..., field: value, ...}`. The id is looked up in `CLOSED_LIST` and nowhere else: no
name in a file is ever imported or called. What may stand in a field is decided by the class, not by the file.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from flax import linen as nn

from learned_rl.action_network import ActionNetwork
from learned_rl.belief_network import BeliefNetwork
from learned_rl.blueprint import Blueprint
from learned_rl.hypernetwork import Hypernetwork, Linear
from learned_rl.learned_optimizers.borrowed import AdafactorMLP, ElementMLP, LearnableAdam
from learned_rl.learned_optimizers.open import Open
from learned_rl.learned_optimizers.recurrent import Optim4RL, Recurrent
from learned_rl.learned_optimizers.residual import Residual
from learned_rl.ledger_network import LedgerNetwork
from learned_rl.memories import GRU, Transformer
from learned_rl.networks import CNN, MLP, Network
from learned_rl.optimizers import Adam, ElementClippedAdam, Sgd
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.anneal import Anneal
from learned_rl.rules.auxiliary import Auxiliary
from learned_rl.rules.auxiliary_head import AuxiliaryHead
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.disco.meta_network import MetaNetwork
from learned_rl.rules.disco.rule import Disco
from learned_rl.rules.disco.values import CategoricalValues
from learned_rl.rules.drift import ClipDrift, DiscoveredDrift, Drift, LearnedDrift
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
from learned_rl.rules.q_learning import ClippedError, QLearning, RegularisedError, SquaredError
from learned_rl.rules.rl2 import RL2
from learned_rl.rules.schedule import Schedule
from learned_rl.rules.self_tuning import SelfTuning
from learned_rl.rules.varibad import Decoder, VariBAD
from learned_rl.tally import Tally
from learned_rl.types import Continuous, Discrete

# By role: where a field's default is of one role, any other of that role may stand in it. A new rule is a new line.
CLOSED_LIST: Mapping[str, Mapping[str, type]] = {
    "rule": {
        "actor_critic": ActorCritic,
        "anneal": Anneal,
        "auxiliary": Auxiliary,
        "auxiliary_head": AuxiliaryHead,
        "disco": Disco,
        "drift": Drift,
        "guard": Guard,
        "intrinsic": Intrinsic,
        "lifetime_value": LifetimeValue,
        "lpg": LPG,
        "maml": MAML,
        "metagenrl": MetaGenRL,
        "no_learning": NoLearning,
        "q_learning": QLearning,
        "optimised": Optimised,
        "rl2": RL2,
        "schedule": Schedule,
        "varibad": VariBAD,
        "self_tuning": SelfTuning,
    },
    "optimizer": {"adam": Adam, "element_clipped_adam": ElementClippedAdam, "sgd": Sgd},
    "learned_optimizer": {
        "adafactor_mlp": AdafactorMLP,
        "element_mlp": ElementMLP,
        "learnable_adam": LearnableAdam,
        "open": Open,
        "optim4rl": Optim4RL,
        "recurrent": Recurrent,
        "residual": Residual,
    },
    "drift": {"clip_drift": ClipDrift, "discovered_drift": DiscoveredDrift, "learned_drift": LearnedDrift},
    "step_loss": {
        "clipped_error": ClippedError,
        "regularised_error": RegularisedError,
        "squared_error": SquaredError,
    },
    "coefficients": {"coefficients": Coefficients},
    "meta_network": {"meta_network": MetaNetwork},
    "reward": {
        "count_bonus": CountBonus,
        "lifetime_reward": LifetimeReward,
        "place_reward": PlaceReward,
        "random_distillation": RandomDistillation,
        "state_action_reward": StateActionReward,
    },
    "values": {"categorical_values": CategoricalValues},
    "blueprint": {"blueprint": Blueprint},
    "network": {
        "network": Network,
        "action_network": ActionNetwork,
        "belief_network": BeliefNetwork,
        "ledger_network": LedgerNetwork,
    },
    "body": {"mlp": MLP, "cnn": CNN},
    "memory": {"gru": GRU, "tally": Tally, "transformer": Transformer},
    "decoder": {"decoder": Decoder},
    "readout": {"linear": Linear, "hypernetwork": Hypernetwork},
    "actions": {"discrete": Discrete, "continuous": Continuous},
}
# A function that stands in a field is written as a word.
FUNCTIONS: Mapping[str, Any] = {"tanh": nn.tanh, "relu": nn.relu, "elu": nn.elu, "gelu": nn.gelu, "silu": nn.silu}
MAX_TUPLE = 64  # a file must not be able to ask for a network of thousands of layers
# Fields that files of before do not have: absent, they hold their default.
ADDED: Mapping[type, frozenset[str]] = {LPG: frozenset({"temporal"}), LearnedDrift: frozenset({"temporal"})}
_ID: dict[type, tuple[str, str]] = {
    kind: (role, name) for role, kinds in CLOSED_LIST.items() for name, kind in kinds.items()
}


class RuleRefused(ValueError):
    """A rule file is damaged, from a newer version, or not what it claims to be. The message says which and where."""


def encode(settings: Any) -> dict[str, Any]:
    """A settings object as JSON values.

    Raises:
      ValueError: it is not of the closed list, or a field holds something else than settings, numbers and words.
    """
    if type(settings) not in _ID:
        raise ValueError(f"{type(settings).__name__} is not of the closed list of rule_settings.py; add it there")
    fields = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    return {"id": _ID[type(settings)][1]} | {k: _encode_value(v, k) for k, v in fields.items()}


def _encode_value(value: Any, field: str) -> Any:
    if dataclasses.is_dataclass(value):
        return encode(value)
    if isinstance(value, tuple):
        return [_encode_value(v, field) for v in value]
    if callable(value):
        for word, function in FUNCTIONS.items():
            if function is value:
                return word
        raise ValueError(f"{field}: {getattr(value, '__name__', value)!r} has no name; functions: {[*FUNCTIONS]}")
    if value is None:
        return None
    if type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value
    raise ValueError(
        f"{field} = {value!r} cannot be written: settings are finite numbers, words, tuples of these, or None"
    )


def decode(value: Any) -> Any:
    """The rule whose settings `encode` wrote.

    Raises:
      RuleRefused: an unknown id or field (with the nearest known), a missing field, or a value that does not fit.
    """
    return _decode(value, CLOSED_LIST["rule"], "rule")


def _decode(value: Any, allowed: Mapping[str, type], where: str) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        raise RuleRefused(f'{where}: expected {{"id": ..., ...}} with an id of {sorted(allowed)}')
    kind = allowed.get(value["id"])
    if kind is None:
        raise RuleRefused(f"{where}.id: {nearest(value['id'], allowed)}")
    defaults = kind()
    fields = {f.name for f in dataclasses.fields(kind)}
    fields -= ADDED.get(kind, frozenset()) - set(value)
    same_names(set(value) - {"id"}, fields, where)
    arguments = {}
    for name in fields:
        arguments[name] = _decode_field(value[name], getattr(defaults, name), (kind, name), f"{where}.{name}")
    try:
        return kind(**arguments)
    except ValueError as error:
        raise RuleRefused(f"{where}: {error}") from error


def _decode_field(value: Any, default: Any, field: tuple[type, str], where: str) -> Any:
    """A value for a field, of the kind of the field's default, or of those that its annotation names."""
    concrete, optional = _concrete(*field)
    if optional and value is None:
        return None
    if concrete or type(default) in _ID:
        return _decode(value, concrete or CLOSED_LIST[_ID[type(default)][0]], where)
    if isinstance(default, tuple):
        return _decode_tuple(value, _element(*field), where)
    if callable(default):
        if not isinstance(value, str) or value not in FUNCTIONS:
            raise RuleRefused(f"{where}: {nearest(str(value), FUNCTIONS)}")
        return FUNCTIONS[value]
    return _decode_scalar(value, default, where)


def _decode_tuple(value: Any, element: type, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) > MAX_TUPLE:
        raise RuleRefused(f"{where}: expected a list of at most {MAX_TUPLE}, found {value!r:.60}")
    return tuple(_decode_scalar(v, element(), where) for v in value)


def _decode_scalar(value: Any, default: Any, where: str) -> Any:
    if type(default) is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) is not type(default):
        raise RuleRefused(f"{where}: expected {type(default).__name__}, found {value!r:.60}")
    if isinstance(value, float) and not math.isfinite(value):
        raise RuleRefused(f"{where}: not a finite number")
    return value


def _concrete(kind: type, field: str) -> tuple[dict[str, type], bool]:
    """The classes that a field's annotation names (`GRU | Transformer | None`; none for a protocol); may it be None."""
    hint = typing.get_type_hints(kind)[field]
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return {_ID[m][1]: m for m in members if isinstance(m, type) and m in _ID}, type(None) in members


def _element(kind: type, field: str) -> type:
    """What a field that is annotated `tuple[int, ...]` is a tuple of; words if it does not say."""
    of, *_ = (*typing.get_args(typing.get_type_hints(kind)[field]), str)
    return of if of in (int, float, str, bool) else str


def same_names(found: set[str], expected: set[str], where: str) -> None:
    """Refuses unless both sets are equal, and says what is missing or what an unknown name may have meant."""
    for name in sorted(found - expected):
        raise RuleRefused(f"{where}: {nearest(name, expected)}")
    if missing := sorted(expected - found):
        raise RuleRefused(f"{where}: {', '.join(missing)} missing")


def nearest(name: str, known: Iterable[str]) -> str:
    """`unknown 'x'; nearest: ...`, for a message. Names from a file are cut short and escaped."""
    close = difflib.get_close_matches(name[:100], list(known), n=3, cutoff=0.5)
    return f"unknown {name[:60]!r}; nearest: {', '.join(close) or 'none'} (known: {', '.join(sorted(known))[:400]})"
