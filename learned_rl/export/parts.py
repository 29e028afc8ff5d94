"""What a rule is to other code: parts, each with its own theta, and of each a few pure functions of plain arrays."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax

from learned_rl.export import objectives, optimizers, others
from learned_rl.export.transform import transform
from learned_rl.learned_optimizers.protocol import LearnedOptimizer, Site
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.disco.rule import Disco
from learned_rl.rules.drift import Drift
from learned_rl.rules.intrinsic.learned import LifetimeReward, StateActionReward
from learned_rl.rules.intrinsic.places import PlaceReward
from learned_rl.rules.intrinsic.rule import Intrinsic
from learned_rl.rules.lpg import LPG
from learned_rl.rules.metagenrl import MetaGenRL
from learned_rl.rules.optimised import Optimised
from learned_rl.rules.q_learning import QLearning
from learned_rl.rules.rl2 import RL2
from learned_rl.rules.schedule import Schedule, Statistics
from learned_rl.types import Rule, Theta


class NotExportable(ValueError):
    """The rule has no such form; the message says which it has."""


class Function(NamedTuple):
    """A pure function of a rule.

    Attributes:
      call: `(rule, theta, **arrays)`.
      arguments: what its arrays are, by name: `"T B"` for float32, `"int32 T B"`; trees of them for trees. A capital
        stands for any size.
      example: a line that calls it.
    """

    call: Callable[..., Any]
    arguments: Mapping[str, Any]
    example: str


class Part(NamedTuple):
    """Something in a rule that is of use outside of it.

    Attributes:
      kind: `objective`, `optimizer`, `schedule`, `reward`, `agent`: at most one of each in a rule.
      settings: what its functions are given first,
      theta: and then.
      functions: by name.
    """

    kind: str
    settings: Any
    theta: Theta
    functions: Mapping[str, Function]


STEPS = {"reward": "T B", "discount": "T B", "last": "bool T B"}
_VALUES = Function(
    objectives.value_targets,
    {**STEPS, "value": "T B", "next_value": "T B"},
    "targets(reward=r, discount=d, last=last, value=v, next_value=v_next)  # of a rollout: advantage and target",
)
_AVERAGE = {"first": "", "second": "", "remaining": ""}
_WHEN = {"progress": "", "lifetime": ""}
_SPOKEN = {"log_prob": "T B", "entropy": "T B", "value": "T B"}


def _actor_critic(rule: ActorCritic) -> dict[str, Function]:
    arguments = {**_SPOKEN, "advantage": "T B", "target": "T B"}
    example = "loss(log_prob=pi.log_prob(a), entropy=pi.entropy(), value=v, **data)  # data: what targets gave"
    return {"targets": _VALUES, "loss": Function(objectives.actor_critic_loss, arguments, example)}


def _drift(rule: Drift) -> dict[str, Function]:
    data = ("behaviour_log_prob", "behaviour_value", "advantage", "target")
    arguments = {**_SPOKEN, **dict.fromkeys(data, "T B"), **_WHEN}
    example = "loss(log_prob=pi.log_prob(a), entropy=pi.entropy(), value=v, **minibatch)  # minibatch: the data"
    return {"targets": _VALUES, "loss": Function(objectives.drift_loss, arguments, example)}


def _lpg(rule: LPG) -> dict[str, Function]:
    y = f"T B {rule.predictions}"
    arguments = {"log_prob": "T B", "prediction": y, "next_prediction": y, **STEPS, **_WHEN}
    example = "loss(log_prob=pi.log_prob(a), prediction=y, next_prediction=y_next, reward=r, discount=d, last=last)"
    return {"loss": Function(objectives.lpg_loss, arguments, example)}


def _disco(rule: Disco) -> dict[str, Function]:
    m, bins, hidden = rule.network.predictions, rule.values.bins, rule.network.lifetime_hidden
    said = {"policy": "T B A", "y": f"T B {m}", "z": f"T B A {m}", "q": f"T B A {bins}", "aux_pi": "T B A A"}
    state = {"advantage": _AVERAGE, "q_error": _AVERAGE, "lifetime": {"hidden": f"{hidden}", "cell": f"{hidden}"}}
    agents = dict.fromkeys(("now", "then", "target_now", "target_then"), said)
    arguments = {"state": state, **agents, "action": "int32 T B", **STEPS, "behaviour": "T B A"}
    example = "value, state = loss(state=state, now=now, then=then, target_now=..., target_then=..., **rollout)"
    return {
        "start": Function(objectives.disco_start, {}, "state = start()"),
        "loss": Function(objectives.disco_loss, arguments, example),
    }


def _metagenrl(rule: MetaGenRL) -> dict[str, Function]:
    state = {"rewards": _AVERAGE, "values": _AVERAGE}
    arguments = {"state": state, "log_prob": "T B", "value": "T B", "next_value": "T B", **STEPS}
    example = "value, state = loss(state=state, log_prob=pi.log_prob(a), value=v, next_value=v_next, **rollout)"
    start = Function(objectives.metagenrl_start, {}, "state = start()")
    return {"start": start, "loss": Function(objectives.metagenrl_loss, arguments, example)}


def _q_learning(rule: QLearning) -> dict[str, Function]:
    said = dict.fromkeys(("logits", "q", "target_next_q"), "T B A")
    arguments = {**said, "action": "int32 T B", "reward": "T B", "discount": "T B", "progress": ""}
    example = "loss(logits=pi.logits, q=q, target_next_q=q_next, action=a, reward=r, discount=d)"
    return {"loss": Function(objectives.q_loss, arguments, example)}


# A new objective is a new line.
OBJECTIVES: Mapping[type, Callable[[Any], dict[str, Function]]] = {
    ActorCritic: _actor_critic,
    Disco: _disco,
    Drift: _drift,
    LPG: _lpg,
    MetaGenRL: _metagenrl,
    QLearning: _q_learning,
}


def _optimizer(settings: LearnedOptimizer, theta: Theta) -> Part:
    update = "params, state = update(gradient, state, params)  # senses as keywords: activations, training, batch, key"
    known = {
        "init": Function(optimizers.start, {}, "state = init(params)"),
        "update": Function(optimizers.step, {}, update),
    }
    return Part("optimizer", settings, theta, known)


def _schedule(rule: Schedule, theta: Theta) -> Part:
    arguments: dict[str, Any] = dict.fromkeys(("progress", *Statistics._fields), "")
    known = Function(others.coefficients, arguments, "coefficients(progress=0.5, entropy=h)  # learning rate, ...")
    return Part("schedule", rule, {"schedule": theta["schedule"]}, {"coefficients": known})


def _places(rule: PlaceReward, theta: Theta) -> Part:
    born = jax.eval_shape(lambda: others.reward_start(rule, theta))
    memory = {name: " ".join(["int32"] * (x.dtype != "float32") + [*map(str, x.shape)]) for name, x in born.items()}
    # As compiled code for as many streams as it has room for; as a file also for fewer.
    streams = str(rule.streams)
    steps = {name: what.replace("B", streams) for name, what in STEPS.items()}
    places = dict.fromkeys(("place", "next_place"), f"int32 T {streams}")
    example = "r_in, state = intrinsic_reward(state=state, place=where, next_place=where_next, **steps)"
    known = {
        "start": Function(others.reward_start, {}, "state = start()"),
        "intrinsic_reward": Function(others.place_reward, {"state": memory, **places, **steps}, example),
    }
    return Part("reward", rule, theta, known)


def _reward(rule: Any, theta: Theta) -> Part:
    if isinstance(rule, PlaceReward):
        return _places(rule, theta)
    if not isinstance(rule, StateActionReward | LifetimeReward):
        raise NotExportable(f"Intrinsic with a {type(rule).__name__} holds nothing learned; its base can be exported")
    memory = dict.fromkeys(("hidden", "cell"), f"{rule.hidden}") if isinstance(rule, LifetimeReward) else {}
    seen = dict.fromkeys(("obs", "next_obs"), f"T B {rule.observation}")
    example = "r_in, state = intrinsic_reward(state=state, obs=obs, next_obs=next_obs, action=a, **steps)"
    known = {
        "start": Function(others.reward_start, {}, "state = start()"),
        "intrinsic_reward": Function(
            others.intrinsic_reward, {"state": memory, **seen, "action": "int32 T B", **STEPS}, example
        ),
    }
    return Part("reward", rule, theta, known)


def _agent(rule: RL2, theta: Theta) -> Part:
    policy = rule.blueprint.policy(rule.heads)

    def said(m: Any) -> str:
        kind = "" if m.dtype == "float32" else f"{m.dtype} "
        return kind + " ".join(["B", *map(str, m.shape[1:])])

    memory = [said(m) for m in jax.tree.leaves(jax.eval_shape(lambda: policy.start_memory(1)))]
    obs = " ".join(["B", *map(str, rule.blueprint.obs_shape)])
    act = Function(
        others.agent_act,
        {"memory": memory, "obs": obs, "last": "bool B"},
        "memory, said = act(memory=memory, obs=obs, last=last)",
    )
    start = Function(others.agent_start, {"last": "bool B"}, "memory = start(last=last)")
    return Part("agent", rule, theta, {"start": start, "act": act})


def parts(rule: Rule, theta: Theta) -> tuple[Part, ...]:
    """The parts of a rule, from the outside in.

    Raises:
      NotExportable: there is none; the message says why.
    """
    if type(rule) in OBJECTIVES:
        return (Part("objective", rule, theta, OBJECTIVES[type(rule)](rule)),)
    if isinstance(rule, Optimised):
        return (_optimizer(rule.learned, theta["optimizer"]), *parts(rule.base, theta["base"]))
    if isinstance(rule, Schedule):
        return (_schedule(rule, theta),)
    if isinstance(rule, Intrinsic):
        return (_reward(rule.reward, theta["reward"] if theta else ()),)
    if isinstance(rule, RL2):
        return (_agent(rule, theta),)
    raise NotExportable(
        f"{type(rule).__name__} has neither an objective nor an optimizer that code outside of it could use"
    )


def part(rule: Rule, theta: Theta, kind: str) -> Part:
    """The part of a kind.

    Raises:
      NotExportable: there is none of that kind; the message says what there is.
    """
    found = {p.kind: p for p in parts(rule, theta)}
    if kind not in found:
        raise NotExportable(f"{type(rule).__name__} has no {kind} of its own; it has: {', '.join(found)}")
    return found[kind]


def as_optax(rule: Rule, theta: Theta, sites: tuple[Site, ...] | None = None, learning_rate: float = 1e-3) -> Any:
    """The rule's learned optimizer as an `optax.GradientTransformationExtraArgs`; see `learned_rl.export.transform`.

    Raises:
      NotExportable: the rule has no learned optimizer.
    """
    found = part(rule, theta, "optimizer")
    return transform(found.settings, found.theta, sites, learning_rate)


def as_loss(rule: Rule, theta: Theta) -> Callable[..., Any]:
    """The rule's objective as a pure function of keyword arrays; see `learned_rl.export.objectives` for which.

    Raises:
      NotExportable: the rule is no objective.
    """
    found = part(rule, theta, "objective")
    return partial(found.functions["loss"].call, found.settings, found.theta)
