"""Task families: what varies from life to life in each environment. One function a family; adding one is adding one.

`held out` is by construction: a family and its `_shifted` sibling draw from disjoint ranges.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from learned_rl import rooms
from learned_rl.brax_tasks import BraxFamily
from learned_rl.craftax_tasks import CraftaxFamily
from learned_rl.few_shot_tasks import Bandit, SeededMDP, TabularMDP
from learned_rl.goal_tasks import GoalGrid, Navigation
from learned_rl.grid_tasks import GridWorld, Kind, RandomGridWorld
from learned_rl.gymnax_tasks import GymnaxFamily
from learned_rl.jaxmarl_tasks import JaxMARLFamily
from learned_rl.layouts import maze
from learned_rl.navix_tasks import NavixFamily
from learned_rl.samplers import Constant, IntegersIn, LogUniform, Sampler, SpikeAt, Uniform
from learned_rl.trials import Trials
from learned_rl.xland_tasks import XLandFamily

Span: TypeAlias = tuple[int, int]  # lowest and highest
Pay: TypeAlias = float | tuple[float, float]


def fixed(env_id: str, **options: Any) -> GymnaxFamily:
    """One gymnax environment with its default parameters, the same in every life."""
    return GymnaxFamily(env_id, tuple(sorted(options.items())))


def _cartpole_masses(params: Any) -> Any:
    # gymnax stores both products beside their factors and does not recompute them.
    return params.replace(total_mass=params.masscart + params.masspole, polemass_length=params.masspole * params.length)


def cartpole(low: float = 0.5, high: float = 2.0) -> GymnaxFamily:
    """CartPole whose cart mass, pole mass, pole length and force are scaled by factors in [low, high)."""
    scales = {"masscart": 1.0, "masspole": 0.1, "length": 0.5, "force_mag": 10.0}
    vary = tuple((field, LogUniform(low * usual, high * usual)) for field, usual in scales.items())
    return GymnaxFamily("CartPole-v1", vary=vary, derive=_cartpole_masses, label="CartPole-varied")


def cartpole_shifted() -> GymnaxFamily:
    """Heavier and longer than anything in `cartpole()`: factors in [2, 3), disjoint from its [0.5, 2)."""
    return GymnaxFamily(**{**cartpole(2.0, 3.0).__dict__, "label": "CartPole-shifted"})


def acrobot(low: float = 0.75, high: float = 1.33) -> GymnaxFamily:
    """Acrobot with link lengths and masses scaled by factors in [low, high)."""
    fields = ("link_length_1", "link_length_2", "link_mass_1", "link_mass_2")
    return GymnaxFamily("Acrobot-v1", vary=tuple((f, LogUniform(low, high)) for f in fields), label="Acrobot-varied")


def mountain_car(low: float = 0.8, high: float = 1.25) -> GymnaxFamily:
    """MountainCar with engine force and gravity scaled by factors in [low, high)."""
    usual = {"force": 0.001, "gravity": 0.0025}
    vary = tuple((field, LogUniform(low * value, high * value)) for field, value in usual.items())
    return GymnaxFamily("MountainCar-v0", vary=vary, label="MountainCar-varied")


def pendulum() -> GymnaxFamily:
    """Pendulum with gravity, mass and length scaled by factors in [0.75, 1.33)."""
    vary = (("g", LogUniform(7.5, 13.3)), ("m", LogUniform(0.75, 1.33)), ("l", LogUniform(0.75, 1.33)))
    return GymnaxFamily("Pendulum-v1", vary=vary, label="Pendulum-varied")


def catch(rows: int = 10, columns: int = 5) -> GymnaxFamily:
    """bsuite's Catch on a board of `rows` x `columns`."""
    return GymnaxFamily("Catch-bsuite", (("columns", columns), ("rows", rows)), label=f"Catch-{rows}x{columns}")


def discounting_chain() -> GymnaxFamily:
    """bsuite's DiscountingChain; which of the five delays pays 1.1 is drawn per life."""
    return GymnaxFamily("DiscountingChain-bsuite", hidden=(("rewards", SpikeAt(5, 1.1)),))


def bernoulli_bandit(low: float = 0.05, high: float = 0.45) -> GymnaxFamily:
    """Two arms paying 1 with probabilities p in [low, high) and 1 - p; p and their order are fixed for a life."""
    return GymnaxFamily(
        "BernoulliBandit-misc",
        vary=(("reward_prob", Uniform(low, high)),),
        hidden=(("reward_probs", None), ("exp_reward_best", None)),
    )


def gaussian_bandit(*noise: float) -> GymnaxFamily:
    """One noisy arm against one of known value; the noisy arm's mean is fixed for a life.

    `noise` is the range [low, high) of its standard deviation, which is 0.1 where none is given.
    """
    vary = (("sigma_l", Uniform(*noise)),) if noise else ()
    return GymnaxFamily("GaussianBandit-misc", vary=vary, hidden=(("mu", None),))


