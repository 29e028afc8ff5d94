"""One thing that is known of a rule: numbers, a sentence that states them, and a figure."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from runs.durable import replace_file


class Relation(NamedTuple):
    """A function that was measured, for those who look for its formula.

    Attributes:
      inputs: by names that a formula can have, each `[n]`.
      output: `[n]`.
    """

    inputs: Mapping[str, np.ndarray]
    output: np.ndarray

    @classmethod
    def of(cls, output: np.ndarray, **axes: np.ndarray) -> "Relation":
        """Of an output on a grid `[y, x]`; `axes` are its coordinates in the order (y, x)."""
        mesh = np.meshgrid(*axes.values(), indexing="ij")
        return cls({name: x.ravel() for name, x in zip(axes, mesh, strict=True)}, output.ravel())


class Explanation(NamedTuple):
    """What is known of one part.

    Attributes:
      name: of the file, without ending.
      says: one sentence, with numbers; it travels inside the PNG.
      data: what is drawn.
      figure: the drawing.
      relation: of two or three numbers, where it is one.
    """

    name: str
    says: str
    data: Mapping[str, np.ndarray]
    figure: Figure
    relation: Relation | None = None

    def save(self, folder: Path) -> Path:
        """Writes `NAME.png`, with the sentence as its description."""
        folder.mkdir(parents=True, exist_ok=True)
        file, out = folder / f"{self.name}.png", io.BytesIO()
        self.figure.savefig(out, dpi=110, metadata={"Software": None, "Description": self.says})
        replace_file(file, out.getvalue())
        return file


def panels(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """A figure of equal panels, and their axes `[rows, columns]`."""
    figure = Figure(figsize=(3.7 * columns, 3.1 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def heat(axis: Any, x: np.ndarray, y: np.ndarray, z: np.ndarray, title: str, limit: float = 0.0) -> None:
    """A map of z `[y, x]`, white at zero; colours end at `limit`, or at the largest |z|."""
    limit = limit or float(np.max(np.abs(z))) or 1.0
    mesh = axis.pcolormesh(x, y, z, cmap="RdBu_r", vmin=-limit, vmax=limit, shading="nearest", rasterized=True)
    axis.figure.colorbar(mesh, ax=axis)
    axis.set_title(title, fontsize=10)


def bars(axis: Any, shares: Mapping[str, float], title: str = "output lost without an input") -> None:
    """What `without` found."""
    axis.barh(list(shares), list(shares.values()), color="#0072B2")
    axis.invert_yaxis()
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("RMS change / standard deviation")


def without(output: Callable[[dict[str, np.ndarray]], Any], inputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How far the output moves when one input is replaced by its mean, for each: an ablation.

    sqrt E[(f(x) - f(x with x_i = E x_i))^2] / std f(x);   0 where f is constant
    """
    usual = np.asarray(output(dict(inputs)))
    scale = float(usual.std())

    def moved(name: str) -> float:
        mean = inputs[name].mean(axis=tuple(range(min(2, inputs[name].ndim))), keepdims=True)
        there = np.asarray(output({**inputs, name: np.broadcast_to(mean, inputs[name].shape)}))
        return float(np.sqrt(np.mean((there - usual) ** 2)))

    return {name: moved(name) / scale if scale > 1e-12 else 0.0 for name in inputs}


def most(shares: Mapping[str, float]) -> str:
    """A clause on an ablation."""
    if not any(shares.values()):
        return "it depends on none of its inputs"
    name = max(shares, key=lambda name: shares[name])
    return f"it depends most on {name} (RMS change {shares[name]:.2f} of its standard deviation without it)"


def at(x: Sequence[float] | np.ndarray, value: float) -> int:
    """The index of the entry nearest to `value`."""
    return int(np.argmin(np.abs(np.asarray(x) - value)))
