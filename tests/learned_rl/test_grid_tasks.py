"""Procedural grid worlds: what is drawn, what a step does, what the best episode is worth, that mazes hang together."""

import itertools
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl import families
from learned_rl.grid_tasks import GridState, GridTask, GridWorld, Kind, RandomGridWorld
from learned_rl.layouts import maze, open_floor
from learned_rl.samplers import Constant, IntegersIn, Uniform
from learned_rl.types import TaskFamily

KEY = jax.random.key(0)
STAY, UP, RIGHT, DOWN, LEFT = range(5)
FAMILIES = [
    families.grid_dense(5),
    families.grid_sparse(5),
    families.grid_long(5),
    families.grid_maze(5),
    families.grid_random(5, pay=(0.5, 1.0)),
]


@pytest.mark.parametrize("tasks", FAMILIES, ids=lambda tasks: tasks.name)
def test_a_family_keeps_the_protocol(tasks):
    assert isinstance(tasks, TaskFamily)
    task = jax.eval_shape(tasks.draw, KEY)
    state, obs = jax.eval_shape(tasks.reset, task, KEY)
    assert obs.shape == tasks.obs_shape
    following, out = jax.eval_shape(tasks.step, task, state, jnp.int32(1), KEY)
    assert jax.tree.structure(following) == jax.tree.structure(state)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(following), strict=True):
        assert (before.dtype, before.shape, before.weak_type, after.weak_type) == (
            after.dtype,
            after.shape,
            False,
            False,
        )
    assert (out.reward.dtype, out.discount.dtype, out.last.dtype) == (np.float32, np.float32, bool)
    assert out.next_obs.shape == tasks.obs_shape


def task_of(size, places, reward, ends=None, returns=None, length=50, start=0, walls=()):
    """A task by hand."""
    nothing = np.zeros(len(places), np.float32)
    wall = np.zeros(size**2, bool)
    wall[list(walls)] = True
    return GridTask(
        jnp.asarray(wall.reshape(size, size)),
        jnp.int32(start),
        jnp.asarray(places, jnp.int32),
        jnp.asarray(reward, jnp.float32),
        jnp.asarray(nothing if ends is None else ends, jnp.float32),
        jnp.asarray(nothing if returns is None else returns, jnp.float32),
        jnp.int32(length),
    )


def world(objects, size=4, kind=GridWorld):
    return kind(size, Constant(50), (Kind(Constant(1.0), count=objects),))


def walk(tasks, task, actions, key=KEY):
    """The states and steps that a sequence of actions brings."""

    @jax.jit
    def go(actions, keys):
        def step(state, inputs):
            state, out = tasks.step(task, state, *inputs)
            return state, (state, out)

        return jax.lax.scan(step, tasks.reset(task, key)[0], (actions, keys))[1]

    return jax.tree.map(np.asarray, go(jnp.array(actions), jax.random.split(key, len(actions))))


def test_walls_and_borders_turn_a_step_into_staying():
    task = task_of(4, [15], [1.0], walls=[1, 6])
    states, out = walk(world(1), task, [STAY, UP, LEFT, RIGHT, DOWN, RIGHT, RIGHT, DOWN, RIGHT, RIGHT, RIGHT])
    np.testing.assert_array_equal(states.place, [0, 0, 0, 0, 4, 5, 5, 9, 10, 11, 11])
    assert not out.reward.any()
    np.testing.assert_array_equal(states.time, np.arange(1, 12))


def test_an_object_pays_once_and_is_gone_and_the_observation_says_so():
    task = task_of(4, [1, 2], [0.5, -2.0])
    states, out = walk(world(2), task, [RIGHT, STAY, RIGHT, LEFT])
    np.testing.assert_array_equal(out.reward, [0.5, 0.0, -2.0, 0.0])
    np.testing.assert_array_equal(states.present, [[False, True], [False, True], [False, False], [False, False]])
    np.testing.assert_array_equal(out.next_obs.argmax(axis=1), [1 + 2 * 16, 1 + 2 * 16, 2, 1])
    np.testing.assert_array_equal(out.next_obs.sum(axis=1), 1)
    assert out.discount.all()
    assert not out.last.any()
    _, obs = world(2).reset(task, KEY)
    assert obs.argmax() == 3 * 16  # both are there


def test_objects_come_back_with_their_chance_and_not_in_the_step_that_takes_them():
    sure = task_of(4, [1], [1.0], returns=[1.0])
    states, out = walk(world(1), sure, [RIGHT, STAY, STAY, STAY])
    np.testing.assert_array_equal(out.reward, [1, 0, 1, 0])  # taken; it comes back; taken by staying; it comes back
    np.testing.assert_array_equal(states.present[:, 0], [False, True, False, True])
    task = task_of(4, [15], [1.0], returns=[0.3])
    gone = GridState(jnp.int32(0), task.places, jnp.zeros(1, bool), jnp.int32(0))
    back = jax.jit(jax.vmap(lambda key: world(1).step(task, gone, STAY, key)[0].present))(jax.random.split(KEY, 4000))
    assert abs(np.mean(back) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)


