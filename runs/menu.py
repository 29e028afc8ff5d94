"""Estimators by name, with sensible settings for a problem of given sizes: what `learned-rl bias` compares.

Each entry is a function, so that reading the names imports no jax. Recipes do not choose here: they hold an estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from truncation import GradientEstimator


class Sizes(NamedTuple):
    """What an entry chooses its settings by.

    Attributes:
      horizon: segments in a lifetime.
      window: segments per estimate.
      lives: how many live side by side.
      std: σ of perturbations.
      size: of theta.
      microbatch: lives that run at once (0: all).
    """

    horizon: int
    window: int
    lives: int
    std: float
    size: int
    microbatch: int = 0


class Entry(NamedTuple):
    """One estimator.

    Attributes:
      make: sizes -> estimator.
      price: sizes -> what a segment of one life costs, in forward passes: a backward pass counts as two, a tangent as
        one.
      windowed: whether it has a window to choose.
      perturbs: whether it has a std to choose.
    """

    make: Callable[[Sizes], GradientEstimator]
    price: Callable[[Sizes], float]
    windowed: bool = True
    perturbs: bool = False


def _backprop(at: Sizes) -> GradientEstimator:
    from truncation import TruncatedBackprop

    return TruncatedBackprop(at.horizon, at.window, at.lives, microbatch=at.microbatch)


def _truncated(at: Sizes) -> GradientEstimator:
    from truncation import TruncatedES

    return TruncatedES(at.horizon, at.window, at.lives, at.std, microbatch=at.microbatch)


def _persistent(at: Sizes) -> GradientEstimator:
    from truncation import PersistentES

    return PersistentES(at.horizon, at.window, at.lives, at.std, microbatch=at.microbatch)


def _reuse(at: Sizes) -> GradientEstimator:
    from truncation import NoiseReuseES

    return NoiseReuseES(at.horizon, at.window, at.lives, at.std, microbatch=at.microbatch)


def _full(at: Sizes) -> GradientEstimator:
    from truncation import FullES

    return FullES(at.horizon, at.lives, at.std, microbatch=at.microbatch)


def _generalized(at: Sizes) -> GradientEstimator:
    from truncation import GeneralizedPES

    # Half a lifetime, in whole windows.
    block = max(at.horizon // 2 // at.window, 1) * at.window
    return GeneralizedPES(at.horizon, at.window, at.lives, at.std, block, microbatch=at.microbatch)


def _controlled(at: Sizes) -> GradientEstimator:
    from truncation import ControlVariateES, NoiseReuseES

    return ControlVariateES(NoiseReuseES(at.horizon, at.window, at.lives, at.std, microbatch=at.microbatch))


def _analytic(at: Sizes) -> GradientEstimator:
    from truncation import AnalyticPES

    return AnalyticPES(at.horizon, at.window, at.lives, at.std, microbatch=at.microbatch)


def _by_lag(at: Sizes) -> GradientEstimator:
    from truncation import Geometric, LagBackprop

    # Lags as old as the window count e^-1.
    decay = 1 - 1 / max(at.window, 2)
    return LagBackprop(at.horizon, at.horizon, at.lives, Geometric(decay), microbatch=at.microbatch)


def _wiener(at: Sizes) -> GradientEstimator:
    from truncation import WienerTruncation

    return WienerTruncation(at.horizon, at.window, at.lives, microbatch=at.microbatch)


def _rtrl(at: Sizes) -> GradientEstimator:
    from truncation import RTRL

    return RTRL(at.horizon, at.window, at.lives, microbatch=at.microbatch)


def _uoro(at: Sizes) -> GradientEstimator:
    from truncation import UORO

    return UORO(at.horizon, at.window, at.lives, microbatch=at.microbatch)


def _forward(at: Sizes) -> GradientEstimator:
    from truncation import ForwardGradient

    return ForwardGradient(at.horizon, at.window, at.lives, microbatch=at.microbatch)


ESTIMATORS: Mapping[str, Entry] = {
    "TruncatedBackprop": Entry(_backprop, lambda at: 3),
    "TruncatedES": Entry(_truncated, lambda at: 1.5, perturbs=True),
    "PersistentES": Entry(_persistent, lambda at: 1, perturbs=True),
    "NoiseReuseES": Entry(_reuse, lambda at: 1, perturbs=True),
    "FullES": Entry(_full, lambda at: 1, windowed=False, perturbs=True),
    "GeneralizedPES": Entry(_generalized, lambda at: 1, perturbs=True),
    "ControlVariateES": Entry(_controlled, lambda at: 2.5, perturbs=True),
    "AnalyticPES": Entry(_analytic, lambda at: 2.5, perturbs=True),
    "LagBackprop": Entry(_by_lag, lambda at: 3, windowed=False),
    "WienerTruncation": Entry(_wiener, lambda at: 1 + 2 * (1 + at.window.bit_length())),
    "RTRL": Entry(_rtrl, lambda at: 1 + at.size),
    "UORO": Entry(_uoro, lambda at: 7),
    "ForwardGradient": Entry(_forward, lambda at: 2),
}
USUAL = ("TruncatedBackprop", "TruncatedES", "PersistentES", "NoiseReuseES", "FullES")
