"""How a number that a long inner training run ends in is differentiated, and where the unroll is cut."""

from truncation.analytic import AnalyticPES
from truncation.backprop import TruncatedBackprop
from truncation.control_variate import ControlVariateES, Fitted
from truncation.controls import RunningMean, WindowGradient
from truncation.evolution import FullES, TruncatedES
from truncation.generalized import GeneralizedPES
from truncation.noise_reuse import NoiseReuseES
from truncation.persistent import PersistentES
from truncation.population import evaluate_population
from truncation.problem import Estimate, GradientEstimator, InnerProblem, Segment

__all__ = [
    "AnalyticPES",
    "ControlVariateES",
    "Estimate",
    "Fitted",
    "FullES",
    "GeneralizedPES",
    "GradientEstimator",
    "InnerProblem",
    "NoiseReuseES",
    "PersistentES",
    "RunningMean",
    "Segment",
    "TruncatedBackprop",
    "TruncatedES",
    "WindowGradient",
    "evaluate_population",
]
