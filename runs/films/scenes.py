"""How environments look: one function each, from a task, an environment state and an observation to a picture.

To draw another environment, write its function and add a row to `BY_NAME` or `BY_TYPE`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Num
from PIL import Image, ImageColor

from learned_rl.goal_tasks import GoalGrid, Navigation
from learned_rl.grid_tasks import GridWorld, RandomGridWorld
from learned_rl.gymnax_tasks import GymnaxFamily
from learned_rl.rooms import Rooms, walls
from learned_rl.types import TaskFamily
from runs.figures import COLOURS
from runs.films.bodies import acrobot, cart_pole, mountain_car, pendulum
from runs.films.canvas import AGENT, FLOOR, SIZE, WALL, Pixels, Scene, canvas, disc


def scene(tasks: TaskFamily) -> Scene | None:
    """What draws these tasks; None if nothing does."""
    if isinstance(tasks, GymnaxFamily) and tasks.env_id in BY_NAME:
        return BY_NAME[tasks.env_id](tasks)
    for kind, make in BY_TYPE.items():
        if isinstance(tasks, kind):
            return make(tasks)
    return layers if len(tasks.obs_shape) in (2, 3) and min(tasks.obs_shape[:2]) > 1 else None


def layers(task: Any, state: Any, obs: Num[np.ndarray, "rows columns *channels"]) -> Image.Image:
    """Observations that are pictures: a colour a channel, the last one that is not 0 on top."""
    channels = np.moveaxis(obs if obs.ndim == 3 else obs[..., None], -1, 0)
    return cells(obs.shape[:2], [(layer != 0, COLOURS[i % len(COLOURS)]) for i, layer in enumerate(channels)])


def cells(shape: tuple[int, int], marked: Sequence[tuple[Bool[np.ndarray, "rows columns"], str]]) -> Image.Image:
    """A grid with some cells coloured, later ones on top."""
    small = np.full((*shape, 3), ImageColor.getrgb(FLOOR), np.uint8)
    for where, colour in marked:
        small[np.asarray(where, bool)] = ImageColor.getrgb(colour)
    scale = -(-SIZE // max(shape))
    return Image.fromarray(small).resize((shape[1] * scale, shape[0] * scale), Image.Resampling.NEAREST)


def at(shape: tuple[int, int], place: Num[np.ndarray, "..."]) -> Bool[np.ndarray, "rows columns"]:
    """One cell, by row and column, or by row * columns + column."""
    found = np.zeros(shape, bool)
    row, column = place if np.ndim(place) else divmod(int(place), shape[1])
    found[int(row), int(column)] = True
    return found


def map_of(tasks: GymnaxFamily) -> Scene:
    """gymnax's mazes."""
    blocked = np.asarray(tasks.blocked, bool)

    def draw(task: Any, state: Any, obs: Pixels) -> Image.Image:
        goal, agent = (at(blocked.shape, place) for place in (state.goal, state.pos))
        return cells(blocked.shape, [(blocked, WALL), (goal, COLOURS[3]), (agent, AGENT)])

    return draw


def grid_world(tasks: GridWorld) -> Scene:
    """Objects that pay are green, those that cost orange."""
    shape = (tasks.size, tasks.size)

    def draw(task: Any, state: Any, obs: Pixels) -> Image.Image:
        objects = [
            (at(shape, place), COLOURS[3] if reward > 0 else COLOURS[0])
            for place, reward, there in zip(state.places, task.reward, state.present, strict=True)
            if there
        ]
        return cells(shape, [(task.walls, WALL), *objects, (at(shape, state.place), AGENT)])

    return draw


def rooms(tasks: Rooms) -> Scene:
    """Four rooms; what is hidden stays so, and what the agent carries is told by its colour."""
    shape = (tasks.size, tasks.size)

    def draw(task: Any, state: Any, obs: Pixels) -> Image.Image:
        agent = (at(shape, state.place), (AGENT, *COLOURS[3:])[int(state.phase)])
        return cells(shape, [(walls(tasks.size), WALL), agent])

    return draw


def goal_grid(tasks: GoalGrid) -> Scene:
    """The goal, which the agent does not see, is green."""
    shape = (tasks.size, tasks.size)

    def draw(task: Any, state: Any, obs: Pixels) -> Image.Image:
        return cells(shape, [(at(shape, task), COLOURS[3]), (at(shape, state.position), AGENT)])

    return draw


def navigation(tasks: Navigation) -> Scene:
    """The plane; the goal, which the agent does not see, is green."""

    def draw(task: Any, state: Any, obs: Pixels) -> Image.Image:
        picture, pen, to = canvas(2 * tasks.half_width)
        for place, colour in ((task, COLOURS[3]), (state.position, AGENT)):
            disc(pen, to(*place), 5, colour)
        return picture

    return draw


BY_NAME: Mapping[str, Callable[[Any], Scene]] = {
    "Acrobot-v1": acrobot,
    "CartPole-v1": cart_pole,
    "FourRooms-misc": map_of,
    "MetaMaze-misc": map_of,
    "MountainCar-v0": mountain_car,
    "Pendulum-v1": pendulum,
}
BY_TYPE: Mapping[type, Callable[[Any], Scene]] = {  # the first that fits
    RandomGridWorld: grid_world,
    GridWorld: grid_world,
    Rooms: rooms,
    GoalGrid: goal_grid,
    Navigation: navigation,
}
