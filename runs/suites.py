"""Suites: tasks in three splits, each with the shape of the training run that agents get on it. One function a suite.

Rules are meta-trained on `train` (or on anything else that is not `test`), chosen and tuned on `validation`, and
compared on `test`. Splits are apart by construction: other environments, other sizes or disjoint ranges of a parameter.

Listed from this file (`runs.catalogue.suites`): every public function here is a suite.
"""

from flax import linen as nn

from learned_rl import families
from learned_rl.memories import GRU
from learned_rl.networks import MLP, Network
from learned_rl.types import TaskFamily
from runs.trials import Suite, Trial


def _new_draws(*trials: Trial) -> Suite:
    return Suite(trials, trials, trials, same_distribution=True)


def small() -> Suite:
    """Navigation, credit assignment, exploration, control: 5e4 steps each; the recipe `default` sees none of them."""

    def trials(maze: int, chain: tuple[int, int], sea: int, swing: TaskFamily) -> tuple[Trial, ...]:
        tasks = (families.meta_maze(maze), families.umbrella_chain(*chain), families.deep_sea(sea), swing)
        return tuple(Trial(family, updates=200) for family in tasks)

    return Suite(
        train=trials(5, (21, 40), 6, families.acrobot(1.1, 1.5)),
        validation=trials(9, (41, 60), 10, families.acrobot(0.7, 0.9)),
        test=trials(7, (5, 20), 8, families.fixed("Acrobot-v1")),
    )


def grid() -> Suite:
    """Small mazes: sparse goals, walls, slippery floors."""

    def trials(maze: int, rooms: TaskFamily, **ice: float) -> tuple[Trial, ...]:
        return tuple(Trial(t) for t in (families.meta_maze(maze), rooms, families.fixed("FrozenLake-misc", **ice)))

    return Suite(
        train=trials(5, families.four_rooms((0.0, 0.15)), success_rate=0.8),
        validation=trials(9, families.four_rooms((0.15, 0.3)), success_rate=0.5),
        test=trials(7, families.four_rooms()),
    )


def grids() -> Suite:
    """Procedural grid worlds: dense, sparse, long, random objects, mazes; other sizes, limits and worth per split."""

    def trials(size: int, scale: int, pay: tuple[float, float]) -> tuple[Trial, ...]:
        short, middle, long = ((n * scale, (n + 5) * scale) for n in (10, 20, 40))
        tables = (
            families.grid_dense(size, middle, pay),
            families.grid_sparse(size, short, pay),
            families.grid_long(size, long, pay),
            families.grid_maze(size, middle, pay),
        )
        seen = families.grid_random(size, middle, pay)
        return (*(Trial(t, Network(MLP(()))) for t in tables), Trial(seen))

    return Suite(trials(5, 1, (0.6, 0.8)), trials(7, 2, (0.8, 1.0)), trials(9, 3, (1.0, 1.2)))


def rooms() -> Suite:
    """Four rooms with something hidden in them, agents that are tables, lives of 1200 steps in one stream."""

    def trials(size: int, length: int) -> tuple[Trial, ...]:
        tasks = (families.random_abc(size, length), families.key_box(size, length), families.empty_rooms(size, length))
        return tuple(Trial(family, Network(MLP(())), streams=1, steps=8, updates=150) for family in tasks)

    return Suite(train=trials(7, 42), validation=trials(9, 54), test=trials(5, 30))


def larger_rooms() -> Suite:
    """The two of `rooms` whose treasure moves from life to life, in larger rooms, for at least 400 episodes."""

    def trials(size: int, length: int) -> tuple[Trial, ...]:
        tasks, updates = (families.random_abc(size, length), families.key_box(size, length)), length * 50
        return tuple(Trial(family, Network(MLP(())), streams=1, steps=8, updates=updates) for family in tasks)

    return Suite(train=trials(5, 30), validation=trials(7, 42), test=trials(9, 54))


def smoke() -> Suite:
    """One tiny trial, to see that everything works."""

    def trial(tasks: TaskFamily) -> tuple[Trial, ...]:
        return (Trial(tasks, Network(MLP((8,))), streams=4, steps=8, updates=64),)

    return Suite(trial(families.catch(5, 5)), trial(families.cartpole(1.1, 2.0)), trial(families.fixed("CartPole-v1")))


