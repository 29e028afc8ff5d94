"""Seconds per estimate of every gradient estimator on one small problem, with the same lives and segments.

The ratio is to truncated evolution strategies, the cheapest that uses windows. Full evolution strategies live a whole
lifetime per estimate where the others live one window, so its row is divided by windows per lifetime as well.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax

from learned_rl.families import catch
from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.rules.lpg import LPG
from meta_objectives.problem import MetaProblem
from meta_objectives.validation import PolicyGradientSurrogate
from runs.benchmarks.timing import Row, compiled, in_turns
from truncation import FullES, GradientEstimator, NoiseReuseES, PersistentES, TruncatedBackprop, TruncatedES

HORIZON, WINDOW, LIVES, STD = 8, 2, 8, 0.1
NETWORK = Network(MLP((16,)))
RULE = LPG(predictions=8, hidden=16)
PROBLEM = MetaProblem(Lifetime(catch(), RULE, NETWORK, 8, 16, 2 * HORIZON), PolicyGradientSurrogate(critic=NETWORK), 2)

ESTIMATORS: dict[str, GradientEstimator] = {
    "TruncatedES": TruncatedES(HORIZON, WINDOW, LIVES, STD),
    "PersistentES": PersistentES(HORIZON, WINDOW, LIVES, STD),
    "NoiseReuseES": NoiseReuseES(HORIZON, WINDOW, LIVES, STD),
    "FullES": FullES(HORIZON, LIVES, STD),
    "TruncatedBackprop": TruncatedBackprop(HORIZON, WINDOW, LIVES),
    "TruncatedBackprop, remat": TruncatedBackprop(HORIZON, WINDOW, LIVES, remat=True),
}


def measure(rounds: int) -> Iterator[Row]:
    """One row an estimator; peers' estimators would be further entries of the same dictionary of contenders."""
    contenders, compile_seconds = {}, {}
    for name, estimator in ESTIMATORS.items():
        contenders[name], compile_seconds[name] = _estimate(estimator)
    timed = in_turns(contenders, rounds)
    for name, t in timed.items():
        windows = HORIZON // WINDOW if name == "FullES" else 1
        ratio = t.speedup_of(timed["TruncatedES"]) / windows
        details = {"segments": windows * WINDOW * LIVES, "compile_seconds": compile_seconds[name]}
        yield Row(name, 1e3 * t.median, "ms/estimate", ratio, details=details)


def _estimate(estimator: GradientEstimator) -> tuple[Callable[[], Any], float]:
    theta, key = RULE.init(jax.random.key(0)), jax.random.key(1)
    state = jax.jit(lambda theta, key: estimator.init(PROBLEM, theta, key))(theta, key)

    def estimate(theta, state, key):
        return estimator.estimate(PROBLEM, theta, state, key)

    program, seconds = compiled(estimate, theta, state, key)
    return lambda: program(theta, state, key), seconds
