"""Recurrent optimizers alone: forms, starts, zero gradients; and OPEN's published file as a rule, or refused."""

import io
import json
import os
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.learned_optimizers.open import Open
from learned_rl.learned_optimizers.protocol import LearnedOptimizer, Senses, Site, normal_like
from learned_rl.learned_optimizers.published import published_open
from learned_rl.learned_optimizers.recurrent import Optim4RL, Recurrent, preprocessed
from learned_rl.learned_optimizers.residual import Residual
from learned_rl.optimizers import Adam, Sgd
from learned_rl.rule_file import load_rule, verify_rule
from learned_rl.rule_settings import RuleRefused
from runs import cli
from tests.probes import noisy

SHARED = Path(__file__).parents[3] / "shared"
WEIGHTS = Path(os.environ.get("LEARNED_RL_WEIGHTS", SHARED / "weights"))
PARAMS = {"b": jnp.zeros(2), "w": jnp.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.1]])}
SITES = (Site("actor", 0.0, True),) * 2
SENSES = Senses(jax.tree.map(lambda p: jnp.ones(2), PARAMS), jnp.zeros(()), jnp.zeros(()), PARAMS, SITES)
OPTIMIZERS = {"open": Open(), "recurrent": Recurrent(4), "optim4rl": Optim4RL(4, width=5)}


def run(optimizer, theta, gradients, rate=0.1):
    """Parameters after one step per gradient."""
    params, state = PARAMS, optimizer.start(PARAMS)
    for gradient in gradients:
        params, state = optimizer.update(theta, gradient, state, params, SENSES, rate)
    return params


def gradients(count):
    return [normal_like(PARAMS, jax.random.key(i)) for i in range(count)]


@pytest.mark.parametrize("base", [Adam(), Sgd()])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_can_start_as_adam_or_sgd_exactly(name, base):
    optimizer = Residual(base, OPTIMIZERS[name])
    assert isinstance(optimizer, LearnedOptimizer)
    found = run(optimizer, optimizer.init(jax.random.key(0)), gradients(3))
    params, state = PARAMS, base.init(PARAMS)
    for gradient in gradients(3):
        params, state = base.update(gradient, state, params, 0.1)
    jax.tree.map(np.testing.assert_array_equal, found, params)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_still_says_whether_the_untrained_moves(name):
    optimizer = OPTIMIZERS[name]
    found = run(optimizer, optimizer.init(jax.random.key(0)), gradients(1))
    moved = any(bool(jnp.any(a != b)) for a, b in zip(*map(jax.tree.leaves, (found, PARAMS)), strict=True))
    assert moved != optimizer.still


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_meta_gradients_are_finite_where_gradients_are_zero_or_tiny(name):
    optimizer = Residual(Adam(), OPTIMIZERS[name])
    theta = noisy(optimizer.init, jax.random.key(0), 0.3)
    zero, tiny = jax.tree.map(jnp.zeros_like, PARAMS), jax.tree.map(lambda p: 1e-30 * jnp.ones_like(p), PARAMS)

    @jax.jit
    def slope(theta):
        return jax.grad(lambda t: sum(jnp.sum(p) for p in jax.tree.leaves(run(optimizer, t, [zero, tiny, zero]))))(
            theta
        )

    for leaf in jax.tree.leaves(slope(theta)):
        assert np.all(np.isfinite(leaf))


def test_optim4rl_has_the_form_of_adam():
    """With heads that say nothing but a bias: p - rate sign(g) exp(b_1) / sqrt(exp(b_2) + eps)."""
    optimizer = Optim4RL(4, width=0, eps=0.5)
    theta = optimizer.init(jax.random.key(0))
    for part, bias in (("first", -1.0), ("second", 2.0)):
        theta[part]["head"] = [{"w": jnp.zeros((4, 1)), "b": jnp.full(1, bias)}]
    (gradient,) = gradients(1)
    found = run(optimizer, theta, [gradient], rate=0.1)
    step = 0.1 * np.exp(-1.0) / np.sqrt(np.exp(2.0) + 0.5)
    jax.tree.map(
        lambda f, p, g: np.testing.assert_allclose(f, p - step * np.sign(g), rtol=1e-6), found, PARAMS, gradient
    )


