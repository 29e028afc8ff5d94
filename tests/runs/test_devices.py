"""How many devices compute changes no bit of what is learned, from two upwards."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import pytest

from runs.devices import lives_over
from runs.errors import UsageError
from tests.tiny import environment
from truncation.lives import AXIS

CHILD = """
    import hashlib, json, sys
    import jax
    jax.config.update("jax_num_cpu_devices", 4)
    import numpy as np
    from runs.devices import lives_over
    from runs.programs import Programs
    from tests.tiny import experiment
    for name in sys.argv[1:]:
        for devices in (2, 4):
            e = experiment(name)
            with lives_over(e.outer.batches, devices):
                programs = Programs(e)
                state = programs.birth()
                for step in range(3):
                    state, metrics = programs.advance(state, step)
                theta = jax.device_get(e.learner.theta(state))
            content = b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(theta))
            print(json.dumps([name, devices, hashlib.sha256(content).hexdigest(), metrics["meta/loss"]]), flush=True)
"""


def thetas(*names):
    program = [sys.executable, "-c", textwrap.dedent(CHILD), *names]
    root = Path(__file__).parents[2]
    done = subprocess.run(program, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("persistent", "evolution")]


@pytest.mark.parametrize("name", ["backprop", *SLOW])
def test_theta_is_the_same_bit_for_bit_on_two_and_on_four_devices(name):
    """Not on one: its program is not partitioned, and XLA orders some sums in it differently (`runs.devices.prepare`).

    Hence two host devices even on a single core.
    """
    seen = thetas(name)
    print(seen)
    assert [devices for _, devices, _, _ in seen] == [2, 4]
    assert len({(theta, loss) for _, _, theta, loss in seen}) == 1


def test_there_are_two_host_devices_on_a_single_core():
    code = "import os, jax; os.cpu_count = lambda: 1; from runs.devices import prepare; prepare(); print(jax.devices())"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.count("CpuDevice") == 2


def test_devices_are_as_many_as_can_share_the_micro_batches():
    for batches in (1, 2, 3, 6):
        with lives_over(batches):
            size = jax.sharding.get_abstract_mesh().shape[AXIS]
            assert size == max(n for n in range(1, jax.device_count() + 1) if batches % n == 0)
    assert AXIS not in jax.sharding.get_abstract_mesh().axis_names
    with pytest.raises(UsageError, match=r"--devices 1000: .* 6 micro-batches can be shared by \[1"):
        lives_over(6, 1000)
