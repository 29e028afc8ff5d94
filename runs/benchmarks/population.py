"""Throughput of a population of 64 against one of 8, micro-batches of 8, on the same machine.

"Environment steps per second per member at population 64 at least 0.9 of population 8" is meant for a machine that
grows with the population. On one machine that is full with 8 members, 64 of them take turns, and what can be held is
throughput: the ratio is environment steps per second *in all* at 64 over that at 8. It falls below 1 by what the loop
over micro-batches costs.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from learned_rl.families import cartpole
from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.rules.drift import Drift, LearnedDrift
from meta_objectives.problem import MetaProblem
from meta_objectives.returns import LifetimeReturn
from runs.benchmarks.timing import Row, compiled, in_turns
from truncation import evaluate_population

SMALL, LARGE, MICROBATCH, SEGMENTS = 8, 64, 8, 4
RULE = Drift(drift=LearnedDrift(hidden=16))
PROBLEM = MetaProblem(Lifetime(cartpole(), RULE, Network(MLP((32, 32))), 16, 32, 2 * SEGMENTS), LifetimeReturn(), 2)


def measure(rounds: int) -> Iterator[Row]:
    """One row: environment steps per second at `LARGE`, and their ratio to those at `SMALL`."""
    small, _ = _evaluation(SMALL)
    large, seconds = _evaluation(LARGE)
    timed = in_turns({"small": small, "large": large}, rounds)
    life_steps = PROBLEM.lifetime.updates * PROBLEM.lifetime.steps_per_update
    ratio = LARGE / SMALL * timed["small"].speedup_of(timed["large"])
    details = {
        "env_steps_per_second_at_8": SMALL * life_steps / timed["small"].median,
        "cpu_ratio": LARGE / SMALL * timed["small"].cpu_speedup_of(timed["large"]),
        "compile_seconds": seconds,
    }
    speed = LARGE * life_steps / timed["large"].median
    yield Row("population 64 over 8, throughput in all", speed, "env steps/s", ratio, ">= 0.9", details)


def _evaluation(population: int) -> tuple[Callable[[], Any], float]:
    thetas = jax.tree.map(lambda x: jnp.broadcast_to(x, (population, *x.shape)), RULE.init(jax.random.key(0)))

    def evaluate(thetas: Any, key: jax.Array) -> jax.Array:
        return evaluate_population(PROBLEM, thetas, SEGMENTS, 1, key, MICROBATCH)[0]

    key = jax.random.key(1)
    program, seconds = compiled(evaluate, thetas, key)
    return lambda: program(thetas, key), seconds
