"""How environments look: one function each, from a task, an environment state and an observation to a picture.

To draw another environment, write its function and add a row to `BY_NAME` or `BY_TYPE`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Num
from PIL import Image, ImageColor, ImageDraw

from learned_rl.goal_tasks import GoalGrid, Navigation
from learned_rl.grid_tasks import GridWorld, RandomGridWorld
from learned_rl.gymnax_tasks import GymnaxFamily
from learned_rl.rooms import Rooms, walls
from learned_rl.types import TaskFamily
from runs.figures import COLOURS

Pixels = Num[np.ndarray, "*obs"]
Scene = Callable[[Any, Any, Pixels], Image.Image]
SIZE = 160  # pixels, at least, of the longer side
FLOOR, WALL, AGENT = "#F4F4F4", "#4D4D4D", COLOURS[2]


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
        picture, pen, to = _canvas(2 * tasks.half_width)
        for place, colour in ((task, COLOURS[3]), (state.position, AGENT)):
            _disc(pen, to(*place), 5, colour)
        return picture

    return draw


def cart_pole(tasks: TaskFamily) -> Scene:
    """Half the pole is `length`, as in the environment's parameters."""

    def draw(task: Any, state: Any, obs: Pixels) -> Image.Image:
        picture, pen, to = _canvas(2.4)
        x, angle, reach = float(state.x), float(state.theta), 2 * float(task.params.length)
        pen.line([to(-2.4, 0), to(2.4, 0)], fill=WALL)
        pen.rectangle([to(x - 0.3, 0.2), to(x + 0.3, -0.2)], fill=AGENT)
        pen.line([to(x, 0), to(x + reach * np.sin(angle), reach * np.cos(angle))], fill=COLOURS[0], width=4)
        return picture

    return draw


def acrobot(tasks: TaskFamily) -> Scene:
    """Two links that hang from a pivot; the goal is the line."""

    def draw(task: Any, state: Any, obs: Pixels) -> Image.Image:
        picture, pen, to = _canvas(2.2)
        first, both = float(state.joint_angle1), float(state.joint_angle1 + state.joint_angle2)
        elbow = np.array([np.sin(first), -np.cos(first)])
        tip = elbow + np.array([np.sin(both), -np.cos(both)])
        pen.line([to(-2.2, 1), to(2.2, 1)], fill=COLOURS[3])
        pen.line([to(0, 0), to(*elbow), to(*tip)], fill=AGENT, width=5)
        _disc(pen, to(*tip), 4, COLOURS[0])
        return picture

    return draw


def mountain_car(tasks: TaskFamily) -> Scene:
    """The valley is sin(3 x); the flag is the goal."""

    def draw(task: Any, state: Any, obs: Pixels) -> Image.Image:
        picture, pen, to = _canvas(1.3)
        along = np.linspace(-1.2, 0.6, 60)
        pen.line([to(x + 0.3, np.sin(3 * x)) for x in along], fill=WALL, width=2)
        for x, colour in ((float(task.params.goal_position), COLOURS[3]), (float(state.position), AGENT)):
            _disc(pen, to(x + 0.3, np.sin(3 * x) + 0.08), 5, colour)
        return picture

    return draw


def pendulum(tasks: TaskFamily) -> Scene:
    """Upright is the goal."""

    def draw(task: Any, state: Any, obs: Pixels) -> Image.Image:
        picture, pen, to = _canvas(1.3)
        angle = float(state.theta)
        tip = to(np.sin(angle), np.cos(angle))
        pen.line([to(0, 0), tip], fill=AGENT, width=6)
        _disc(pen, tip, 5, COLOURS[0])
        return picture

    return draw


Point = Callable[[float, float], tuple[float, float]]


def _canvas(reach: float) -> tuple[Image.Image, ImageDraw.ImageDraw, Point]:
    """An empty picture, what draws in it, and where (x, y) is that are both within `reach` of 0, y pointing up."""
    picture = Image.new("RGB", (SIZE, SIZE), FLOOR)
    scale = SIZE / (2 * reach)
    return picture, ImageDraw.Draw(picture), lambda x, y: (SIZE / 2 + scale * float(x), SIZE / 2 - scale * float(y))


def _disc(pen: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, colour: str) -> None:
    x, y = centre
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)


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