def test_an_object_ends_the_episode_with_its_chance_and_the_time_limit_cuts_it():
    sure = task_of(4, [1], [1.0], ends=[1.0])
    _, out = walk(world(1), sure, [STAY, RIGHT])
    np.testing.assert_array_equal(out.discount, [1, 0])
    np.testing.assert_array_equal(out.last, [False, True])
    maybe = task_of(4, [1], [1.0], ends=[0.7])
    state = world(1).reset(maybe, KEY)[0]
    one = jax.jit(jax.vmap(lambda key: world(1).step(maybe, state, RIGHT, key)[1]))(jax.random.split(KEY, 4000))
    assert abs(np.mean(one.discount) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)
    np.testing.assert_array_equal(one.last, one.discount == 0)
    _, cut = walk(world(1), task_of(4, [15], [1.0], length=3), [STAY] * 3)
    np.testing.assert_array_equal(cut.last, [False, False, True])
    assert cut.discount.all()
    _, both = walk(world(1), task_of(4, [1], [1.0], ends=[1.0], length=2), [STAY, RIGHT])
    assert (both.discount[-1], both.last[-1]) == (0, True)


def draws(tasks, count=400):
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(tasks.draw))(jax.random.split(KEY, count)))


def test_lives_differ_in_places_worth_and_time_limit_as_declared():
    kinds = (Kind(Uniform(0.5, 1.0), Uniform(0.1, 0.2), Constant(0.25), count=2), Kind(Constant(-1.0)))
    tasks = GridWorld(6, IntegersIn(7, 9), kinds)
    task = draws(tasks)
    np.testing.assert_array_equal(task.reward[:, 0], task.reward[:, 1])  # of one kind
    for values, low, high in ((task.reward[:, 0], 0.5, 1.0), (task.ends[:, 0], 0.1, 0.2)):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() < high
        assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / 12**0.5 / 20
    assert abs(np.corrcoef(task.reward[:, 0], task.ends[:, 0])[0, 1]) < 0.2
    np.testing.assert_array_equal(task.returns, np.tile([0.25, 0.25, 0.0], (400, 1)))
    np.testing.assert_array_equal(task.reward[:, 2], -1)
    assert set(task.length.tolist()) == {7, 8, 9}
    cells = np.concatenate([task.start[:, None], task.places], axis=1)
    assert all(len({*row}) == 4 for row in cells.tolist())
    for column in cells.T:
        expected = 400 / 36
        counts = np.bincount(column, minlength=36)
        assert ((counts - expected) ** 2 / expected).sum() < 66.6  # chi-squared, 35 degrees of freedom, 0.001


def reachable(walls, start):
    free, queue = {tuple(cell) for cell in np.argwhere(~walls)}, deque([start])
    seen = {start}
    while queue:
        row, column = queue.popleft()
        for cell in ((row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1)):
            if cell in free - seen:
                seen.add(cell)
                queue.append(cell)
    return seen == free


def test_mazes_are_trees_and_every_life_has_its_own():
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: maze(key, 7)))(jax.random.split(KEY, 200)))
    for walls in drawn:
        assert reachable(walls, (0, 0))
        assert (~walls).sum() == 16 + 15  # rooms, and one passage fewer: no way around
        assert not walls[::2, ::2].any()
        assert walls[1::2, 1::2].all()
    assert len(np.unique(drawn.reshape(200, -1), axis=0)) > 190
    # Passages of the border lie on as many trees as those of the opposite border.
    opened = (~drawn).mean(axis=0)
    assert np.abs(opened - opened[::-1]).max() < 0.2
    assert not open_floor(KEY, 4).any()


def test_objects_of_a_maze_are_where_one_can_get():
    task = draws(families.grid_maze(7), 100)
    for walls, start, places in zip(task.walls, task.start, task.places, strict=True):
        assert not walls.ravel()[[start, *places]].any()


def best_by_trying(tasks, task, length):
    """The largest return over every sequence of actions; for tasks without chance."""
    sequences = jnp.asarray(list(itertools.product(range(5), repeat=length)))

    def total(actions):
        def step(carry, action):
            state, alive = carry
            state, out = tasks.step(task, state, action, KEY)
            return (state, alive * (1.0 - out.last)), alive * out.reward

        return jax.lax.scan(step, (tasks.reset(task, KEY)[0], 1.0), actions)[1].sum()

    return float(jax.jit(jax.vmap(total))(sequences).max())


