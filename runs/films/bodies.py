"""Bodies of classic control, as they move."""

from typing import Any

import numpy as np
from PIL import Image

from learned_rl.types import TaskFamily
from runs.figures import COLOURS
from runs.films.canvas import AGENT, WALL, Pixels, Scene, canvas, disc


def cart_pole(tasks: TaskFamily) -> Scene:
    """Half the pole is `length`, as in the environment's parameters."""

    def draw(task: Any, state: Any, obs: Pixels) -> Image.Image:
        picture, pen, to = canvas(2.4)
        x, angle, reach = float(state.x), float(state.theta), 2 * float(task.params.length)
        pen.line([to(-2.4, 0), to(2.4, 0)], fill=WALL)
        pen.rectangle([to(x - 0.3, 0.2), to(x + 0.3, -0.2)], fill=AGENT)
        pen.line([to(x, 0), to(x + reach * np.sin(angle), reach * np.cos(angle))], fill=COLOURS[0], width=4)
        return picture

    return draw


def acrobot(tasks: TaskFamily) -> Scene:
    """Two links that hang from a pivot; the goal is the line."""

    def draw(task: Any, state: Any, obs: Pixels) -> Image.Image:
        picture, pen, to = canvas(2.2)
        first, both = float(state.joint_angle1), float(state.joint_angle1 + state.joint_angle2)
        elbow = np.array([np.sin(first), -np.cos(first)])
        tip = elbow + np.array([np.sin(both), -np.cos(both)])
        pen.line([to(-2.2, 1), to(2.2, 1)], fill=COLOURS[3])
        pen.line([to(0, 0), to(*elbow), to(*tip)], fill=AGENT, width=5)
        disc(pen, to(*tip), 4, COLOURS[0])
        return picture

    return draw


def mountain_car(tasks: TaskFamily) -> Scene:
    """The valley is sin(3 x); the flag is the goal."""

    def draw(task: Any, state: Any, obs: Pixels) -> Image.Image:
        picture, pen, to = canvas(1.3)
        along = np.linspace(-1.2, 0.6, 60)
        pen.line([to(x + 0.3, np.sin(3 * x)) for x in along], fill=WALL, width=2)
        for x, colour in ((float(task.params.goal_position), COLOURS[3]), (float(state.position), AGENT)):
            disc(pen, to(x + 0.3, np.sin(3 * x) + 0.08), 5, colour)
        return picture

    return draw


def pendulum(tasks: TaskFamily) -> Scene:
    """Upright is the goal."""

    def draw(task: Any, state: Any, obs: Pixels) -> Image.Image:
        picture, pen, to = canvas(1.3)
        angle = float(state.theta)
        tip = to(np.sin(angle), np.cos(angle))
        pen.line([to(0, 0), tip], fill=AGENT, width=6)
        disc(pen, tip, 5, COLOURS[0])
        return picture

    return draw