def classic() -> Suite:
    """Classic control with discrete actions: to be learned with other physics than published, and tested with those."""

    def trials(*tasks: TaskFamily) -> tuple[Trial, ...]:
        return tuple(Trial(family, updates=1000) for family in tasks)

    return Suite(
        train=trials(families.cartpole(1.1, 2.0), families.acrobot(1.1, 1.5), families.mountain_car(1.1, 1.4)),
        validation=trials(families.cartpole(0.6, 0.9), families.acrobot(0.7, 0.9), families.mountain_car(0.8, 0.9)),
        test=trials(*map(families.fixed, ("CartPole-v1", "Acrobot-v1", "MountainCar-v0"))),
    )


def bsuite() -> Suite:
    """bsuite's small tasks: credit over 5 to 100 steps, one bandit, one exploration problem."""

    def trials(catch: tuple[int, int], chain: tuple[int, int], arms: TaskFamily, sea: int) -> tuple[Trial, ...]:
        tasks = (families.catch(*catch), families.umbrella_chain(*chain), arms, families.deep_sea(sea))
        return tuple(Trial(family) for family in tasks)

    first, *others = trials((10, 5), (5, 20), families.simple_bandit(), 8)
    return Suite(
        train=trials((5, 5), (21, 40), families.simple_bandit(5), 6),
        validation=trials((8, 7), (41, 60), families.simple_bandit(8), 10),
        test=(first, Trial(families.discounting_chain()), *others),
    )


def bandits_mdps() -> Suite:
    """Bandits of three kinds and random Markov decision processes: other numbers of arms, states and odds per split."""

    def trials(odds: tuple[float, float], noise: tuple[float, float], arms: int, states: int) -> tuple[Trial, ...]:
        tasks = (
            families.bernoulli_bandit(*odds),
            families.gaussian_bandit(*noise),
            families.simple_bandit(arms),
            families.bandit(arms),
            families.mdp(states, choices=arms),
        )
        return tuple(Trial(family, Network(MLP((32,))), updates=100) for family in tasks)

    return Suite(
        train=trials((0.05, 0.2), (0.3, 1.0), 4, 5),
        validation=trials((0.2, 0.3), (1.0, 1.5), 6, 8),
        test=trials((0.3, 0.45), (0.1, 0.3), 8, 10),
    )


def _minatar(*tasks: TaskFamily) -> tuple[Trial, ...]:
    network = Network(MLP((64, 64), nn.relu))
    return tuple(Trial(family, network, 64, 128, 122) for family in tasks)


def minatar() -> Suite:
    """The four quick MinAtar games, 1e6 steps each; network and rollouts as in the field's PPO reference."""
    return Suite(
        train=_minatar(*(families.minatar_paced(game, 1.4, 2.0) for game in families.PACED)),
        validation=_minatar(*(families.minatar_paced(game, 0.4, 0.8) for game in families.PACED)),
        test=_minatar(*map(families.minatar, ("Asterix", "Breakout", "Freeway", "SpaceInvaders"))),
    )


def minatar_held_out() -> Suite:
    """The two quick MinAtar games that the recipe drift-minatar does not train on."""
    return Suite(
        train=_minatar(*map(families.minatar, ("Breakout", "Asterix"))),
        validation=_minatar(families.minatar_paced("Asterix", 0.4, 0.8)),
        test=_minatar(*map(families.minatar, ("Freeway", "SpaceInvaders"))),
    )


def grid_to_all() -> Suite:
    """From mazes, chains and bandits, as in the recipe lpg-grid, to classic control, bsuite's chains and MinAtar."""
    seen = (families.meta_maze(), families.four_rooms(), families.catch(), families.discounting_chain())
    bandits = (families.bernoulli_bandit(), families.simple_bandit())
    near = (families.meta_maze(9), families.four_rooms((0.0, 0.3)), families.catch(8, 7), families.gaussian_bandit())
    chains = (families.umbrella_chain(), families.deep_sea())
    return Suite(
        train=tuple(map(Trial, (*seen, *bandits))),
        validation=tuple(map(Trial, near)),
        test=(
            *classic().test,
            *map(Trial, chains),
            *_minatar(*map(families.minatar, ("Asterix", "Breakout"))),
        ),
    )


def locomotion() -> Suite:
    """Bodies that walk, in brax (extra `brax`): learned with other gravity, masses and motors than tested with."""

    def trials(low: float = 1.0, high: float = 1.0) -> tuple[Trial, ...]:
        bodies = ("ant", "halfcheetah", "hopper", "walker2d")
        network = Network(MLP((64, 64)))
        return tuple(Trial(families.locomotion(body, low, high), network, 64, 32, 500) for body in bodies)

    return Suite(train=trials(1.1, 1.5), validation=trials(0.7, 0.9), test=trials())