def test_the_second_network_of_optim4rl_sees_no_sign():
    optimizer = Optim4RL(4, width=5)
    theta = noisy(optimizer.init, jax.random.key(0), 0.5)
    theta["first"]["gru"] = jax.tree.map(jnp.zeros_like, theta["first"]["gru"])  # blind
    (g,) = gradients(1)
    there, back = (run(optimizer, theta, [jax.tree.map(lambda x, s=sign: s * x, g)]) for sign in (1, -1))
    jax.tree.map(lambda a, b, p: np.testing.assert_allclose(a - p, p - b, rtol=1e-5, atol=1e-7), there, back, PARAMS)


def test_preprocessing_is_the_papers():
    g = jnp.array([[0.0], [1e-6], [-1e-6], [0.5], [-0.5], [1.0]])
    e = np.exp(10.0)
    expected = [[-1, 0], [-1, 1e-6 * e], [-1, -1e-6 * e], [np.log(0.5) / 10, 1], [np.log(0.5) / 10, -1], [0, 1]]
    np.testing.assert_allclose(preprocessed(g), expected, rtol=1e-5, atol=1e-6)


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def archive():
    file = io.BytesIO()
    np.savez(file, a=np.zeros(1211, np.float32))
    return file.getvalue()


class Trap:
    """What an unpickler would run."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


GOOD = npy(np.zeros(1211, np.float32))
REFUSED = {
    "another size": (lambda: npy(np.zeros(1212, np.float32)), "1211 or 3571 numbers, found shape"),
    "a matrix": (lambda: npy(np.zeros((1211, 1), np.float32)), "expected a vector of float32"),
    "another dtype": (lambda: npy(np.zeros(1211)), "float64"),
    "pickled array": (lambda: npy(np.array([Trap()], object)), "pickled"),
    "pickle": (lambda: pickle.dumps(Trap()), "not an npy file"),
    "another architecture": (archive, "an npz archive, as Disco's are"),
    "not finite": (lambda: npy(np.full(1211, np.nan, np.float32)), "not finite"),
    "beyond": (lambda: npy(np.full(1211, 1e7, np.float32)), "beyond"),
    "cut short": (lambda: GOOD[:-4], "expected a vector of float32"),
    "too long": (lambda: GOOD + b"1234", "expected a vector of float32"),
    "text": (lambda: b"weights", "not an npy file"),
    "empty": (lambda: b"", "not an npy file"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_the_published_architecture_is_refused(what):
    content, why = REFUSED[what]
    with pytest.raises(RuleRefused, match=why):
        published_open(content())


def test_another_file_of_the_architecture_is_taken_and_said_to_be_another():
    rule, _, record = published_open(GOOD)
    assert not record["origin"]["as_published"]
    assert (rule.base.epochs, rule.base.minibatches, rule.learned) == (4, 8, Open())


@pytest.mark.parametrize(
    ("name", "epochs", "minibatches", "gru"), [("breakout", 4, 8, 8), ("multi", 4, 8, 16), ("gridworld", 2, 16, 8)]
)
def test_the_published_weights_survive_the_rule_file(name, epochs, minibatches, gru, tmp_path, capsys):
    file, summary = WEIGHTS / f"{name}_OPEN.npy", tmp_path / "summary.json"
    if not file.exists():
        pytest.skip(f"no published weights at {file}")
    assert cli.main(["import", "open", str(file), "--to", str(tmp_path / "rule"), "--json", str(summary)]) == 0
    assert "NeurIPS, 2024" in capsys.readouterr().out
    verify_rule(tmp_path / "rule")
    loaded = load_rule(tmp_path / "rule")
    assert (loaded.rule.base.epochs, loaded.rule.base.minibatches, loaded.rule.learned.gru) == (
        epochs,
        minibatches,
        gru,
    )
    origin = loaded.record["origin"]
    assert (origin["as_published"], origin["task"]) == (True, name)
    assert "Apache-2.0" in origin["licence"]
    assert json.loads(summary.read_text())["origin"] == origin
    weights = np.concatenate([np.ravel(x) for x in jax.tree.leaves(loaded.theta["optimizer"])])
    np.testing.assert_array_equal(weights, np.load(file, allow_pickle=False))


def test_refusals_reach_the_command_line(tmp_path, capsys):
    bad = tmp_path / "bad.npy"
    bad.write_bytes(npy(np.array([Trap()], object)))
    assert cli.main(["import", "open", str(bad), "--to", str(tmp_path / "rule")]) == 65
    assert "never loaded" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["bad.npy"]
