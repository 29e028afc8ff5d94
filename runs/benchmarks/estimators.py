"""Time and memory of an estimate: every gradient estimator on one small problem, with the same lives and segments.

The ratio of our estimators is to truncated evolution strategies, the cheapest that uses windows. Full evolution
strategies live a whole lifetime per estimate where the others live one window, so its row is divided by windows per
lifetime as well. The rows of peers are their persistent evolution strategies on our problem, with as many particles and
segments; their ratio is their time over that of ours. learned_optimization's is driven as its own learner drives it, by
calls from Python between compiled unrolls, and once more as one compiled program. All run on one device; one row
more is ours as `learned-rl discover` runs it, with the lives shared out over a device per core.

Peak memory is what the compiled estimate holds at once, as the compiler accounts for it: arguments, results and
temporaries.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from learned_rl.families import catch
from learned_rl.learned_optimizers.library import importable
from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.rules.lpg import LPG
from meta_objectives.outer_critic import OuterCritic
from meta_objectives.problem import MetaProblem
from meta_objectives.validation import PolicyGradientSurrogate
from runs.benchmarks.timing import Row, compiled, in_turns, peak_bytes
from runs.devices import lives_over
from truncation import (
    AnalyticPES,
    ControlVariateES,
    FullES,
    GeneralizedPES,
    GradientEstimator,
    NoiseReuseES,
    PersistentES,
    RunningMean,
    TruncatedBackprop,
    TruncatedES,
)
from truncation.evosax_estimators import EvosaxGradient
from truncation.learned_optimization import export

HORIZON, WINDOW, LIVES, STD = 8, 2, 8, 0.1
NETWORK = Network(MLP((16,)))
RULE = LPG(predictions=8, hidden=16)
OBJECTIVE = PolicyGradientSurrogate(OuterCritic(NETWORK))
PROBLEM = MetaProblem(Lifetime(catch(), RULE, NETWORK, 8, 16, 2 * HORIZON), OBJECTIVE, 2)

ESTIMATORS: dict[str, GradientEstimator] = {
    "TruncatedES": TruncatedES(HORIZON, WINDOW, LIVES, STD),
    "PersistentES": PersistentES(HORIZON, WINDOW, LIVES, STD),
    "NoiseReuseES": NoiseReuseES(HORIZON, WINDOW, LIVES, STD),
    "GeneralizedPES": GeneralizedPES(HORIZON, WINDOW, LIVES, STD, block=2 * WINDOW),
    "NoiseReuseES, window gradient": ControlVariateES(NoiseReuseES(HORIZON, WINDOW, LIVES, STD)),
    "NoiseReuseES, running mean": ControlVariateES(NoiseReuseES(HORIZON, WINDOW, LIVES, STD), RunningMean()),
    "AnalyticPES": AnalyticPES(HORIZON, WINDOW, LIVES, STD),
    "FullES": FullES(HORIZON, LIVES, STD),
    "TruncatedBackprop": TruncatedBackprop(HORIZON, WINDOW, LIVES),
    "TruncatedBackprop, remat": TruncatedBackprop(HORIZON, WINDOW, LIVES, remat=True),
}
PEER = "PersistentES of "
TARGETS = {f"{PEER}evosax": ">= 1", f"{PEER}learned_optimization": ">= 1.5"}

Contender = tuple[Callable[[], Any], dict[str, Any]]  # a call, and what is known about it


def measure(rounds: int) -> Iterator[Row]:
    """One row an estimator, ours and peers', all called in turns."""
    contenders = {name: _estimate(estimator) for name, estimator in ESTIMATORS.items()}
    with lives_over(LIVES // 2):
        contenders["PersistentES, as discover runs it"] = _estimate(ESTIMATORS["PersistentES"])
    contenders[f"{PEER}evosax"] = _estimate(EvosaxGradient("PersistentES", HORIZON, WINDOW, LIVES, STD))
    note = {}
    try:
        contenders |= _learned_optimization()
    except ImportError as missing:
        note = {"note": f"estimators: no row for learned_optimization. {missing}"}
    timed = in_turns({name: call for name, (call, _) in contenders.items()}, rounds)
    ours = contenders["PersistentES"][1]["peak_bytes"]
    for name, t in timed.items():
        windows, details = HORIZON // WINDOW if name == "FullES" else 1, contenders[name][1]
        details["segments"] = windows * WINDOW * LIVES
        ratio = t.speedup_of(timed["TruncatedES"]) / windows
        if name.startswith(PEER):
            ratio = t.speedup_of(timed["PersistentES"])
            details["cpu_ratio"] = t.cpu_speedup_of(timed["PersistentES"])
        peak = details.get("peak_bytes")
        if peak is not None:
            details["peak_over_persistent"] = peak / ours
        case = name if peak is None else f"{name}; peak {peak / 2**20:.2f} MiB"
        yield Row(case, 1e3 * t.median, "ms/estimate", ratio, TARGETS.get(name, ""), details | note)
        note = {}


def _estimate(estimator: GradientEstimator) -> Contender:
    theta, key = RULE.init(jax.random.key(0)), jax.random.key(1)
    state = jax.jit(lambda theta, key: estimator.init(PROBLEM, theta, key))(theta, key)

    def estimate(theta, state, key):
        return estimator.estimate(PROBLEM, theta, state, key)

    program, seconds = compiled(estimate, theta, state, key)
    return lambda: program(theta, state, key), {"compile_seconds": seconds, "peak_bytes": peak_bytes(program)}


def _learned_optimization() -> dict[str, Contender]:
    """Its persistent evolution strategies on our problem: a task is a pair, so half as many tasks as particles."""
    with importable():
        from learned_optimization.outer_trainers import gradient_learner, truncated_pes  # type: ignore

    learner: Any = gradient_learner  # types of an installed older version would not fit
    estimators: Any = truncated_pes
    exported = export(PROBLEM, RULE.init, HORIZON, WINDOW, LIVES // 2)
    pes = estimators.TruncatedPES(*exported, trunc_length=WINDOW, steps_per_jit=WINDOW, std=STD)
    outer, key = learner.OuterState(jnp.int32(0)), jax.random.PRNGKey(1)
    weights = learner.WorkerWeights(RULE.init(jax.random.key(0)), None, outer)
    state = pes.init_worker_state(weights, key)

    def estimate(weights, state, key):
        out, _ = pes.compute_gradient_estimate(weights, key, state)
        return out.grad, out.unroll_state

    program, seconds = compiled(estimate, weights, state, key)
    details = {"compile_seconds": seconds, "peak_bytes": peak_bytes(program)}
    name = f"{PEER}learned_optimization"
    return {
        name: (lambda: estimate(weights, state, key), {}),
        f"{name}, one program": (lambda: program(weights, state, key), details),
    }
