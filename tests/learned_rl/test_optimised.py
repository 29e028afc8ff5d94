"""Learned optimizers inside rules: what they are shown, where they start, and that no network is a special case."""

import os
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.action_network import ActionNetwork
from learned_rl.blueprint import inherited
from learned_rl.families import catch
from learned_rl.learned_optimizers.open import Open, from_vector
from learned_rl.learned_optimizers.protocol import LearnedOptimizer
from learned_rl.learned_optimizers.residual import Residual
from learned_rl.learned_optimizers.sensing import WiredPolicy, heard, unwired
from learned_rl.learned_optimizers.sites import paths, sites
from learned_rl.lifetime import Lifetime
from learned_rl.memories import GRU
from learned_rl.networks import CNN, MLP, Network
from learned_rl.optimizers import Adam, Sgd
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift, as_samples, shuffled, take
from learned_rl.rules.none import NoLearning
from learned_rl.rules.optimised import Optimised
from learned_rl.rules.schedule import Schedule
from learned_rl.types import Continuous, Discrete, Heads
from tests.probes import SMALL, MatchCue, made

SHARED = Path(__file__).parents[3] / "shared"
WEIGHTS = Path(os.environ.get("LEARNED_RL_WEIGHTS", SHARED / "weights"))
VALUE = Heads(flat={"value": 1})
DISCO = Heads(flat={"y": 2}, per_action={"z": 2})
REAL = Continuous(2, (-1.0, -1.0), (1.0, 1.0))
TALL = MLP((4, 4))


@dataclass(frozen=True)
class Spy:
    """Moves as `Sgd` does, and remembers what it was shown in the last `steps` steps."""

    steps: int
    still = False

    def init(self, key):
        return ()

    def start(self, params):
        tensors = zip(paths(params), jax.tree.leaves(params), strict=True)
        loud = {name: jnp.zeros((self.steps, p.shape[-1])) for name, p in tensors}
        return {"training": jnp.zeros(self.steps), "batch": jnp.zeros(self.steps), "loud": loud}

    def update(self, theta, gradient, state, params, senses, learning_rate):
        def keep(old, new):
            return jnp.concatenate([old[1:], jnp.broadcast_to(new, old[:1].shape)])

        loud = dict(zip(paths(params), jax.tree.leaves(senses.activations), strict=True))
        seen = {"training": senses.training, "batch": senses.batch, "loud": loud}
        return Sgd().update(gradient, (), params, learning_rate)[0], jax.tree.map(keep, state, seen)


def live(rule, network, updates, tasks=None, theta=None, lifetime=8):
    """An agent after some updates, compiled as one program; and theta."""
    life = Lifetime(tasks or MatchCue(2), rule, network, streams=4, steps=4, updates=lifetime)
    theta = rule.init(jax.random.key(0)) if theta is None else theta

    @jax.jit
    def run(theta):
        agent = life.start(theta, jax.random.key(1))
        keys = jax.random.split(jax.random.key(2), updates)
        return jax.lax.scan(lambda agent, key: (life.live(theta, agent, key)[0], None), agent, keys)[0]

    return run(theta)


SITES = {
    "the paper's": (
        Network(TALL),
        Discrete(3),
        VALUE,
        {
            "body_0": ("actor", 0.0),
            "body_1": ("actor", 0.5),
            "policy": ("actor", 1.0),
            "heads_body_0": ("critic", 0.0),
            "heads_body_1": ("critic", 0.5),
            "value": ("critic", 1.0),
        },
    ),
    "the paper's, real actions": (
        Network(TALL),
        REAL,
        VALUE,
        {
            "body_0": ("actor", 0.0),
            "body_1": ("actor", 1 / 3),
            "policy": ("actor", 2 / 3),
            "log_std": ("actor", 1.0),
            "heads_body_0": ("critic", 0.0),
            "heads_body_1": ("critic", 0.5),
            "value": ("critic", 1.0),
        },
    ),
    "convolutions and memory": (
        Network(CNN((3,), (4,)), memory=GRU(5), separate=False),
        Discrete(3),
        VALUE,
        {
            "body_conv_0": ("actor", 0.0),
            "body_0": ("actor", 1 / 3),
            "memory": ("actor", 2 / 3),
            "policy": ("actor", 1.0),
            "value": ("critic", 1.0),
        },
    ),
    "disco's": (
        ActionNetwork((4, 4), 6, (5,)),
        Discrete(3),
        DISCO,
        {
            "torso/0": ("actor", 0.0),
            "torso/1": ("actor", 0.5),
            "policy": ("actor", 1.0),
            "flat/y": ("critic", 0.4),
            "cell": ("critic", 0.4),
            "model": ("critic", 0.6),
            "per_action/z/0": ("critic", 0.8),
            "per_action/z/1": ("critic", 1.0),
        },
    ),
}


