"""Rules by name: the hand-designed ones, ready to train with, and the learnable ones, untrained.

Each entry is a function, so that listing the names imports no rule and no jax; `description` is its first line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learned_rl.types import Rule, Theta


def a2c() -> Rule:
    """Advantage actor-critic (Mnih et al. 2016): one gradient step a rollout."""
    from learned_rl.rules.actor_critic import ActorCritic

    return ActorCritic()


def a2c_annealed() -> Rule:
    """Advantage actor-critic whose learning rate and entropy bonus fall linearly over a lifetime."""
    from learned_rl.rules.anneal import Anneal

    return Anneal()


def ppo() -> Rule:
    """Proximal policy optimisation (Schulman et al. 2017), its learning rate annealed over a lifetime."""
    from learned_rl.rules.drift import Drift

    return Drift(anneal=True)


def dpo() -> Rule:
    """Discovered policy optimisation (Lu et al. 2022): PPO with the closed form of a learned drift."""
    from learned_rl.rules.drift import DiscoveredDrift, Drift

    return Drift(drift=DiscoveredDrift(), anneal=True)


def count_bonus() -> Rule:
    """A2C with a bonus of 0.1 / sqrt(visits) for where an action led (Strehl & Littman 2008)."""
    from learned_rl.rules.intrinsic.bonus import CountBonus
    from learned_rl.rules.intrinsic.rule import Intrinsic

    return Intrinsic(reward=CountBonus(), intrinsic=0.1)


def rnd() -> Rule:
    """PPO with a bonus for what a network that is trained on what was seen cannot predict (RND, Burda et al. 2018)."""
    from learned_rl.rules.drift import Drift
    from learned_rl.rules.intrinsic.bonus import RandomDistillation
    from learned_rl.rules.intrinsic.rule import Intrinsic

    return Intrinsic(Drift(anneal=True), RandomDistillation(), intrinsic=0.1)


def dqn() -> Rule:
    """Q-learning with a target network (Mnih et al. 2015), on what an agent just did: there is no replay."""
    from learned_rl.rules.q_learning import QLearning

    return QLearning()


def dqn_reg() -> Rule:
    """Q-learning with the regularised loss that evolution found (DQNReg, Co-Reyes et al. 2021), without a replay."""
    from learned_rl.rules.q_learning import QLearning, RegularisedError

    return QLearning(loss=RegularisedError())


def dqn_clipped() -> Rule:
    """Q-learning with the clipped loss that evolution found (DQNClipped, Co-Reyes et al. 2021), without a replay."""
    from learned_rl.rules.q_learning import ClippedError, QLearning

    return QLearning(loss=ClippedError())


def random() -> Rule:
    """No learning: the agent acts as it was born, close to uniformly."""
    from learned_rl.rules.none import NoLearning

    return NoLearning()


def lpg() -> Rule:
    """Learned policy gradient (Oh et al. 2020): a recurrent network says what the policy and predictions should be."""
    from learned_rl.rules.lpg import LPG

    return LPG()


def disco() -> Rule:
    """DiscoRL (Oh et al. 2025): a network that remembers the agent's life says what it should do and predict."""
    from learned_rl.rules.disco.rule import Disco

    return Disco()


def drift() -> Rule:
    """Learned policy optimisation (Lu et al. 2022): PPO with a learned drift, starting as PPO."""
    from learned_rl.rules.drift import Drift, LearnedDrift

    return Drift(drift=LearnedDrift())


def ta_lpg() -> Rule:
    """Temporally-aware LPG (Jackson et al. 2024): it also sees how much of its life an agent has left."""
    from learned_rl.rules.lpg import LPG

    return LPG(temporal=True)


def ta_drift() -> Rule:
    """Temporally-aware learned drift (Jackson et al. 2024), starting as PPO."""
    from learned_rl.rules.drift import Drift, LearnedDrift

    return Drift(drift=LearnedDrift(temporal=True))


def intrinsic() -> Rule:
    """A learned reward that remembers the agent's whole life (Zheng et al. 2020), added to the task's."""
    from learned_rl.rules.intrinsic.rule import Intrinsic

    return Intrinsic()


def places() -> Rule:
    """A learned reward that remembers places and what came of being there, added to the task's."""
    from learned_rl.rules.intrinsic.places import PlaceReward
    from learned_rl.rules.intrinsic.rule import Intrinsic

    return Intrinsic(reward=PlaceReward())


def metagenrl() -> Rule:
    """A learned objective (Kirsch et al. 2020): a network says what a step costs, the policy follows its gradient."""
    from learned_rl.rules.metagenrl import MetaGenRL

    return MetaGenRL()


def schedule() -> Rule:
    """Actor-critic coefficients as learned functions of how a lifetime is going, starting as a2c."""
    from learned_rl.rules.schedule import Schedule

    return Schedule()


