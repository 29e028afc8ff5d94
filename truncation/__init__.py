"""How a number that a long inner training run ends in is differentiated, and where the unroll is cut."""

from truncation.analytic import AnalyticPES
from truncation.backprop import TruncatedBackprop
from truncation.control_variate import ControlVariateES
from truncation.controlled import Fitted
from truncation.controls import RunningMean, WindowGradient
from truncation.credit import (
    AnticipatedReweighted,
    Averaged,
    Geometric,
    RussianRoulette,
    SingleSample,
    Sliding,
    Windowed,
)
from truncation.evolution import FullES, TruncatedES
from truncation.forward import RTRL, UORO, ForwardGradient
from truncation.generalized import GeneralizedPES
from truncation.implicit import ImplicitBackprop, Krylov, Neumann
from truncation.lag_backprop import LagBackprop
from truncation.mixing import InverseVariance
from truncation.noise_reuse import NoiseReuseES
from truncation.persistent import PersistentES
from truncation.population import evaluate_population
from truncation.problem import Estimate, GradientEstimator, InnerProblem, Segment
from truncation.tail import ResidualES
from truncation.weighing import BestProgress, Calibrated, LeastError, unbiased
from truncation.wiener import WienerTruncation

__all__ = [
    "RTRL",
    "UORO",
    "AnalyticPES",
    "AnticipatedReweighted",
    "Averaged",
    "BestProgress",
    "Calibrated",
    "ControlVariateES",
    "Estimate",
    "Fitted",
    "ForwardGradient",
    "FullES",
    "GeneralizedPES",
    "Geometric",
    "GradientEstimator",
    "ImplicitBackprop",
    "InnerProblem",
    "InverseVariance",
    "Krylov",
    "LagBackprop",
    "LeastError",
    "Neumann",
    "NoiseReuseES",
    "PersistentES",
    "ResidualES",
    "RunningMean",
    "RussianRoulette",
    "Segment",
    "SingleSample",
    "Sliding",
    "TruncatedBackprop",
    "TruncatedES",
    "WienerTruncation",
    "WindowGradient",
    "Windowed",
    "evaluate_population",
    "unbiased",
]