@pytest.mark.parametrize("name", SITES)
def test_where_tensors_stand(name):
    network, actions, heads, expected = SITES[name]
    obs_shape = (4, 4, 2) if "convolutions" in name else (3,)
    policy = network.build(obs_shape, actions, heads)
    params = jax.eval_shape(policy.init, jax.random.key(0))
    found = dict(zip(paths(params), sites(WiredPolicy(policy).layers, params), strict=True))
    for path, site in found.items():
        (layer,) = [layer for layer in expected if path == layer or path.startswith(f"{layer}/")]
        network, depth = expected[layer]
        assert site == (network, pytest.approx(depth), network == "actor"), path
    assert {site.network for site in found.values()} == {"actor", "critic"}


@pytest.mark.parametrize("network", [Network(TALL), Network(MLP((4,)), memory=GRU(5), separate=False)])
def test_layers_are_told_beside_the_same_outputs(network):
    policy, params, rollout = made(network, Discrete(3), VALUE)
    outputs, layers = jax.jit(policy.unroll_layers)(params, rollout)
    jax.tree.map(np.testing.assert_array_equal, outputs, jax.jit(policy.unroll)(params, rollout))
    np.testing.assert_allclose(layers["policy"], np.abs(outputs.policy.logits).mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(layers["value"], np.abs(outputs.flat["value"]).mean((0, 1)), rtol=1e-5)
    if network.memory:
        assert layers["memory"].shape == (5,)
        assert np.all(layers["memory"] < 1)
    else:
        hidden = np.tanh(rollout.obs @ params["body_0"]["kernel"] + params["body_0"]["bias"])
        np.testing.assert_allclose(layers["body_0"], np.abs(hidden).mean((0, 1)), rtol=1e-5)


def test_what_is_seen_is_the_papers():
    """Progress, and the activations of the very minibatch, with the parameters before the step."""
    base = Drift(epochs=3, minibatches=2, optimizer=Sgd())
    rule = Optimised(base, Spy(12))
    network = Network(TALL)
    agent = live(rule, network, 2, lifetime=5)
    seen = agent.rule_state.learned
    np.testing.assert_allclose(seen["training"], [0] * 6 + [1 / 4] * 6)
    np.testing.assert_allclose(seen["batch"], [0, 0, 0.5, 0.5, 1, 1] * 2)

    life = Lifetime(MatchCue(2), base, network, streams=4, steps=4, updates=5)
    policy = life.policy

    @jax.jit
    def last_update():
        """The second update again: base alone, step by step, and every layer's loudness, by hand."""
        keys = jax.random.split(jax.random.key(2), 2)
        before, _, _ = life.live((), life.start((), jax.random.key(1)), keys[0])
        key_act, key_update = jax.random.split(keys[1])
        _, rollout = life.act(before, key_act)
        batch = as_samples(base._prepare(Coefficients(), before.params, rollout, policy))
        params, loud = before.params, []
        for key in jax.random.split(key_update, 3):
            for chosen in shuffled(16, 2, key):
                part = take(batch, chosen)
                loud.append(by_hand(params, part.rollout.obs[0]))
                gradient = jax.grad(base._loss, has_aux=True)(params, (), Coefficients(), part, policy)[0]
                params, _ = Sgd().update(gradient, (), params, Coefficients().learning_rate)
        return params, loud

    def by_hand(params, obs):
        said = {}
        for names in (("body_0", "body_1", "policy"), ("heads_body_0", "heads_body_1", "value")):
            x = obs
            for i, name in enumerate(names):
                x = x @ params[name]["kernel"] + params[name]["bias"]
                x = jnp.tanh(x) if i < 2 else x
                said[name] = jnp.mean(jnp.abs(x), axis=0)
        return said

    params, loud = last_update()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7), params, agent.params)
    for step, layers in enumerate(loud):
        for name, value in layers.items():
            for tensor in ("kernel", "bias"):
                np.testing.assert_allclose(seen["loud"][f"{name}/{tensor}"][6 + step], value, rtol=1e-4)


def test_one_rollout_and_one_epoch_are_no_division_by_zero():
    seen = live(Optimised(ActorCritic(), Spy(2)), SMALL, 2, lifetime=1).rule_state.learned
    np.testing.assert_array_equal(seen["batch"], 0)
    np.testing.assert_array_equal(seen["training"], [0, 1])  # older than its lifetime: at its end


BASES = {
    "adam, epochs": (Drift(epochs=2, minibatches=2), Adam()),
    "sgd": (ActorCritic(optimizer=Sgd()), Sgd()),
    "around a schedule": (Schedule(ActorCritic(), hidden=4), Adam()),
}


@pytest.mark.parametrize("name", BASES)
def test_untrained_it_is_the_base(name):
    base, optimizer = BASES[name]
    rule = Optimised(base, Residual(optimizer, Open()))
    theta = rule.init(jax.random.key(0))
    alone = live(base, SMALL, 4, theta=theta["base"])
    around = live(rule, SMALL, 4, theta=theta)
    # To the bit, but for how the compiler fuses two programs.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), alone.params, around.params)