def self_tuning() -> Rule:
    """Coefficients that follow meta-gradients online (Xu et al. 2018), starting as a2c; where they start is learned."""
    from learned_rl.rules.self_tuning import SelfTuning

    return SelfTuning()


def stacx() -> Rule:
    """Self-tuning of an actor-critic and of two auxiliary heads, each with coefficients of its own (STACX, 2020)."""
    from learned_rl.rules.auxiliary_head import AuxiliaryHead
    from learned_rl.rules.self_tuning import SelfTuning

    return SelfTuning(AuxiliaryHead(AuxiliaryHead()))


def open_() -> Rule:
    """OPEN (Goldie et al. 2024): PPO, its optimizer corrected by a network that sees every weight, starting as PPO."""
    from learned_rl.rules.drift import Drift
    from learned_rl.rules.optimised import Optimised

    return Optimised(Drift())


def optim4rl() -> Rule:
    """Optim4RL (Lan et al. 2023): actor-critic whose steps have learned moments, in the form of Adam's."""
    from learned_rl.learned_optimizers.recurrent import Optim4RL
    from learned_rl.rules.optimised import Optimised

    return Optimised(learned=Optim4RL())


def guard() -> Rule:
    """A learned policy gradient on probation, and PPO in its place where it fails by a test of its own returns."""
    from learned_rl.rules.guard import Guard

    return Guard()


def auxiliary() -> Rule:
    """Learned auxiliary tasks (Veeriah et al. 2019) beside a2c: questions that agents learn to answer."""
    from learned_rl.rules.auxiliary import Auxiliary

    return Auxiliary()


def rl2() -> Rule:
    """RL^2 (Duan et al. 2016): theta is a recurrent agent whose memory, kept over episodes, is what learns."""
    from learned_rl.rules.rl2 import RL2

    return RL2()


def rl2_transformer() -> Rule:
    """RL^2 whose memory is causal attention over the last steps of all episodes (after SNAIL, Mishra et al. 2018)."""
    from learned_rl.blueprint import Blueprint
    from learned_rl.rules.rl2 import ATTENTIVE, RL2

    return RL2(Blueprint(ATTENTIVE))


def hyper() -> Rule:
    """Recurrent hypernetwork (Beck et al. 2023): a memory infers the task and generates the policy's weights."""
    from learned_rl.blueprint import Blueprint
    from learned_rl.rules.rl2 import GENERATED, RL2

    return RL2(Blueprint(GENERATED))


def maml() -> Rule:
    """MAML with learned step sizes (Finn et al. 2017, Li et al. 2017): where an agent starts, and how fast it moves."""
    from learned_rl.rules.maml import MAML

    return MAML()


def varibad() -> Rule:
    """VariBAD (Zintgraf et al. 2020): an agent infers a belief about its task, and acts on it."""
    from learned_rl.rules.varibad import VariBAD

    return VariBAD()


BUILT_IN: Mapping[str, Callable[[], Rule]] = {
    "a2c": a2c,
    "a2c-annealed": a2c_annealed,
    "ppo": ppo,
    "dpo": dpo,
    "count-bonus": count_bonus,
    "rnd": rnd,
    "dqn": dqn,
    "dqn-reg": dqn_reg,
    "dqn-clipped": dqn_clipped,
    "random": random,
}
LEARNABLE: Mapping[str, Callable[[], Rule]] = {
    "lpg": lpg,
    "ta-lpg": ta_lpg,
    "disco": disco,
    "drift": drift,
    "ta-drift": ta_drift,
    "intrinsic": intrinsic,
    "places": places,
    "metagenrl": metagenrl,
    "schedule": schedule,
    "self-tuning": self_tuning,
    "stacx": stacx,
    "open": open_,
    "optim4rl": optim4rl,
    "auxiliary": auxiliary,
    "guard": guard,
    "rl2": rl2,
    "rl2-transformer": rl2_transformer,
    "hyper": hyper,
    "maml": maml,
    "varibad": varibad,
}


def disco103(content: bytes) -> tuple[Rule, Theta, dict[str, Any]]:
    """Disco103, the published weights of DiscoRL: disco_103.npz of google-deepmind/disco_rl."""
    from learned_rl.rules.disco.published import disco103

    return disco103(content)


def published_open(content: bytes) -> tuple[Rule, Theta, dict[str, Any]]:
    """OPEN, the published learned optimizers: *_OPEN.npy of AlexGoldie/rl-learned-optimization."""
    from learned_rl.learned_optimizers.published import published_open

    return published_open(content)


PUBLISHED: Mapping[str, Callable[[bytes], tuple[Rule, Theta, dict[str, Any]]]] = {
    "disco103": disco103,
    "open": published_open,
}
"""Rules that others trained: from the bytes of their file to `(rule, theta, record)`; raises `RuleRefused`."""


def description(make: Callable) -> str:
    """One line on an entry of `BUILT_IN`, `LEARNABLE` or `PUBLISHED`."""
    return (make.__doc__ or "").partition("\n")[0]
