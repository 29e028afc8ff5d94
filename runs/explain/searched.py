"""A formula that was searched for, operators and all, by PySR (Cranmer 2023): the optional extra `pysr`, and Julia."""

import importlib
from typing import Any, NamedTuple

import numpy as np

from runs.explain.explanation import Relation

POINTS, HELD_OUT = 1000, 4
BINARY, UNARY = ("+", "-", "*", "/", "max", "min"), ("exp", "log", "tanh", "abs", "square")
LARGEST = 20  # nodes


class Formula(NamedTuple):
    """One of those that are the best of their size.

    Attributes:
      text: in the names of a relation's inputs.
      complexity: nodes.
      r2: on points that the search did not see; 0 where the mean would do as well.
      chosen: by PySR: of those nearly as exact as the best one, the one that gained most by its last nodes.
    """

    text: str
    complexity: int
    r2: float
    chosen: bool


def search(relation: Relation, seconds: float) -> list[Formula]:
    """The front of size against error, smallest first; deterministic but for where the time ends.

    Raises:
      ValueError: PySR is not installed, or has no Julia and cannot fetch one.
    """
    pysr = _pysr()
    rng = np.random.default_rng(0)
    drawn = rng.permutation(len(relation.output))[:POINTS]
    x = np.stack([column[drawn] for column in relation.inputs.values()], axis=1).astype(float)
    y = relation.output[drawn].astype(float)
    held_out = np.arange(len(y)) % HELD_OUT == 0
    model = pysr.PySRRegressor(
        binary_operators=list(BINARY),
        unary_operators=list(UNARY),
        maxsize=LARGEST,
        niterations=1_000_000,  # the clock decides
        timeout_in_seconds=seconds,
        random_state=0,
        deterministic=True,
        parallelism="serial",
        progress=False,
        verbosity=0,
        temp_equation_file=True,
    )
    model.fit(x[~held_out], y[~held_out], variable_names=list(relation.inputs))
    best = model.get_best().name
    total = np.sum((y[held_out] - y[~held_out].mean()) ** 2)

    def formula(index: int, text: str, complexity: int) -> Formula:
        error = np.sum((y[held_out] - model.predict(x[held_out], index=index)) ** 2)
        return Formula(text, int(complexity), float(1 - error / total) if total else 0.0, bool(index == best))

    rows = model.equations_
    return [formula(i, str(rows.equation[i]), rows.complexity[i]) for i in rows.index]


def _pysr() -> Any:
    try:
        return importlib.import_module("pysr")
    except ImportError as error:
        raise ValueError(f"formulas are searched for by PySR ({error}): pip install 'learned-rl[pysr]'") from error
    except (OSError, RuntimeError) as error:
        raise ValueError(f"PySR found no Julia and could not fetch one ({error})") from error