def minigrid() -> Suite:
    """MiniGrid's rooms, doors, lava and obstacles, in navix (extra `navix`): other sizes per split."""

    def trials(*names: str) -> tuple[Trial, ...]:
        return tuple(Trial(families.minigrid(name), Network(MLP((64, 64))), 16, 32, 400) for name in names)

    return Suite(
        train=trials("Empty-Random-5x5", "DoorKey-Random-5x5", "Dynamic-Obstacles-5x5-Random", "LavaGapS5"),
        validation=trials("Empty-Random-6x6", "DoorKey-Random-6x6", "Dynamic-Obstacles-6x6-Random", "LavaGapS6"),
        test=trials("Empty-Random-8x8", "DoorKey-Random-8x8", "FourRooms", "LavaGapS7", "SimpleCrossingS9N1"),
    )


def xland() -> Suite:
    """Rules of what becomes of what, in xminigrid (extra `xminigrid`): one room, then longer chains, or doors."""

    def trials(*worlds: TaskFamily) -> tuple[Trial, ...]:
        network = Network(MLP((64,)), memory=GRU(64), separate=False)
        return tuple(Trial(world, network, 32, 32, 400) for world in worlds)

    return Suite(
        train=trials(families.xland(depth=0), families.xland(depth=1)),
        validation=trials(families.xland(rooms=2, depth=0), families.xland(rooms=2, depth=1)),
        test=trials(families.xland(depth=2), families.xland(rooms=4, depth=0), families.xland(rooms=4, depth=1)),
    )


def craftax() -> Suite:
    """Open worlds to survive and craft in (extra `craftax`), 1e6 steps each: longer or shorter days per split."""

    def trials(*days: tuple[int, int]) -> tuple[Trial, ...]:
        worlds = (families.craftax(game, *days) for game in ("Craftax-Classic", "Craftax"))
        return tuple(Trial(world, Network(MLP((128, 128))), 64, 64, 250) for world in worlds)

    return Suite(train=trials((150, 250)), validation=trials((350, 450)), test=trials())


def jaxmarl() -> Suite:
    """Games among others who learn (extra `jaxmarl`): a dilemma, and a task shared; others learn faster or slower."""

    def trials(slow: float, fast: float) -> tuple[Trial, ...]:
        games = ("coin_game", "MPE_simple_spread_v3")
        network = Network(MLP((64,)), memory=GRU(64), separate=False)
        return tuple(Trial(families.company(game, slow, fast), network, 64, 32, 200) for game in games)

    return Suite(train=trials(0.01, 0.03), validation=trials(0.03, 0.1), test=trials(0.1, 0.3))


def few_shot_bandits() -> Suite:
    """Trials of ten pulls of five arms; agents with a memory, which a rule that brings its own does not need."""
    network = Network(MLP(()), memory=GRU(64), separate=False)
    return _new_draws(Trial(families.bandit_trials(), network, streams=1024, steps=10, updates=100))


def longer_bandits() -> Suite:
    """Trials of twenty and forty pulls, for rules that were learned on trials of ten, or of a hundred."""

    def trials(*pulls: int) -> tuple[Trial, ...]:
        network = Network(MLP(()), memory=GRU(64), separate=False)
        return tuple(Trial(families.bandit_trials(pulls=n), network, streams=256, steps=n, updates=100) for n in pulls)

    return Suite(train=trials(10), validation=trials(15), test=trials(20, 40))


def longer_mdps() -> Suite:
    """Trials of twenty and thirty episodes of a random MDP, for rules that were learned on trials of ten."""

    def trials(*episodes: int) -> tuple[Trial, ...]:
        network = Network(MLP(()), memory=GRU(64), separate=False)
        tasks = ((families.mdp_trials(n), 10 * n) for n in episodes)
        return tuple(Trial(family, network, streams=64, steps=steps, updates=50) for family, steps in tasks)

    return Suite(train=trials(10), validation=trials(15), test=trials(20, 30))


def few_shot_navigation() -> Suite:
    """Walks to a hidden goal, 20 episodes between two updates, of which there are three."""
    return _new_draws(Trial(families.navigation(), streams=20, steps=100, updates=4))


def few_shot_grid() -> Suite:
    """Trials of four episodes on a grid with a hidden goal; agents with a memory, unless a rule brings its own."""
    network = Network(MLP(()), memory=GRU(64), separate=False)
    return _new_draws(Trial(families.goal_grid_trials(), network, streams=256, steps=60, updates=100))
