"""Benchmarks can be started, and what they claim about memory, which is exact, holds."""

import importlib
import inspect
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

from runs.benchmarks import NAMES
from runs.benchmarks.memory import growth, temporary_bytes
from runs.benchmarks.timing import Timed
from truncation import Segment

WINDOWS = (4, 16, 64)


class Wide:
    """A life of many numbers whose update has to be remembered for the way back: that is all that a window costs."""

    size = 4096

    def start(self, theta, key):
        return jax.random.normal(key, (self.size,))

    def advance(self, theta, life, key):
        life = jnp.sin(theta * jnp.sin(life))
        return life, Segment(jnp.mean(life**2), {})


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_can_be_imported_and_measures(name):
    module = importlib.import_module(f"runs.benchmarks.{name}")
    assert module.__doc__
    assert list(inspect.signature(module.measure).parameters) == ["rounds"]


def test_help_does_not_wait_for_jax():
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "runs.benchmarks", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(name in done.stdout for name in NAMES)
    assert time.monotonic() - began < 5
    loaded = "import sys, runs.benchmarks.__main__; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded]).returncode == 0


def test_an_unknown_benchmark_is_bad_usage():
    done = subprocess.run([sys.executable, "-m", "runs.benchmarks", "--only", "nothing"], capture_output=True)
    assert done.returncode == 2


def test_memory_grows_linearly_with_the_window_and_with_its_root_if_rematerialised():
    theta = jnp.ones(())
    plain = temporary_bytes(Wide(), theta, WINDOWS, remat=False)
    remat = temporary_bytes(Wide(), theta, WINDOWS, remat=True)
    assert 0.8 < growth(WINDOWS, plain) < 1.05
    assert 0.2 < growth(WINDOWS, remat) < 0.6
    assert remat[-1] < plain[-1] / 3


def test_growth_is_the_exponent():
    assert growth((1, 2, 4, 8), (3, 12, 48, 192)) == pytest.approx(2.0)


def test_ratios_are_taken_round_by_round():
    """A neighbour that slows whole rounds down changes no ratio."""
    ours, peer = Timed((1.0, 10.0, 2.0), (1.0, 1.0, 1.0)), Timed((1.5, 15.0, 3.0), (2.0, 2.0, 2.0))
    assert peer.speedup_of(ours) == pytest.approx(1.5)
    assert peer.cpu_speedup_of(ours) == pytest.approx(2.0)
