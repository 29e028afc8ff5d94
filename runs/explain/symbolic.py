"""A formula with few terms: sparse least squares over declared functions, as many as cross-validation asks for.

(`searched` looks for the functions too, by PySR; that needs Julia, and takes minutes.)
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

POINTS, ENOUGH = 2000, 2e-3


class Fit(NamedTuple):
    """y = sum of coefficient x term; `r2` is cross-validated, 0 where the mean would do as well."""

    terms: dict[str, float]
    r2: float

    def __str__(self) -> str:
        return " ".join(f"{c:+.3g} {name}" for name, c in self.terms.items()) or "0"


def sparse_fit(
    columns: Mapping[str, Float[np.ndarray, " n"]], y: Float[np.ndarray, " n"], most: int = 5, folds: int = 5
) -> Fit:
    """Orthogonal matching pursuit: the term that lowers the squared error most, again and again, all refitted.

    The number of terms is the smallest whose R² on held-out folds (selection inside the others) is within 0.002 of the
    best.
    """
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(y))[:POINTS]
    x, y = np.stack([column[chosen] for column in columns.values()], axis=1).astype(float), y[chosen].astype(float)
    if np.ptp(y) == 0:
        return Fit({}, 0.0) if y[0] == 0 else Fit({"1": float(y[0])}, 0.0)
    fold = np.arange(len(y)) % folds
    errors = np.zeros(most + 1)
    for held_out in range(folds):
        there, rest = fold == held_out, fold != held_out
        errors[0] += np.sum((y[there] - y[rest].mean()) ** 2)
        for count, (picked, weights) in enumerate(_pursued(x[rest], y[rest], most), start=1):
            errors[count] += np.sum((y[there] - x[there][:, picked] @ weights) ** 2)
    r2 = 1 - errors[1:] / errors[0]
    count = int(np.argmax(r2 >= r2.max() - ENOUGH))
    picked, weights = _pursued(x, y, most)[count]
    names = list(columns)
    return Fit({names[i]: float(w) for i, w in zip(picked, weights, strict=True)}, float(r2[count]))


def _pursued(x: np.ndarray, y: np.ndarray, most: int) -> list[tuple[list[int], np.ndarray]]:
    """The chosen columns and their weights, with one term, two, ..., `most`."""
    picked: list[int] = []
    found = []
    for _ in range(most):

        def left(i: int) -> float:
            columns = x[:, [*picked, i]]  # noqa: B023 - used within this turn
            return float(np.sum((y - columns @ np.linalg.lstsq(columns, y)[0]) ** 2))

        picked = [*picked, min((i for i in range(x.shape[1]) if i not in picked), key=left)]
        found.append((picked, np.linalg.lstsq(x[:, picked], y)[0]))
    return found
