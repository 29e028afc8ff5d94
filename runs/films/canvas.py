"""What scenes are drawn on, and with."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Num
from PIL import Image, ImageDraw

from runs.figures import COLOURS

Pixels = Num[np.ndarray, "*obs"]
Scene = Callable[[Any, Any, Pixels], Image.Image]  # of a task, an environment state and an observation
SIZE = 160  # pixels, at least, of the longer side
FLOOR, WALL, AGENT = "#F4F4F4", "#4D4D4D", COLOURS[2]
Point = Callable[[float, float], tuple[float, float]]


def canvas(reach: float) -> tuple[Image.Image, ImageDraw.ImageDraw, Point]:
    """An empty picture, what draws in it, and where (x, y) is that are both within `reach` of 0, y pointing up."""
    picture = Image.new("RGB", (SIZE, SIZE), FLOOR)
    scale = SIZE / (2 * reach)
    return picture, ImageDraw.Draw(picture), lambda x, y: (SIZE / 2 + scale * float(x), SIZE / 2 - scale * float(y))


def disc(pen: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, colour: str) -> None:
    x, y = centre
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