@pytest.mark.parametrize(
    "given",
    [
        dict(places=[5, 3], reward=[1.0, 0.6]),
        dict(places=[1, 4], reward=[-1.0, -2.0]),  # nothing is worth it
        dict(places=[1, 2], reward=[-0.5, 1.0], walls=[4]),  # through what costs to what pays
        dict(places=[1, 2], reward=[0.4, 1.0], ends=[1.0, 0.0]),  # around what ends it
        dict(places=[1, 7], reward=[0.3, 1.0], returns=[1.0, 0.0]),  # again and again
    ],
)
def test_the_best_return_is_that_of_the_best_sequence_where_nothing_is_by_chance(given):
    tasks, task = world(2), task_of(4, **given, length=5)
    assert float(jax.jit(tasks.best_return)(task)) == pytest.approx(best_by_trying(tasks, task, 5), abs=1e-6)


def test_the_best_return_with_chance_by_hand():
    """A corner of two cells: stay beside an object that pays 1, comes back with 1/2, and ends it with 1/4."""
    task = task_of(4, [1], [1.0], ends=[0.25], returns=[0.5], length=3, walls=[4, 2, 5])
    # V_1 = (there: 1, gone: 0), V_2 = (1 + 3/4 * 0, 1/2), V_3(there) = max(1 + 3/4 * V_2(gone), V_2(there))
    assert float(world(1).best_return(task)) == pytest.approx(1 + 0.75 * 0.5)


def best_by_recursion(task, size, left, place, present):
    """The definition, outcome by outcome."""
    if left == 0:
        return 0.0
    values = []
    for row, column in ((0, 0), (-1, 0), (0, 1), (1, 0), (0, -1)):
        r, c = place // size + row, place % size + column
        inside = 0 <= r < size and 0 <= c < size and not task.walls[r, c]
        to = r * size + c if inside else place
        taken = [there and where == to for there, where in zip(present, task.places, strict=True)]
        value = sum(pay for pay, took in zip(task.reward, taken, strict=True) if took)
        go_on = np.prod([1 - end for end, took in zip(task.ends, taken, strict=True) if took])
        for following in itertools.product((False, True), repeat=len(present)):
            chances = [
                float(not now) if took else float(now) if there else chance if now else 1 - chance
                for now, took, there, chance in zip(following, taken, present, task.returns, strict=True)
            ]
            if (chance := go_on * np.prod(chances)) > 0:
                value += chance * best_by_recursion(task, size, left - 1, to, following)
        values.append(value)
    return max(values)


def test_the_best_return_is_its_definition_with_every_kind_of_chance():
    task = task_of(4, [1, 5], [1.0, 0.7], ends=[0.2, 0.1], returns=[0.3, 0.5], length=4, walls=[2])
    expected = best_by_recursion(jax.tree.map(np.asarray, task), 4, 4, 0, (True, True))
    assert float(jax.jit(world(2).best_return)(task)) == pytest.approx(expected, rel=1e-5)


def test_random_objects_are_seen_and_come_back_elsewhere():
    kinds = (Kind(Constant(1.0), returns=Constant(1.0), count=2), Kind(Constant(-1.0), returns=Constant(1.0)))
    tasks = RandomGridWorld(5, Constant(50), kinds, maze)
    task = tasks.draw(KEY)
    states, out = walk(tasks, task, np.asarray(jax.random.randint(KEY, (300,), 0, 5)))
    pictures = out.next_obs
    np.testing.assert_array_equal(pictures[..., 1], np.broadcast_to(task.walls, (300, 5, 5)))
    for place, places, present, picture in zip(states.place, states.places, states.present, pictures, strict=True):
        assert picture[..., 0].ravel().nonzero()[0].tolist() == [place]
        assert {*picture[..., 2].ravel().nonzero()[0]} == {*places[:2][present[:2]]}
        assert {*picture[..., 3].ravel().nonzero()[0]} == {*places[2:][present[2:]]}
        assert len({*places.tolist()}) == 3
        assert not task.walls.ravel()[places].any()
    taken = ~states.present
    assert taken.sum() > 5
    moved = states.places[1:] != states.places[:-1]
    np.testing.assert_array_equal(moved, taken[:-1])  # it comes back at once, never where it was
    begins = jax.vmap(lambda key: tasks.reset(task, key)[0])(jax.random.split(KEY, 50))
    assert len(np.unique(np.asarray(begins.places), axis=0)) > 40
    with pytest.raises(NotImplementedError, match="enumerated"):
        tasks.best_return(task)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(size=1), "size"),
        (dict(kinds=()), "objects"),
        (dict(kinds=(Kind(Constant(1.0), count=0),)), "objects"),
        (dict(size=4, layout=maze), "odd"),
        (dict(kinds=(Kind(Constant(1.0), count=9),)), "too many"),
    ],
)
def test_impossible_grids_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GridWorld(**(dict(size=5, length=Constant(9), kinds=(Kind(Constant(1.0)),)) | options))
