"""Films: what is drawn is where it is, and a GIF says what it shows."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from learned_rl import families, zoo
from learned_rl.goal_tasks import GoalGrid
from learned_rl.grid_tasks import GridWorld, Kind
from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.rooms import Rooms
from learned_rl.samplers import Constant
from runs.comparison import Curves
from runs.figures import COLOURS
from runs.films import film
from runs.films.canvas import AGENT, FLOOR, WALL
from runs.films.film import MILLISECONDS, STEPS, Played, _returns, _so_far
from runs.films.scenes import layers, scene
from runs.transfer import Contender, compare
from runs.trials import Trial


def colours(picture, shape):
    """The colour in the middle of every cell, as rows of hex codes."""
    across, down = picture.width // shape[1], picture.height // shape[0]
    pixel = [
        [picture.getpixel((across * (j + 0.5), down * (i + 0.5))) for j in range(shape[1])] for i in range(shape[0])
    ]
    return [["#{:02X}{:02X}{:02X}".format(*p) for p in row] for row in pixel]


def test_a_cell_is_drawn_where_it_is():
    obs = np.zeros((3, 4, 2))
    obs[0, 3, 0] = obs[2, 1, 0] = obs[2, 1, 1] = 1  # the last channel is on top
    assert colours(layers(None, None, obs), (3, 4)) == [
        [FLOOR, FLOOR, FLOOR, COLOURS[0]],
        [FLOOR] * 4,
        [FLOOR, COLOURS[1], FLOOR, FLOOR],
    ]
    drawn = scene(Rooms(5))
    picture = drawn(None, SimpleNamespace(place=np.int32(8), phase=np.int32(0)), None)
    assert colours(picture, (5, 5)) == [
        [FLOOR, FLOOR, WALL, FLOOR, FLOOR],
        [FLOOR, FLOOR, FLOOR, AGENT, FLOOR],
        [WALL, FLOOR, WALL, FLOOR, WALL],
        [FLOOR] * 5,
        [FLOOR, FLOOR, WALL, FLOOR, FLOOR],
    ]


def test_objects_by_what_they_pay_and_only_those_that_are_there():
    world = GridWorld(3, Constant(5), (Kind(Constant(1.0)),))
    task = SimpleNamespace(walls=np.zeros((3, 3), bool), reward=np.array([1.0, -1.0, 1.0]))
    state = SimpleNamespace(place=np.int32(4), places=np.array([0, 1, 2]), present=np.array([True, True, False]))
    found = colours(scene(world)(task, state, None), (3, 3))
    assert found == [[COLOURS[3], COLOURS[0], FLOOR], [FLOOR, AGENT, FLOOR], [FLOOR] * 3]
    found = colours(scene(GoalGrid(3))(np.array([2, 0]), SimpleNamespace(position=np.array([0, 1])), None), (3, 3))
    assert found == [[FLOOR, AGENT, FLOOR], [FLOOR] * 3, [COLOURS[3], FLOOR, FLOOR]]


def test_mazes_have_their_walls():
    tasks = families.meta_maze(5)
    blocked = np.asarray(tasks.blocked, bool)
    state = SimpleNamespace(pos=np.argwhere(~blocked)[0], goal=np.argwhere(~blocked)[-1])
    found = colours(scene(tasks)(None, state, None), blocked.shape)
    assert {found[i][j] for i, j in np.argwhere(blocked)} == {WALL}
    assert found[state.pos[0]][state.pos[1]] == AGENT
    assert families.fixed("CartPole-v1").blocked is None


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Pendulum-v1"])
def test_bodies_move_with_their_state(name):
    tasks = families.fixed(name)
    key = jax.random.key(0)
    task = tasks.draw(key)
    state, obs = tasks.reset(task, key)
    still = scene(tasks)(task, state, obs)
    moved = scene(tasks)(task, jax.tree.map(lambda x: x + 0.3 if x.dtype == jnp.float32 else x, state), obs)
    assert np.any(np.asarray(still) != np.asarray(moved))
    assert np.asarray(still).shape == np.asarray(moved).shape


def test_what_cannot_be_drawn_is_left_out(tmp_path):
    trial = Trial(families.bernoulli_bandit(), Network(MLP((4,))))
    assert scene(trial.tasks) is None
    assert not film(trial, Contender("random", zoo.random(), ()), ((), ()), tmp_path / "bandit.gif")
    assert list(tmp_path.iterdir()) == []


def test_a_film_is_a_gif_with_a_caption(tmp_path):
    trial = Trial(families.catch(4, 3), Network(MLP((4,))), updates=1)
    random = Contender("random <b>", zoo.random(), ())
    agent = Lifetime(trial.tasks, random.rule, trial.network, 1, 1, 1).start((), jax.random.key(0))
    assert film(trial, random, (agent.task, agent.params), tmp_path / "agents" / "catch.gif")
    with Image.open(tmp_path / "agents" / "catch.gif") as gif:
        assert gif.format == "GIF"
        shown = 0
        for i in range(gif.n_frames):
            gif.seek(i)
            shown += gif.info["duration"]
        assert shown == STEPS * MILLISECONDS
        words = gif.info["comment"].decode()
    assert words.startswith(
        f"An agent that random <b> trained on {trial.name}, {STEPS} steps; episodes that end: 40, mean"
    )


def test_a_broken_agent_is_drawn_as_well(tmp_path):
    trial = Trial(families.navigation(), Network(MLP((4,))), updates=1)
    random = Contender("random", zoo.random(), ())
    agent = Lifetime(trial.tasks, random.rule, trial.network, 1, 1, 1).start((), jax.random.key(0))
    broken = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), agent.params)
    assert film(trial, random, (agent.task, broken), tmp_path / "lost.gif")


def test_returns_are_of_episodes_that_ended():
    played = Played((), np.zeros(6), np.array([1.0, 2, 3, 4, 5, 6]), np.array([0, 1, 0, 0, 1, 0], bool))
    np.testing.assert_array_equal(_returns(played), [3, 12])
    assert list(_so_far(played)) == [0, 1, 0, 3, 7, 0]
    assert len(_returns(played._replace(last=np.zeros(6, bool)))) == 0


def test_what_was_trained_is_watched_once(tmp_path, monkeypatch):
    curves = Curves(np.zeros((2, 5)), np.zeros(2), first=("task", "params"))
    monkeypatch.setattr("runs.transfer.train_agents", lambda *_: curves)
    seen = []
    for _ in range(2):
        compare(
            [Trial(families.catch(4, 3))], [Contender("random", zoo.random(), ())], 2, tmp_path, lambda *_: True,
            watch=lambda trial, contender, found: seen.append((trial.name, contender.name, found.first)),
        )  # fmt: skip
    assert seen == [("Catch-4x3", "random", ("task", "params"))]
