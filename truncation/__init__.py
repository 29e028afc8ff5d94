"""How a number that a long inner training run ends in is differentiated, and where the unroll is cut."""

from truncation.backprop import TruncatedBackprop
from truncation.evolution import FullES, TruncatedES
from truncation.noise_reuse import NoiseReuseES
from truncation.persistent import PersistentES
from truncation.population import evaluate_population
from truncation.problem import Estimate, GradientEstimator, InnerProblem, Segment

__all__ = [
    "Estimate",
    "FullES",
    "GradientEstimator",
    "InnerProblem",
    "NoiseReuseES",
    "PersistentES",
    "Segment",
    "TruncatedBackprop",
    "TruncatedES",
    "evaluate_population",
]
