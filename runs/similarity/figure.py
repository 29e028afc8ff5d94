"""Figures of similarity: a heat map of every distance, and transfer over distance."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from runs.similarity.study import Measured

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "os^Dvp"


def heat(name: str, measured: Measured, path: Path) -> None:
    """Every distance of one set of tasks, and the transfer, as matrices: rows are where agents come from."""
    panels = {**measured.distances, "gain": measured.gain}
    figure = Figure(figsize=(3.3 * len(panels) + 1.5, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axis, (title, matrix) in zip(axes, panels.items(), strict=True):
        limit = {"vmin": -np.nanmax(np.abs(matrix)), "vmax": np.nanmax(np.abs(matrix))} if title == "gain" else {}
        image = axis.imshow(matrix, cmap="RdBu" if title == "gain" else "viridis", **limit)
        axis.set_title("transfer (gain)" if title == "gain" else f"distance: {title}", fontsize=10)
        axis.set_xticks(range(len(measured.names)), measured.names, rotation=60, ha="right", fontsize=8)
        axis.set_yticks(range(len(measured.names)), measured.names, fontsize=8)
        axis.set_xlabel("to")
        figure.colorbar(image, ax=axis, shrink=0.6)
    axes[0].set_ylabel("from")
    figure.suptitle(name)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def scatter(sets: Mapping[str, Measured], summary: Mapping[str, str], path: Path) -> None:
    """Transfer over every distance, a colour a set of tasks, a point an ordered pair."""
    names = list(next(iter(sets.values())).distances)
    figure = Figure(figsize=(4.1 * len(names), 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, len(names), sharey=True))
    for axis, name in zip(axes, names, strict=True):
        for number, (label, measured) in enumerate(sets.items()):
            d, gain = off_diagonal(measured.distances[name]), off_diagonal(measured.gain)
            style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            axis.scatter(d / np.nanmax(d), gain, s=22, alpha=0.7, lw=0, label=label, **style)
        axis.axhline(0, color="0.8", lw=1, zorder=0)
        axis.set_title(f"{name}\n{summary[name]}", fontsize=10)
        axis.set_xlabel("distance / largest of its set")
    axes[0].set_ylabel("gain of agents that come from another task")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(sets))
    figure.savefig(path, dpi=120, metadata={"Software": None})


def off_diagonal(matrix: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " pairs"]:
    """Of ordered pairs of different tasks, row by row."""
    return matrix[~np.eye(len(matrix), dtype=bool)]