def simple_bandit(arms: int = 11) -> GymnaxFamily:
    """bsuite's arms, that pay 0, ..., 1 in an order that is fixed for a life."""
    return GymnaxFamily("SimpleBandit-bsuite", (("num_actions", arms),), hidden=(("rewards", None),))


def point_robot(dense: bool = True) -> GymnaxFamily:
    """A point to be steered to a goal on a half circle; the goal is fixed for a life."""
    vary = (("dense_reward", Constant(dense)),)
    return GymnaxFamily("PointRobot-misc", vary=vary, hidden=(("goal", None),))


def reacher() -> GymnaxFamily:
    """A two-joint arm; the goal is fixed for a life."""
    return GymnaxFamily("Reacher-misc", hidden=(("goal_xy", None),))


def meta_maze(size: int = 7) -> GymnaxFamily:
    """A maze of `size` x `size`, odd; the goal is fixed for a life."""
    return GymnaxFamily("MetaMaze-misc", (("maze_size", size),), hidden=(("goal", None),))


def four_rooms(slips: tuple[float, float] | None = None) -> GymnaxFamily:
    """Four rooms; the goal is fixed for a life, the starting place is not.

    `slips` is the range of the probability that a step goes another way, which is 1/3 where none is given.
    """
    vary: tuple[tuple[str, Sampler], ...] = (
        ("resample_init_pos", Constant(True)),
        ("resample_goal_pos", Constant(True)),
    )
    if slips:
        vary = (*vary, ("fail_prob", Uniform(*slips)))
    return GymnaxFamily("FourRooms-misc", vary=vary, hidden=(("goal", None),))


def umbrella_chain(low: int = 5, high: int = 20) -> GymnaxFamily:
    """bsuite's UmbrellaChain, its length drawn from `low` to `high`."""
    return GymnaxFamily("UmbrellaChain-bsuite", vary=(("chain_length", IntegersIn(low, high)),))


def deep_sea(size: int = 8) -> GymnaxFamily:
    """bsuite's DeepSea; which action means `right` in each cell is fixed for a life."""
    vary = (("sample_action_map", Constant(True)),)
    return GymnaxFamily("DeepSea-bsuite", (("size", size),), vary=vary, hidden=(("action_mapping", None),))


def minatar(game: str) -> GymnaxFamily:
    """`Asterix`, `Breakout`, `Freeway`, `Seaquest` or `SpaceInvaders`; without sticky actions, as gymnax has them."""
    return fixed(f"{game}-MinAtar")


PACED: Mapping[str, Mapping[str, int]] = {
    "Asterix": {"init_spawn_speed": 10, "init_move_interval": 5, "shot_cool_down": 5},
    "Freeway": {"player_speed": 3},
    "SpaceInvaders": {"shot_cool_down": 5, "enemy_move_interval": 12, "enemy_shot_interval": 10},
}
"""Intervals of MinAtar's games, in steps, as published."""


def minatar_paced(game: str, low: float, high: float) -> GymnaxFamily:
    """A game of `PACED`, each interval a whole number of steps between `low` and `high` times the published one."""
    vary = tuple((f, IntegersIn(math.ceil(low * n), math.floor(high * n))) for f, n in PACED[game].items())
    return GymnaxFamily(f"{game}-MinAtar", vary=vary, label=f"{game}-paced")


def navigation(steps: int = 100) -> Navigation:
    """A point in the plane that walks to a goal it does not see; the goal is fixed for a life."""
    return Navigation(steps)


def goal_grid(size: int = 5, steps: int = 15) -> GoalGrid:
    """A grid in which one hidden cell pays; which one is fixed for a life."""
    return GoalGrid(size, steps)


def grid_dense(size: int = 11, length: Span = (500, 500), pay: Pay = 1.0) -> GridWorld:
    """Two objects that pay and come back, one that costs, one that costs and may end it (Oh et al. 2020, dense).

    `length` is the range of time limits. `pay` is what the good ones pay and the bad ones cost, or a range of it.
    """
    return GridWorld(size, IntegersIn(*length), _dense(pay), label="Dense")


def grid_sparse(size: int = 13, length: Span = (50, 50), pay: Pay = 1.0) -> GridWorld:
    """One object that pays, one that costs, and both end it (Oh et al. 2020, sparse)."""
    once = Constant(1.0)
    return GridWorld(size, IntegersIn(*length), (Kind(_pay(pay), once), Kind(_pay(pay, -1.0), once)), label="Sparse")


def grid_long(size: int = 11, length: Span = (1000, 1000), pay: Pay = 1.0) -> GridWorld:
    """Two objects that pay and seldom come back, two that cost and may end it (Oh et al. 2020, long)."""
    good = Kind(_pay(pay), returns=Constant(0.01), count=2)
    bad = Kind(_pay(pay, -1.0), Constant(0.5), Constant(1.0), count=2)
    return GridWorld(size, IntegersIn(*length), (good, bad), label="Long")


