"""An exported objective and an exported optimizer in a public PPO, in an environment without this project."""

import json
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.export import as_loss, as_optax, formats
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.optimised import Optimised
from learned_rl.zoo import dpo
from tests.probes import jitter

PACKAGES = ("rejax>=0.1.3,<0.2", "jax<0.12", "flax", "optax", "gymnax<1")


@pytest.mark.slow  # installs from the package index
def test_rejax_learns_by_them_and_they_compute_what_the_rule_does(tmp_path):
    environment = tmp_path / "environment"
    subprocess.run(["uv", "venv", "-q", environment], check=True)
    subprocess.run(["uv", "pip", "install", "-q", "--python", environment / "bin/python", *PACKAGES], check=True)
    run(environment / "bin/python", tmp_path)


def run(python, folder):
    optimised = Optimised(ActorCritic())
    theta = optimised.init(jax.random.key(0))
    for rule, weights, name, form in ((dpo(), (), "dpo", "loss"), (optimised, theta, "residual", "optax")):
        for file, content in formats.write(rule, weights, name, {}, form).items():
            (folder / file).write_bytes(content)
    names = ("log_prob", "entropy", "value", "behaviour_log_prob", "behaviour_value", "advantage", "target")
    said = jitter({name: jnp.zeros((4, 3)) for name in names}, jax.random.key(1), 0.5)
    params = jitter({"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}, jax.random.key(2))
    np.savez(folder / "given.npz", **{f"l/{k}": x for k, x in said.items()}, **{f"p/{k}": x for k, x in params.items()})
    program = Path(__file__).with_name("rejax_ppo.py")
    missing = subprocess.run([python, "-I", "-c", "import learned_rl"], capture_output=True, check=False)
    assert missing.returncode != 0
    done = subprocess.run([python, "-I", program, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.load(folder / "said.npz")
    np.testing.assert_allclose(found["loss"], as_loss(dpo(), ())(**said), rtol=0, atol=1e-6)
    tx = as_optax(optimised, theta)
    updates, _ = tx.update(jax.tree.map(lambda p: p + 0.5, params), tx.init(params), params)
    for name, update in updates.items():
        np.testing.assert_allclose(found[name], update, rtol=0, atol=1e-6)
    returns = json.loads(done.stdout.splitlines()[-1])["returns"]
    print("returns of rejax's PPO before and after:", returns)
    assert returns[-1] > 5 * returns[0]
