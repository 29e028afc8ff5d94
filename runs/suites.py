"""Suites: held-out tasks, each with the shape of the training run that agents get on it. One function a suite.

Listed from this file (`runs.catalogue.suites`): every public function here is a suite.
"""

from dataclasses import dataclass

from flax import linen as nn

from learned_rl import families
from learned_rl.memories import GRU
from learned_rl.networks import MLP, Network
from learned_rl.types import TaskFamily


@dataclass(frozen=True)
class Trial:
    """How agents are trained on one family of tasks; the same for every rule that is compared.

    Attributes:
      tasks: what each agent draws its task from.
      network: what agents are.
      streams, steps, updates: as in `learned_rl.lifetime.Lifetime`.
    """

    tasks: TaskFamily
    network: Network = Network(MLP((32, 32)))
    streams: int = 16
    steps: int = 16
    updates: int = 400

    @property
    def env_steps(self) -> int:
        return self.streams * self.steps * self.updates


def small() -> tuple[Trial, ...]:
    """Navigation, credit assignment, exploration, control: 5e4 steps each; the recipe `default` sees none of them."""
    tasks = (families.meta_maze(), families.umbrella_chain(), families.deep_sea(), families.fixed("Acrobot-v1"))
    return tuple(Trial(family, updates=200) for family in tasks)


def grid() -> tuple[Trial, ...]:
    """Small mazes: sparse goals, walls, slippery floors."""
    return tuple(Trial(t) for t in (families.meta_maze(), families.four_rooms(), families.fixed("FrozenLake-misc")))


def rooms() -> tuple[Trial, ...]:
    """Four rooms with something hidden in them, agents that are tables, lives of 1200 steps in one stream."""
    tasks = (families.random_abc(), families.key_box(), families.empty_rooms())
    return tuple(Trial(family, Network(MLP(())), streams=1, steps=8, updates=150) for family in tasks)


def smoke() -> tuple[Trial, ...]:
    """One tiny trial, to see that everything works."""
    return (Trial(families.fixed("CartPole-v1"), Network(MLP((8,))), streams=4, steps=8, updates=64),)


def classic() -> tuple[Trial, ...]:
    """Classic control with discrete actions, physics as published."""
    return tuple(Trial(families.fixed(env), updates=1000) for env in ("CartPole-v1", "Acrobot-v1", "MountainCar-v0"))


def bsuite() -> tuple[Trial, ...]:
    """bsuite's small tasks: credit over 5 to 100 steps, one bandit, one exploration problem."""
    names = (families.catch(), families.discounting_chain(), families.umbrella_chain(), families.simple_bandit())
    return (*(Trial(tasks) for tasks in names), Trial(families.deep_sea()))


def _minatar(*games: str) -> tuple[Trial, ...]:
    network = Network(MLP((64, 64), nn.relu))
    return tuple(Trial(families.minatar(game), network, 64, 128, 122) for game in games)


def minatar() -> tuple[Trial, ...]:
    """The four quick MinAtar games, 1e6 steps each; network and rollouts as in the field's PPO reference."""
    return _minatar("Asterix", "Breakout", "Freeway", "SpaceInvaders")


def minatar_held_out() -> tuple[Trial, ...]:
    """The two quick MinAtar games that the recipe drift-minatar does not train on."""
    return _minatar("Freeway", "SpaceInvaders")


def grid_to_all() -> tuple[Trial, ...]:
    """What the recipe lpg-grid is carried to: classic control, bsuite's chains and MinAtar."""
    return (*classic(), Trial(families.umbrella_chain()), Trial(families.deep_sea()), *_minatar("Asterix", "Breakout"))


def few_shot_bandits() -> tuple[Trial, ...]:
    """Trials of ten pulls of five arms; agents with a memory, which a rule that brings its own does not need."""
    network = Network(MLP(()), memory=GRU(64), separate=False)
    return (Trial(families.bandit_trials(), network, streams=1024, steps=10, updates=100),)


def few_shot_navigation() -> tuple[Trial, ...]:
    """Walks to a hidden goal, 20 episodes between two updates, of which there are three."""
    return (Trial(families.navigation(), streams=20, steps=100, updates=4),)


def few_shot_grid() -> tuple[Trial, ...]:
    """Trials of four episodes on a grid with a hidden goal; agents with a memory, unless a rule brings its own."""
    network = Network(MLP(()), memory=GRU(64), separate=False)
    return (Trial(families.goal_grid_trials(), network, streams=256, steps=60, updates=100),)
