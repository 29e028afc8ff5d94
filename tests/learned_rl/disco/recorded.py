"""Recorded runs of the published implementation: where they lie, what may differ, and how they are read.

The folder is named by LEARNED_RL_FIXTURES, the weights' by LEARNED_RL_WEIGHTS; both have a default beside the
repository. Every `disco_case*.npz` and `disco_agent*.npz` in it is a case, whether the JSON lists it or not.
"""

import fnmatch
import functools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.distributions import Categorical
from learned_rl.layers import LSTMState
from learned_rl.rules.averages import MovingAverage
from learned_rl.rules.disco.predictions import Predictions
from learned_rl.rules.disco.published import disco103, published_name
from learned_rl.rules.disco.rule import Averages
from learned_rl.types import Rollout

_ROOT = Path(__file__).parents[3]
FIXTURES = Path(os.environ.get("LEARNED_RL_FIXTURES") or _ROOT / "../shared/fixtures")
WEIGHTS = Path(os.environ.get("LEARNED_RL_WEIGHTS") or _ROOT / "../shared/weights") / "disco_103.npz"


# Each shape is compiled for a few small products: the compiler's dearer passes cost more than they save.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def cases(kind):
    """Names of the files of a kind, or one skipped test that says what is missing."""
    found = {path.name for path in FIXTURES.glob(f"disco_{kind}*.npz")}
    if (FIXTURES / "disco_fixtures.json").exists():
        listed = [entry["file"] for entry in _json()["cases"]] + [_json()["agent_case"]["file"]]
        found |= {name for name in listed if name.startswith(f"disco_{kind}")}
    if not found or not WEIGHTS.exists():
        reason = f"no disco_{kind}*.npz in {FIXTURES} (LEARNED_RL_FIXTURES) or no {WEIGHTS} (LEARNED_RL_WEIGHTS)"
        return [pytest.param("", marks=pytest.mark.skip(reason=reason))]
    return sorted(found)


needs_weights = pytest.mark.skipif(not WEIGHTS.exists(), reason=f"no {WEIGHTS} (LEARNED_RL_WEIGHTS)")


@functools.cache
def _json():
    return json.loads((FIXTURES / "disco_fixtures.json").read_text())


def tolerance(name):
    """Of an array, by its name without the number of the update."""
    for pattern, allowed in _json()["tolerances"]["tolerance"].items():
        if fnmatch.fnmatch(name, pattern.removesuffix(" (others)")):
            return allowed
    raise KeyError(name)


def agent_tolerance(name):
    return _json()["tolerances"]["agent_case"][name]


def agent_settings(name):
    """The sizes of an agent's case."""
    entry = _json()["agent_case"]
    assert entry["file"] == name, f"{name} is not described in disco_fixtures.json"
    return entry


def parameter_names():
    return _json()["parameter_names_sorted"]


def check(found, expected, name, allowed=None):
    """max |found - expected| <= allowed max(1, max |expected|)."""
    assert found.shape == expected.shape, name
    allowed = tolerance(name) if allowed is None else allowed
    difference = np.abs(np.asarray(found, np.float64) - expected).max(initial=0)
    assert difference <= allowed * max(1.0, np.abs(expected).max(initial=0)), f"{name}: off by {difference:.2e}"


@functools.cache
def published():
    """`(rule, theta)` of the published weights."""
    rule, theta, _ = disco103(WEIGHTS.read_bytes())
    return rule, theta


@functools.cache
def load(name):
    """A case's arrays by name; numbers as float32 (float16 was exact)."""
    with np.load(FIXTURES / name, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return {key: x.astype(np.float32) if x.dtype == np.float16 else x for key, x in arrays.items()}


def within(arrays, prefix):
    """The arrays under a prefix, by the rest of their names."""
    return {key.removeprefix(prefix): x for key, x in arrays.items() if key.startswith(prefix)}


def predictions(outputs):
    return Predictions(outputs["logits"], outputs["y"], outputs["z"], outputs["q"], outputs.get("aux_pi", ()))


def rollout(inputs):
    """Transitions from `T + 1` recorded states; in the recordings, every end is a termination."""
    acted = Categorical(jnp.asarray(inputs["behaviour_agent_out/logits"][:-1]))
    action = jnp.asarray(inputs["actions"][:-1])
    ended = jnp.asarray(inputs["is_terminal"])
    return Rollout(
        obs=jnp.zeros(()),
        action=action,
        reward=jnp.asarray(inputs["rewards"]),
        discount=1.0 - ended,
        last=ended,
        next_obs=jnp.zeros(()),
        behaviour_log_prob=acted.log_prob(action),
        behaviour=acted,
    )


def memory(state):
    """`(averages, lifetime)` of a recorded meta-state."""
    averages = (
        MovingAverage(*(jnp.asarray(state[f"{kind}/{part}"]) for part in ("moment1", "moment2", "decay_product")))
        for kind in ("adv_ema", "td_ema")
    )
    return Averages(*averages), LSTMState(jnp.asarray(state["rnn_hidden"]), jnp.asarray(state["rnn_cell"]))


def recorded_memory(averages, lifetime):
    """The other way: our memory by the recorded names."""
    named = {"rnn_hidden": lifetime.hidden, "rnn_cell": lifetime.cell}
    for kind, average in (("adv_ema", averages.advantage), ("td_ema", averages.q_error)):
        named |= {f"{kind}/moment1": average.first, f"{kind}/moment2": average.second}
        named[f"{kind}/decay_product"] = average.remaining
    return named


def as_published(theta):
    """Leaves of a theta by their published names."""
    paths = jax.tree_util.tree_flatten_with_path(theta)[0]
    return {published_name(jax.tree_util.keystr(p, simple=True, separator="/")): x for p, x in paths}