def test_a_schedule_around_it_reaches_the_base_inside():
    rule = Schedule(Optimised(ActorCritic(), Spy(1)), hidden=4, learned=("learning_rate",))
    theta = rule.init(jax.random.key(0))
    theta["schedule"]["offset"] = jnp.full(1, -100.0)  # as slow as it can
    born = live(rule, SMALL, 0, theta=theta).params
    slow = live(rule, SMALL, 1, theta=theta).params
    quick = live(rule, SMALL, 1, theta=theta | {"schedule": {**theta["schedule"], "offset": jnp.zeros(1)}}).params

    def moved(params):
        return max(float(jnp.max(jnp.abs(a - b))) for a, b in zip(*map(jax.tree.leaves, (params, born)), strict=True))

    assert moved(slow) == pytest.approx(np.exp(-4.0) * moved(quick), rel=1e-2)


def test_forward_mode_agrees_with_backpropagation():
    """The companion's derivative is a definition; the meta-gradient must not notice."""
    rule = Optimised(ActorCritic(), Residual())
    life = Lifetime(MatchCue(2), rule, SMALL, streams=4, steps=4, updates=4)
    theta = jax.tree.map(lambda x: x + 0.1, rule.init(jax.random.key(0)))

    def end(theta):
        agent = life.start(theta, jax.random.key(1))
        keys = jax.random.split(jax.random.key(2), 2)
        agent = jax.lax.scan(lambda agent, key: (life.live(theta, agent, key)[0], None), agent, keys)[0]
        return sum(jnp.sum(jnp.sin(p)) for p in jax.tree.leaves(agent.params))

    direction = jax.tree.map(jnp.ones_like, theta)
    gradient = jax.jit(jax.grad(end))(theta)
    tangent = jax.jit(lambda theta: jax.jvp(end, (theta,), (direction,))[1])(theta)
    along = sum(jnp.sum(g) for g in jax.tree.leaves(gradient))
    assert float(tangent) == pytest.approx(float(along), rel=1e-3)
    assert abs(float(tangent)) > 1e-6


def published(name):
    file = WEIGHTS / f"{name}_OPEN.npy"
    if not file.exists():
        pytest.skip(f"no published weights at {file}")
    return from_vector(np.load(file, allow_pickle=False))


CONVOLUTIONS, MEMORY = Network(CNN((4,), (8,))), Network(CNN((4,), (8,)), memory=GRU(6), separate=False)


@pytest.mark.parametrize(
    ("network", "name"),
    [
        pytest.param(CONVOLUTIONS, "multi", id="convolutions, multi"),
        pytest.param(MEMORY, "breakout", id="memory, breakout"),
        pytest.param(CONVOLUTIONS, "breakout", id="convolutions, breakout", marks=pytest.mark.slow),
        pytest.param(MEMORY, "multi", id="memory, multi", marks=pytest.mark.slow),
    ],
)
def test_published_weights_drive_any_agent(name, network):
    optimizer, weights = published(name)
    assert isinstance(optimizer, LearnedOptimizer)
    rule = Optimised(Drift(epochs=2, minibatches=2), optimizer)
    theta = {"base": (), "optimizer": weights}
    born, grown = (live(rule, network, n, tasks=catch(5, 5), theta=theta) for n in (0, 3))
    for before, after in zip(jax.tree.leaves(born.params), jax.tree.leaves(grown.params), strict=True):
        assert np.all(np.isfinite(after))
        assert np.all(before != after)
        assert np.max(np.abs(before - after)) < 0.5
    # The mean of an update is taken off, over all tensors of all networks.
    total = [sum(float(jnp.sum(p)) for p in jax.tree.leaves(agent.params)) for agent in (born, grown)]
    assert total[1] == pytest.approx(total[0], abs=1e-3)


def test_an_agent_that_a_rule_brings_along_is_wired_as_well():
    """`inherited` lays what theta holds over what the policy would have begun with."""
    policy, params, rollout = made(Network(TALL), Discrete(3), VALUE)
    wired = WiredPolicy(policy)
    brought = inherited(params, wired, jax.random.key(0))
    assert set(brought) > set(params)
    jax.tree.map(np.testing.assert_array_equal, unwired(brought), params)
    gradient = jax.grad(lambda p: jnp.sum(wired.unroll(p, rollout).flat["value"]))(brought)
    assert heard(gradient).passes == 1
    plain = jax.grad(lambda p: jnp.sum(policy.unroll(p, rollout).flat["value"]))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), unwired(gradient), plain)


def test_a_rule_without_an_optimizer_is_refused():
    with pytest.raises(ValueError, match="NoLearning has no optimizer"):
        Optimised(NoLearning())
