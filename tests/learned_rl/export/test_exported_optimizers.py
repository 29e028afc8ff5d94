"""An exported optimizer takes the steps that it takes inside its rule, where nothing of ours is installed."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_rl.export import NotExportable, as_loss, as_optax, formats, parts, stablehlo
from learned_rl.learned_optimizers.open import Open
from learned_rl.learned_optimizers.protocol import Senses, Site, normal_like
from learned_rl.learned_optimizers.residual import Residual
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.drift import Drift
from learned_rl.rules.optimised import Optimised
from tests.probes import jitter, noisy

KEY = jax.random.key(0)
RULES = {"open": Optimised(Drift(), Open()), "residual": Optimised(ActorCritic(), Residual())}
PARAMS = {"Dense_0": {"kernel": jnp.ones((3, 4)) / 3, "bias": jnp.zeros(4)}, "Dense_1": {"kernel": jnp.ones((4, 2))}}
STEPS = 3


def thetas():
    return {name: noisy(rule.init, KEY, 0.2) for name, rule in RULES.items()}


def gradients():
    return [jitter(jax.tree.map(jnp.zeros_like, PARAMS), jax.random.key(step), 1.0) for step in range(STEPS)]


def own_steps(rule, theta):
    """What the rule's optimizer makes of the gradients when it sees what stands in for a stranger's senses."""
    sites = (Site("agent", 0.0, True), Site("agent", 0.0, True), Site("agent", 1.0, True))
    loud = jax.tree.map(lambda p: jnp.ones(p.shape[-1]), PARAMS)

    @jax.jit
    def run(theta):
        params, state = PARAMS, rule.learned.start(PARAMS)
        for step, gradient in enumerate(gradients()):
            noise = normal_like(params, jax.random.key(step))
            senses = Senses(loud, jnp.float32(step / STEPS), jnp.float32(0), noise, sites)
            params, state = rule.learned.update(theta["optimizer"], gradient, state, params, senses, 1e-2)
        return params

    return run(theta)


STRANGER = """
import json, sys
sys.path.insert(0, sys.argv[1])
for name in ("learned_rl", "meta_objectives", "truncation", "runs", "flax", "jaxtyping"):
    sys.modules[name] = None
import jax, numpy as np, optax
import open_rule, residual_rule

def tree(named):
    made = {}
    for name, x in named:
        *path, last = name.split("/")
        at = made
        for key in path:
            at = at.setdefault(key, {})
        at[last] = x
    return made

given = dict(np.load(sys.argv[1] + "/given.npz"))
params = tree((n[2:], x) for n, x in given.items() if n.startswith("p/"))
steps = [tree((n[2:], x) for n, x in given.items() if n.startswith(f"{i}/")) for i in range(3)]
for module in (open_rule, residual_rule):
    tx = optax.chain(module.optimizer(learning_rate=1e-2))

    @jax.jit
    def run(params):
        state = tx.init(params)
        for i, gradient in enumerate(steps):
            updates, state = tx.update(gradient, state, params, training=i / 3, key=jax.random.key(i))
            params = optax.apply_updates(params, updates)
        return params

    leaves = {str(i): x for i, x in enumerate(jax.tree.leaves(run(params)))}
    np.savez(f"{sys.argv[1]}/{module.__name__}-steps.npz", **leaves)
"""


def test_the_optax_file_takes_the_steps_of_the_rule(tmp_path):
    given, made = {}, thetas()
    for prefix, tree in [("p", PARAMS), *enumerate(gradients())]:
        for path, x in jax.tree_util.tree_leaves_with_path(tree):
            given[f"{prefix}/{jax.tree_util.keystr(path, simple=True, separator='/')}"] = np.asarray(x)
    np.savez(tmp_path / "given.npz", **given)
    for name, rule in RULES.items():
        for file, content in formats.write(rule, made[name], name, {}, "optax").items():
            (tmp_path / file).write_bytes(content)
    program = [sys.executable, "-I", "-c", STRANGER, str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, rule in RULES.items():
        steps = np.load(tmp_path / f"{name}_rule-steps.npz")
        expected = jax.tree.leaves(own_steps(rule, made[name]))
        assert max(np.abs(e - p).max() for e, p in zip(expected, jax.tree.leaves(PARAMS), strict=True)) > 1e-3
        for i, x in enumerate(expected):
            np.testing.assert_allclose(steps[str(i)], x, rtol=0, atol=1e-6)


def test_a_transformation_needs_the_parameters_and_ignores_what_is_for_others():
    rule = RULES["open"]
    tx = optax.with_extra_args_support(as_optax(rule, thetas()["open"]))
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match="sees the parameters"):
        tx.update(PARAMS, state)
    jax.eval_shape(lambda: tx.update(PARAMS, state, PARAMS, value=1.0))


def test_the_rule_around_which_it_was_learned_keeps_its_objective():
    made = thetas()
    assert callable(as_loss(RULES["open"], made["open"]))
    with pytest.raises(NotExportable, match="Drift has no optimizer of its own; it has: objective"):
        as_optax(Drift(), ())
    files = formats.write(RULES["open"], made["open"], "both", {}, "standalone")
    code = files["both_rule.py"].decode()
    assert all(f"\n{name} = partial(" in code for name in ("init", "update", "targets", "loss"))
    assert {name.partition("/")[0] for name in np.load(_file(files["both_rule.npz"])).files} == {"optimizer"}


def _file(content):
    import io

    return io.BytesIO(content)


def test_stablehlo_takes_the_steps_of_the_rule_and_differentiates():
    rule, theta = RULES["residual"], thetas()["residual"]
    files = stablehlo.write(parts(rule, theta)[:1], PARAMS)
    init, update = (jax.export.deserialize(bytearray(files[f"{n}.stablehlo"])) for n in ("init", "update"))
    loud = jax.tree.map(lambda p: jnp.ones(p.shape[-1]), PARAMS)
    gradient, one = gradients()[0], jnp.float32(1)

    @jax.jit
    def both(params):
        tx = as_optax(rule, theta)
        own, _ = tx.update(gradient, tx.init(params), params)
        new, _ = update.call(gradient, init.call(params), params, loud, 0 * one, 0 * one, 1e-3 * one)
        return optax.apply_updates(params, own), new

    own, new = both(PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), own, new)
    # What an optimizer sees is data: its step moves with the parameters, one for one.
    slopes = jax.jit(jax.grad(lambda p: sum(jnp.sum(x) for x in jax.tree.leaves(both(p)[1]))))(PARAMS)
    jax.tree.map(lambda slope: np.testing.assert_allclose(slope, 1.0, rtol=0, atol=1e-6), slopes)
    with pytest.raises(NotExportable, match="--like"):
        formats.write(rule, theta, "x", {}, "stablehlo")
