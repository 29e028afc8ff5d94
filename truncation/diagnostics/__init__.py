"""Measuring bias and variance of gradient estimators instead of arguing about them."""

from truncation.diagnostics.agreement import Agreement, agreement
from truncation.diagnostics.attribution import Attribution, attribution
from truncation.diagnostics.bias import Answers, Bias, Case, answers, bias, truths
from truncation.diagnostics.lag_spectrum import Spectrum, lag_spectrum
from truncation.diagnostics.recommendation import Trial, best
from truncation.diagnostics.samples import Sampled, keys_of, repeated, sampled
from truncation.diagnostics.settings import changed, found
from truncation.diagnostics.stability import Stability, stability
from truncation.diagnostics.statistics import Measured, mean_of, product, squared_norm
from truncation.diagnostics.truth import Backprop, Exact, FiniteDifferences, Lifetimes, Smoothed, Truth

__all__ = [
    "Agreement",
    "Answers",
    "Attribution",
    "Backprop",
    "Bias",
    "Case",
    "Exact",
    "FiniteDifferences",
    "Lifetimes",
    "Measured",
    "Sampled",
    "Smoothed",
    "Spectrum",
    "Stability",
    "Trial",
    "Truth",
    "agreement",
    "answers",
    "attribution",
    "best",
    "bias",
    "changed",
    "found",
    "keys_of",
    "lag_spectrum",
    "mean_of",
    "product",
    "repeated",
    "sampled",
    "squared_norm",
    "stability",
    "truths",
]
