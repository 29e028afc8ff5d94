"""How the memory of truncated backpropagation grows with the window, as the compiler accounts for it.

Temporary bytes of the compiled estimate, on LPG learning to play Catch; nothing is run. With lives of `s` bytes and
residuals of `r` bytes a segment, a window of `w` segments needs about r w; with rematerialisation 2 s sqrt(w) + r.
The ratio is the exponent of a power law fitted to bytes over windows.
"""

from collections.abc import Iterator, Sequence

import jax
import numpy as np

from learned_rl.families import catch
from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.rules.lpg import LPG
from meta_objectives.outer_critic import OuterCritic
from meta_objectives.problem import MetaProblem
from meta_objectives.validation import PolicyGradientSurrogate
from runs.benchmarks.timing import Row
from truncation import InnerProblem, TruncatedBackprop
from truncation.problem import Theta

WINDOWS = (1, 2, 4, 8, 16)


def measure(rounds: int) -> Iterator[Row]:
    """Two rows: without and with rematerialisation. Deterministic; `rounds` does not matter."""
    del rounds
    network = Network(MLP((16,)))
    lifetime = Lifetime(catch(5, 5), LPG(predictions=4, hidden=8), network, 4, 8, 2 * 2 * max(WINDOWS))
    problem = MetaProblem(lifetime, PolicyGradientSurrogate(OuterCritic(network)), 2)
    theta = lifetime.rule.init(jax.random.key(0))
    for remat, target in ((False, "<= 1"), (True, "about 0.5")):
        sizes = temporary_bytes(problem, theta, WINDOWS, remat)
        name = f"window {WINDOWS[-1]}, {'with' if remat else 'without'} remat; ratio = exponent of growth"
        details = {"windows": WINDOWS, "bytes": sizes}
        yield Row(name, sizes[-1] / 2**20, "MiB", growth(WINDOWS, sizes), target, details)


def temporary_bytes(problem: InnerProblem, theta: Theta, windows: Sequence[int], remat: bool) -> list[int]:
    """What one estimate with one life needs beside its arguments and results, per window."""
    sizes = []
    for window in windows:
        estimator = TruncatedBackprop(horizon=2 * max(windows), window=window, lives=1, remat=remat)
        key = jax.eval_shape(lambda: jax.random.key(0))
        state = jax.eval_shape(lambda key, e=estimator: e.init(problem, theta, key), key)

        def estimate(theta, state, key, estimator=estimator):
            return estimator.estimate(problem, theta, state, key)

        analysis = jax.jit(estimate).lower(theta, state, key).compile().memory_analysis()
        if analysis is None:
            raise NotImplementedError("this backend does not account for memory")
        sizes.append(int(analysis.temp_size_in_bytes))
    return sizes


def growth(windows: Sequence[int], sizes: Sequence[int]) -> float:
    """The exponent of the power law that fits best: 1 is linear."""
    return float(np.polyfit(np.log(windows), np.log(sizes), 1)[0])
