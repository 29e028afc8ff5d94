"""What journal, progress display and MLflow sink cost an outer step of about 100 ms.

A step is a compiled program of fixed work. It runs in blocks, in turns: alone, and with everything that the outer loop
does after it (20 metrics into the journal, one progress report) while a sink drains the journal into a new SQLite store
beside it. Both are medians over steps; the sink is up, and its store migrated, before the clock runs.
"""

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp

from runs.benchmarks.timing import Row, compiled
from runs.journal import Journal
from runs.mlflow_sink import MlflowSink, waiting
from runs.progress import Progress

STEP, BLOCK, METRICS = 0.1, 40, 20  # seconds, steps, scalars a step
PATIENCE = 120.0  # seconds until the sink must have answered


def measure(rounds: int) -> Iterator[Row]:
    """One row: milliseconds that a step takes longer; the ratio is with over without."""
    work = _work()
    with tempfile.TemporaryDirectory() as folder:
        run, uri = Path(folder), f"sqlite:///{folder}/mlflow.db"
        journal = Journal(run)
        journal.start(run="benchmark", experiment="benchmark", name="benchmark", params={}, tags={})
        bare, full, own, longest, step = [], [], [], 0.0, 0
        for _ in range(rounds):
            bare.append(statistics.median(_block(work, lambda step: None, 0)[0]))
            sink = MlflowSink(run, uri)
            _await(run, uri)
            with Progress(10**9, stream=io.StringIO()) as progress:
                report = _reporter(journal, progress)
                report(step := step + 1)
                _await(run, uri)
                seconds, reporting = _block(work, report, step)
            step += BLOCK
            sink.close()
            full.append(statistics.median(seconds))
            own.append(statistics.median(reporting))
            longest = max(longest, *seconds)
        left = waiting(run, uri)
        journal.close()
    ratio = statistics.median(b / a for a, b in zip(bare, full, strict=True))
    usual = 1e3 * statistics.median(bare)
    details = {"bare_seconds": bare, "full_seconds": full, "reporting_seconds": own}
    details |= {"longest_full_step": longest, "events_left": left}
    yield Row(f"outer step of {usual:.0f} ms, everything on", (ratio - 1) * usual, "ms", ratio, "<= 1.01", details)


def _work() -> Callable[[], jax.Array]:
    """A program that takes about `STEP` seconds."""

    def program(count: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, count, lambda _, x: jnp.tanh(x @ x), x)

    x = jnp.eye(128)
    run, _ = compiled(program, jnp.int32(1), x)
    jax.block_until_ready(run(jnp.int32(100), x))
    began = time.perf_counter()
    jax.block_until_ready(run(jnp.int32(1000), x))
    count = jnp.int32(1000 * STEP / (time.perf_counter() - began))
    return lambda: jax.block_until_ready(run(count, x))


def _reporter(journal: Journal, progress: Progress) -> Callable[[int], None]:
    def report(step: int) -> None:
        journal.metrics(step, {f"meta/{i}": step / (i + 1) for i in range(METRICS)})
        progress.update(step, env_steps=step, loss=0.0, dead=0.0)

    return report


def _block(work: Callable[[], jax.Array], report: Callable[[int], None], start: int) -> tuple[list[float], list[float]]:
    """Seconds of every step, and of the reporting in it."""
    seconds, reporting = [], []
    for step in range(start + 1, start + 1 + BLOCK):
        began = time.perf_counter()
        work()
        worked = time.perf_counter()
        report(step)
        ended = time.perf_counter()
        seconds.append(ended - began)
        reporting.append(ended - worked)
    return seconds, reporting


def _await(folder: Path, uri: str) -> None:
    began = time.monotonic()
    while waiting(folder, uri):
        if time.monotonic() - began > PATIENCE:
            raise TimeoutError(f"the sink has not drained {folder} into {uri} within {PATIENCE:.0f} s")
        time.sleep(0.1)
