"""Ten seeds of one rule on one task: as `learned-rl transfer` trains them, in one program, and as one process a seed.

A process a seed is started as a user would, as many at once as there are cores; each imports, compiles, trains one
agent with the same settings, and trains it again, warm. Nothing is cached on disk. "Cold" is wall time until ten agents
are trained, imports and compiling included; "warm" is the second training alone, that of ten processes summed and
divided by the cores they share.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from learned_rl import families, zoo
from runs.benchmarks.timing import Row
from runs.devices import one_device_per_core
from runs.transfer import train_agents
from runs.trials import Trial

SEEDS = 10
TRIAL = Trial(families.fixed("CartPole-v1"), updates=200)


class Trained(NamedTuple):
    """Seconds of one process: all of it, the first training with compiling, the second one."""

    process: float
    first: float
    second: float


def measure(rounds: int) -> Iterator[Row]:
    """Two rows; the ratio is how many times longer a process a seed takes. Once each, whatever `rounds`."""
    del rounds
    cores = os.cpu_count() or 1
    began = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        single = list(pool.map(lambda seed: _process(1, seed), range(SEEDS)))
    separately = time.perf_counter() - began
    together = _process(SEEDS, 0)
    details = {"one_program": together._asdict(), "processes": [t._asdict() for t in single], "at_once": cores}
    cold = separately / together.process
    yield Row(f"{SEEDS} seeds, cold, end to end", together.process, "s", cold, ">= 5", details)
    apart = sum(t.second for t in single) / cores
    yield Row(f"{SEEDS} seeds, warm", together.second, "s", apart / together.second, ">= 5", {"processes": apart})


def _process(seeds: int, seed: int) -> Trained:
    """A fresh process that trains `seeds` agents twice. Its whole time is without the second training."""
    began = time.perf_counter()
    off = {"LEARNED_RL_CACHE": "", "JAX_COMPILATION_CACHE_DIR": "", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    command = [sys.executable, "-m", __name__, str(seeds), str(seed)]
    done = subprocess.run(command, env=os.environ | off, stdout=subprocess.PIPE, check=True)
    first, second = json.loads(done.stdout)
    return Trained(time.perf_counter() - began - second, first, second)


def _train(seeds: int, seed: int) -> tuple[float, float]:
    """Seconds of the first training, and of the second."""
    one_device_per_core()
    times = [time.perf_counter()]
    for _ in range(2):
        train_agents(TRIAL, zoo.a2c(), (), seeds, seed)
        times.append(time.perf_counter())
    return times[1] - times[0], times[2] - times[1]


if __name__ == "__main__":
    print(json.dumps(_train(int(sys.argv[1]), int(sys.argv[2]))))
