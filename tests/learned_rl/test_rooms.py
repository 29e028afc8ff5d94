"""Four rooms, by hand: where one can go, what pays, what ends an episode, and what the best episode is worth."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl import families
from learned_rl.rooms import EmptyRooms, KeyBox, RandomABC, walls
from learned_rl.types import TaskFamily

KEY = jax.random.key(0)
UP, RIGHT, DOWN, LEFT = range(4)
PAY = np.array([0.7, -0.4, 0.3], np.float32)
# From the corner of the first room, on the grid of side 5, to the objects in the other rooms' far corners.
TO_A = [DOWN, RIGHT, RIGHT, RIGHT, UP, RIGHT]
TO_C = [DOWN, RIGHT, DOWN, DOWN, LEFT, DOWN]
TO_B = [DOWN, RIGHT, RIGHT, RIGHT, DOWN, DOWN, RIGHT, DOWN]
FAMILIES = [families.empty_rooms(), families.random_abc(7, 40), families.key_box()]


def walk(tasks, task, actions):
    """What a sequence of actions brings, as lists: rewards, discounts, lasts, places, phases."""

    @jax.jit
    def go(actions):
        def step(state, action):
            state, out = tasks.step(task, state, action, KEY)
            return state, (out.reward, out.discount, out.last, state.place, state.phase, out.next_obs)

        return jax.lax.scan(step, tasks.reset(task, KEY)[0], actions)[1]

    return [np.asarray(x) for x in go(jnp.array(actions))]


def test_the_rooms_of_the_smallest_grid():
    rows = ["".join("#" if wall else "." for wall in row) for row in walls(5)]
    assert rows == ["..#..", ".....", "#.#.#", ".....", "..#.."]
    assert ["".join("#" if wall else "." for wall in row) for row in walls(9)][4] == "##.###.##"


@pytest.mark.parametrize("tasks", FAMILIES, ids=lambda tasks: tasks.name)
def test_a_family_keeps_the_protocol(tasks):
    assert isinstance(tasks, TaskFamily)
    task = jax.jit(tasks.draw)(KEY)
    state, obs = tasks.reset(task, KEY)
    assert obs.shape == tasks.obs_shape
    following, out = jax.eval_shape(tasks.step, task, state, jnp.int32(1), KEY)
    assert jax.tree.structure(following) == jax.tree.structure(state)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(following), strict=True):
        assert (before.dtype, before.shape, after.weak_type) == (after.dtype, after.shape, False)
    assert (out.reward.dtype, out.discount.dtype, out.last.dtype) == (np.float32, np.float32, bool)
    assert out.next_obs.shape == tasks.obs_shape
    tasks_of_lives = jax.vmap(tasks.draw)(jax.random.split(KEY, 5))
    assert len(np.unique(tasks_of_lives, axis=0)) > 1


def test_nobody_walks_through_walls():
    """Every step of a long random walk is to a free neighbour, or nowhere, and then there was a wall."""
    tasks = families.random_abc(7, 10_000)
    actions = np.asarray(jax.random.randint(KEY, (2000,), 0, 4))
    places = walk(tasks, jnp.zeros(3), actions)[3]
    before = np.concatenate([[0], places[:-1]])
    wall = np.pad(walls(7), 1, constant_values=True)
    moves = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])[actions]
    to = np.stack(np.divmod(before, 7), axis=1) + moves
    blocked = wall[to[:, 0] + 1, to[:, 1] + 1]
    np.testing.assert_array_equal(places, np.where(blocked, before, to[:, 0] * 7 + to[:, 1]))
    assert len(np.unique(places)) == (~walls(7)).sum()


@pytest.mark.parametrize(("path", "pay"), [(TO_A, 0.7), (TO_B, -0.4), (TO_C, 0.3)], ids=["A", "B", "C"])
def test_the_first_object_pays_and_terminates(path, pay):
    rewards, discounts, lasts, *_ = walk(families.random_abc(), jnp.asarray(PAY), path)
    np.testing.assert_allclose(rewards, [*[0.0] * (len(path) - 1), pay], rtol=1e-6)
    np.testing.assert_array_equal(discounts, [*[1.0] * (len(path) - 1), 0.0])
    np.testing.assert_array_equal(lasts, [*[False] * (len(path) - 1), True])


def test_a_time_limit_cuts_and_does_not_terminate():
    tasks = families.random_abc(5, len(TO_A))
    _, discounts, lasts, *_ = walk(tasks, jnp.asarray(PAY), [UP] * len(TO_A))
    np.testing.assert_array_equal(discounts, np.ones(len(TO_A)))
    np.testing.assert_array_equal(lasts, [*[False] * (len(TO_A) - 1), True])
    # Both at once: it terminated.
    _, discounts, lasts, *_ = walk(tasks, jnp.asarray(PAY), TO_A)
    assert (discounts[-1], lasts[-1]) == (0.0, True)


def test_a_box_opens_to_who_has_the_key_and_the_key_is_paid_for_once():
    tasks = families.key_box()
    rewards, discounts, _, places, phases, obs = walk(tasks, jnp.asarray(PAY), TO_A)
    assert not rewards.any()
    assert discounts.all()
    np.testing.assert_array_equal(phases, 0)
    fetch = [RIGHT, LEFT, RIGHT, UP, LEFT]  # there, back, there again, against the wall, back
    rewards, discounts, lasts, places, phases, obs = walk(tasks, jnp.asarray(PAY), [*fetch, *TO_A])
    np.testing.assert_allclose(rewards, [-0.1, *[0.0] * (len(fetch) + len(TO_A) - 2), 0.7], rtol=1e-6)
    np.testing.assert_array_equal(phases, 1)
    assert (discounts[-1], lasts[-1], discounts[:-1].all()) == (0.0, True, True)
    np.testing.assert_array_equal(obs.argmax(axis=1), 25 + places)  # what one carries can be seen
    # The next episode begins without it.
    assert tasks.reset(jnp.asarray(PAY), KEY)[0].phase == 0


def test_permuted_actions_are_the_same_rooms():
    order = (2, 0, 3, 1)
    path = [order[direction] for direction in TO_A]
    rewards, *_ = walk(RandomABC(order=order), jnp.asarray(PAY), path)
    np.testing.assert_allclose(rewards[-1], 0.7, rtol=1e-6)


def test_the_goal_of_empty_rooms_is_anywhere_but_at_the_start():
    tasks = families.empty_rooms()
    goals = np.asarray(jax.vmap(tasks.draw)(jax.random.split(KEY, 500)))
    assert set(goals.tolist()) == set(np.flatnonzero(~walls(5).ravel()).tolist()) - {0}
    rewards, discounts, *_ = walk(tasks, jnp.int32(4), TO_A)
    np.testing.assert_array_equal(rewards, [0, 0, 0, 0, 0, 1])
    assert discounts[-1] == 0


def test_values_are_drawn_where_they_are_said_to_be():
    drawn = np.asarray(jax.vmap(families.random_abc().draw)(jax.random.split(KEY, 2000)))
    for values, low, high in zip(drawn.T, (-1, -0.5, 0), (1, 0, 0.5), strict=True):
        assert low <= values.min() < low + 0.02
        assert high - 0.02 < values.max() < high
        assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / 12**0.5 / 2000**0.5


def shortest(size, start, goal, closed=()):
    """Steps from one place to another that avoid some, by breadth-first search; infinite if there is no way."""
    wall, distance, queue = walls(size), {start: 0}, deque([start])
    while queue:
        place = queue.popleft()
        row, column = divmod(place, size)
        for r, c in ((row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1)):
            to = r * size + c
            if 0 <= r < size and 0 <= c < size and not wall[r, c] and to not in distance and to not in closed:
                distance[to] = distance[place] + 1
                queue.append(to)
    return distance.get(goal, np.inf)


@pytest.mark.parametrize("length", [5, 7, 9, 12, 30])
def test_the_best_return_is_that_of_the_shortest_paths(length):
    """Of every object that can be reached in time, going around the others; or of doing nothing."""
    pays = np.asarray(jax.vmap(RandomABC().draw)(jax.random.split(KEY, 20)))
    objects, box = RandomABC(5, length), KeyBox(5, length)
    corners = objects.corners
    reached = [shortest(5, 0, o, set(corners) - {o}) for o in corners]
    with_key = [shortest(5, 0, box.key_place) + shortest(5, box.key_place, o, set(corners) - {o}) for o in corners]
    for tasks, steps, cost in ((objects, reached, 0.0), (box, with_key, 0.1)):
        found = jax.jit(jax.vmap(tasks.best_return))(pays)
        in_time = np.where(np.array(steps) <= length, pays - cost, -np.inf)
        np.testing.assert_allclose(found, np.maximum(in_time.max(axis=1), 0.0), rtol=1e-5, atol=1e-6)


def test_the_best_return_of_empty_rooms_is_1_where_the_goal_is_in_reach():
    tasks = EmptyRooms(5, 7)
    goals = np.flatnonzero(~walls(5).ravel())[1:]
    found = jax.jit(jax.vmap(tasks.best_return))(jnp.asarray(goals, jnp.int32))
    np.testing.assert_array_equal(found, [shortest(5, 0, goal) <= 7 for goal in goals])


@pytest.mark.parametrize("options", [{"size": 4}, {"size": 3}, {"length": 0}, {"order": (0, 1, 2, 2)}])
def test_impossible_rooms_are_refused(options):
    with pytest.raises(ValueError, match=r"size|order"):
        RandomABC(**options)
