"""Grids of settings that hand-designed rules are tuned on, and how a setting is put into a rule."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from learned_rl.types import Rule
from runs.errors import ConfigurationError, UsageError, nearest
from runs.overrides import flatten

Setting = tuple[float, ...]  # one value for each axis of a grid


@dataclass(frozen=True)
class Grid:
    """Values to choose among.

    Whole numbers decide shapes and loops, so each is a program of its own; all other numbers are fed to one program.

    Attributes:
      axes: pairs of a dotted path in the rule and the values it may take.
    """

    axes: tuple[tuple[str, tuple[float, ...]], ...]

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(path for path, _ in self.axes)

    def settings(self, rule: Rule) -> list[Setting]:
        """The rule's own setting, and the rest of the grid in a fixed shuffled order.

        Raises:
          ConfigurationError: the rule has no such setting.
        """
        own = tuple(_read(rule, path) for path in self.paths)
        grid = list(itertools.product(*(values for _, values in self.axes)))
        order = np.random.default_rng(0).permutation(len(grid))
        return [own, *(grid[i] for i in order if grid[i] != own)]


GRIDS: Mapping[str, Grid] = {
    "a2c": Grid(
        (
            ("coefficients.learning_rate", (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
            ("coefficients.entropy", (0.0, 0.01, 0.05)),
            ("coefficients.trace", (0.8, 0.95, 1.0)),
            ("optimizer.b1", (0.0, 0.9)),
            ("optimizer.b2", (0.99, 0.999)),
        )
    ),
    "ppo": Grid(
        (
            ("coefficients.learning_rate", (3e-4, 1e-3, 3e-3, 1e-2)),
            ("coefficients.entropy", (0.0, 0.01, 0.05)),
            ("coefficients.trace", (0.8, 0.95)),
            ("coefficients.clip", (0.1, 0.2)),
            ("optimizer.b2", (0.99, 0.999)),
            ("epochs", (4, 8)),
        )
    ),
}


def check_grid(name: str) -> None:
    """Raises a UsageError with the nearest names if no grid is declared for the built-in rule `name`."""
    if name not in GRIDS:
        hint = nearest(name, GRIDS)
        raise UsageError(
            f"no grid is declared for {name!r}; {hint + '; ' if hint else ''}there are: {', '.join(GRIDS)}"
        )


def fed(settings: Any, paths: Sequence[str], values: Sequence[Any]) -> Any:
    """`settings` with other values, traced ones included, at dotted paths."""
    for path, value in zip(paths, values, strict=True):
        name, _, rest = path.partition(".")
        settings = replace(settings, **{name: fed(getattr(settings, name), [rest], [value]) if rest else value})
    return settings


def _read(rule: Rule, path: str) -> float:
    value: Any = rule
    for name in path.split("."):
        if not hasattr(value, name):
            known = ", ".join(flatten(rule))
            raise ConfigurationError(f"grid: {type(rule).__name__} has no setting {path!r}; it has: {known}")
        value = getattr(value, name)
    return value
