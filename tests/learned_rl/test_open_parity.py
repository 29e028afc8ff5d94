"""OPEN's update equals the published implementation's, on recorded cases."""

import json
import os
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.learned_optimizers.open import Open, OpenState, clip_by_network, features, from_vector
from learned_rl.learned_optimizers.protocol import Senses, Site

SHARED = Path(__file__).parents[3] / "shared"
FIXTURES = Path(os.environ.get("LEARNED_RL_FIXTURES", SHARED / "fixtures"))
WEIGHTS = Path(os.environ.get("LEARNED_RL_WEIGHTS", SHARED / "weights"))
INDEX = FIXTURES / "open_fixtures.json"
CASES = json.loads(INDEX.read_text())["cases"] if INDEX.exists() else []
pytestmark = pytest.mark.skipif(not CASES, reason=f"no recorded cases of OPEN at {FIXTURES}")


class Case:
    """A recorded run: arrays by name, trees of them by prefix."""

    def __init__(self, case):
        self.steps = case["steps"]
        weights = WEIGHTS / case["weights"]
        if not weights.exists():
            pytest.skip(f"no published weights at {weights}")
        self.names = [leaf["name"] for leaf in case["leaves"]]
        self.sites = tuple(
            Site(leaf["name"].split("/")[0], leaf["layer_prop"], leaf["noise"]) for leaf in case["leaves"]
        )
        self.arrays = np.load(FIXTURES / case["file"], allow_pickle=False)
        self.optimizer, self.theta = from_vector(np.load(weights, allow_pickle=False))

    def tree(self, prefix):
        return {name: jnp.asarray(self.arrays[f"{prefix}/{name}"]) for name in self.names}

    def senses(self, step):
        training, batch = (jnp.asarray(self.arrays[f"s{step}/in/{x}_prop"]) for x in ("training", "batch"))
        activations, noise = (self.tree(f"s{step}/in/{x}") for x in ("activations", "noise"))
        return Senses(activations, training, batch, noise, self.sites)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case["file"])
def case(request):
    return Case(request.param)


@cache
def tolerance():
    return json.loads(INDEX.read_text())["tolerances"]["tolerance"]


def assert_close(found, expected, name):
    for leaf, value in expected.items():
        error = np.abs(np.asarray(found[leaf]) - value).max()
        assert error <= tolerance()[name], f"{name} of {leaf}: {error:.2e}"


def test_open_parity_over_consecutive_updates(case):
    @jax.jit
    def both(gradient, state, params, numbers):
        arguments = case.theta, gradient, state, params, Senses(*numbers, case.sites)
        return case.optimizer.proposed(*arguments)[0], case.optimizer.update(*arguments, 0.0)

    params, state = case.tree("init/params"), OpenState(case.tree("init/momentum"), case.tree("init/carry"))
    for step in range(case.steps):
        before = params
        u, (params, state) = both(case.tree(f"s{step}/in/grads_raw"), state, params, case.senses(step)[:-1])
        assert_close(u, case.tree(f"s{step}/out/update_before_mean"), "update_before_mean")
        assert_close(params, case.tree(f"s{step}/out/params"), "params")
        mean = np.mean(np.concatenate([np.ravel(u[n] - (before[n] - params[n])) for n in case.names]))
        assert abs(mean - case.arrays[f"s{step}/out/update_mean"]) < 5e-8  # read off differences of parameters
        if f"s{step}/out/momentum/{case.names[0]}" in case.arrays:
            assert_close(state.momenta, case.tree(f"s{step}/out/momentum"), "momentum")
            assert_close(state.carry, case.tree(f"s{step}/out/carry"), "carry")


def test_open_parity_of_features_and_network(case):
    optimizer, theta = case.optimizer, case.theta

    @jax.jit
    def look(params, gradient, clipped, momenta, carry, numbers):
        senses = Senses(*numbers, case.sites)
        own = clip_by_network(gradient, case.sites, optimizer.max_norm)
        seen, said = {}, {}
        for name, site in zip(case.names, case.sites, strict=True):
            tensor = params[name], clipped[name], momenta[name], senses.activations[name]
            seen[name] = features(*tensor, senses, site)
            out, _ = theta(seen[name].reshape(-1, 19), carry[name].reshape(-1, optimizer.gru))
            said[name] = out.reshape(*params[name].shape, 3)
        return own, seen, said

    clipped = case.tree("s0/in/grads_clipped")
    trees = (case.tree(name) for name in ("init/params", "s0/in/grads_raw"))
    own, seen, said = look(*trees, clipped, case.tree("s0/out/momentum"), case.tree("init/carry"), case.senses(0)[:-1])
    assert_close(own, clipped, "grads_clipped (from grads_raw)")
    assert_close(seen, case.tree("s0/out/dbg/features"), "dbg/features")
    assert_close(said, case.tree("s0/out/dbg/mlp"), "dbg/mlp")


def test_open_parity_of_a_new_state():
    case = Case(CASES[0])
    state = case.optimizer.start(case.tree("init/params"))
    for found, name in ((state.momenta, "momentum"), (state.carry, "carry")):
        jax.tree.map(np.testing.assert_array_equal, found, case.tree(f"init/{name}"))


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        (np.zeros(1212, np.float32), "1211 or 3571 numbers, found shape \\(1212,\\)"),
        (np.zeros((1211, 1), np.float32), "found shape \\(1211, 1\\)"),
        (np.full(1211, np.nan, np.float32), "finite"),
        (np.zeros(1211, np.int32), "int32"),
    ],
)
def test_other_vectors_are_refused(vector, said):
    with pytest.raises(ValueError, match=said):
        from_vector(vector)


def test_an_untrained_one_moves_nothing():
    optimizer = Open()
    params = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}
    sites = (Site("actor", 0.0, True), Site("actor", 0.0, True))
    activations = {"kernel": jnp.ones(2), "bias": jnp.ones(2)}
    senses = Senses(activations, jnp.float32(0), jnp.float32(0), params, sites)
    theta = optimizer.init(jax.random.key(0))
    after, _ = optimizer.update(theta, params, optimizer.start(params), params, senses, 0.0)
    jax.tree.map(np.testing.assert_array_equal, after, params)