def grid_random(size: int = 11, length: Span = (500, 500), pay: Pay = 1.0) -> RandomGridWorld:
    """As `grid_dense`, but objects are anywhere, and seen (Oh et al. 2020, random dense)."""
    return RandomGridWorld(size, IntegersIn(*length), _dense(pay), label="Random")


def grid_maze(size: int = 13, length: Span = (25, 50), pay: tuple[float, float] = (0.0, 1.0)) -> GridWorld:
    """A maze with three objects of any worth, that end it and come back with any chance (Jackson et al. 2023).

    Departure: mazes are drawn, theirs are five drawings.
    """
    kind = Kind(Uniform(*pay), LogUniform(0.01, 1.0), LogUniform(0.001, 0.1))
    return GridWorld(size, IntegersIn(*length), (kind,) * 3, maze, label="Maze")


def _dense(pay: Pay) -> tuple[Kind, ...]:
    good, bad = _pay(pay), _pay(pay, -1.0)
    harmless, harmful = Constant(0.0), Constant(0.5)
    return (
        Kind(good, harmless, Constant(0.05), count=2),
        Kind(bad, harmful, Constant(0.1)),
        Kind(bad, harmless, Constant(0.5)),
    )


def _pay(pay: Pay, sign: float = 1.0) -> Sampler:
    if isinstance(pay, tuple):
        return Uniform(*sorted(sign * end for end in pay))
    return Constant(sign * pay)


def empty_rooms(size: int = 5, length: int = 30) -> rooms.EmptyRooms:
    """Four rooms and an invisible goal, fixed for a life (Zheng et al. 2020)."""
    return rooms.EmptyRooms(size, length)


def random_abc(size: int = 5, length: int = 30) -> rooms.RandomABC:
    """Four rooms, three objects; what each is worth is drawn per life, and the first one taken ends the episode."""
    return rooms.RandomABC(size, length)


def key_box(size: int = 5, length: int = 30) -> rooms.KeyBox:
    """As `random_abc`, but the objects are in boxes that open with a key, which costs 0.1 an episode."""
    return rooms.KeyBox(size, length)


def bandit(arms: int = 5) -> Bandit:
    """`arms` arms that pay 1 with probabilities from U(0, 1), fixed for a life."""
    return Bandit(arms)


def mdp(states: int = 10, choices: int = 5) -> TabularMDP:
    """A random Markov decision process, fixed for a life, in episodes of ten steps."""
    return TabularMDP(states, choices)


def bandit_trials(arms: int = 5, pulls: int = 10, credited: bool = False) -> Trials:
    """Trials of `pulls` pulls of `arms` arms that pay with probabilities from U(0, 1), drawn for each trial."""
    return Trials(Bandit(arms), pulls, credited)


def mdp_trials(episodes: int = 10, credited: bool = False) -> Trials:
    """Trials of `episodes` episodes of ten steps in a random MDP of ten states and five actions."""
    return Trials(SeededMDP(), episodes, credited)


def goal_grid_trials(episodes: int = 4) -> Trials:
    """Trials of `episodes` episodes of 15 steps on a 5 x 5 grid, the goal drawn for each trial."""
    return Trials(GoalGrid(), episodes)


def locomotion(body: str, low: float = 1.0, high: float = 1.0, backend: str = "spring") -> BraxFamily:
    """A body of brax (`ant`, `hopper`, ...) with masses, gravity and strength scaled by factors in [low, high)."""
    scale = LogUniform(low, high) if low < high else Constant(low)
    return BraxFamily(body, backend, gravity=scale, mass=scale, strength=scale)


def minigrid(task: str) -> NavixFamily:
    """A navix environment without the `Navix-` and `-v0` of its name: `DoorKey-Random-6x6`; one plan for a life."""
    return NavixFamily(f"Navix-{task}-v0")


def craftax(game: str = "Craftax-Classic", day: tuple[int, int] = (300, 300)) -> CraftaxFamily:
    """Craftax's symbolic games (`Craftax-Classic`, `Craftax`): one world for a life, days of so many steps (300)."""
    label = game if day == (300, 300) else f"{game}-days"
    return CraftaxFamily(f"{game}-Symbolic-v1", vary=(("day_length", IntegersIn(*day)),), label=label)


def company(game: str = "coin_game", slow: float = 0.1, fast: float = 0.3, rounds: int = 8) -> JaxMARLFamily:
    """A game of JaxMARL among others who learn, at a rate in [slow, fast); `rounds` of it are one episode."""
    return JaxMARLFamily(game, LogUniform(slow, fast), rounds)


def xland(rooms: int = 1, depth: int = 1, size: int = 9, length: int = 80) -> XLandFamily:
    """A world of xminigrid with a hidden ruleset: `depth` encounters make the object that is to be reached."""
    return XLandFamily(rooms, size, depth, length=length)
