"""The rule against recorded runs of the published implementation, array by array."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl import layers
from learned_rl.rules.disco.meta_network import read
from learned_rl.rules.disco.predictions import Pair
from tests.learned_rl.disco import recorded

# Recorded, and used by nothing: the published code computes them on the way.
UNUSED = ("value/value_target", "value/td")


def look(theta, inputs, averages):
    """`(evidence, averages)` as the rule makes them."""
    rule, _ = recorded.published()

    def pair(said):
        now, then = (jax.tree.map(lambda x, cut=cut: x[cut], said) for cut in (NOW, THEN))
        return Pair(rule.glance(theta, now), rule.glance(theta, then))

    pairs = (pair(recorded.predictions(inputs[who])) for who in ("agent", "target"))
    return rule.look(*pairs, inputs["rollout"], averages)


NOW, THEN = slice(None, -1), slice(1, None)


@recorded.quick_jit
def update(theta, inputs, averages, lifetime):
    """Everything recorded of one update, by its recorded name."""
    rule, _ = recorded.published()
    seen, averages = look(theta, inputs, averages)
    targets = rule.network.targets(theta, lifetime, seen)
    after = rule.network.live(theta, lifetime, seen, targets)
    found = {f"meta_state/{k}": x for k, x in recorded.recorded_memory(averages, after).items()}
    found |= dict(zip(("meta/pi_hat", "meta/y_hat", "meta/z_hat", "meta/meta_input_emb"), targets, strict=True))
    found |= _values(seen, averages) | _intermediate(theta, lifetime, seen)

    def loss(agent):
        now = jax.tree.map(lambda x: x[:-1], recorded.predictions(agent))
        steps = rule.losses(now.taken(seen.rollout.action), targets, seen)
        return jnp.sum(rule.total(steps)), steps

    gradient, steps = jax.grad(loss, has_aux=True)(inputs["agent"])
    found |= {f"grad/{k}": x for k, x in gradient.items()}
    learned = steps.learned
    found |= {f"loss/{k}": x for k, x in zip(("pi", "y", "z", "aux_pi"), learned, strict=True)}
    found |= {"loss/agent_loss": sum(learned), "loss/q": steps.value, "loss/agent_loss_no_meta": 0.2 * steps.value}
    return found, averages, after


def _values(seen, averages):
    states = jax.tree.map(lambda now, then: jnp.concatenate([now, then[-1:]]), *seen.values)
    return {
        "value/value": states.value,
        "value/target_value": states.target_value,
        "value/q_value": states.q,
        "value/target_q_value": states.target_q,
        "value/qv_adv": states.action_advantage,
        "value/normalized_qv_adv": averages.advantage.standardise(states.action_advantage),
        "value/rho": seen.steps.ratio,
        "value/adv": seen.steps.advantage,
        "value/normalized_adv": seen.advantage,
        "value/q_target": seen.steps.q_target,
        "value/q_td": seen.steps.q_error,
        "value/normalized_q_td": averages.q_error.rescale(seen.steps.q_error),
    }


def _intermediate(theta, lifetime, seen):
    net = theta["trajectory"]
    reading = read(net["reader"]["actions"], seen, lambda glance: glance.trajectory)
    of_life = read(theta["lifetime"]["reader"]["actions"], seen, lambda glance: glance.lifetime)
    outputs = layers.lstm_backwards(net["lstm"], reading.steps, seen.rollout.last)
    return {
        "dbg/meta_inputs": reading.steps,
        "dbg/policy_emb": reading.actions,
        "dbg/lifetime_inputs": of_life.steps,
        "dbg/trajectory_rnn": outputs,
        "dbg/gated": outputs * layers.linear(net["gate"], lifetime.hidden),
    }


def updates(case):
    """The inputs of the updates of a case, in order."""
    arrays, k = recorded.load(case), 0
    while inputs := recorded.within(arrays, f"u{k}/in/"):
        nested = {who: recorded.within(inputs, f"{who}_out/") for who in ("agent", "target")}
        yield nested | {"rollout": recorded.rollout(inputs)}, recorded.within(inputs, "meta_state/")
        k += 1


@functools.cache
def ran(case):
    """What we find in each update of a case, our own memory carried from each to the next."""
    _, theta = recorded.published()
    carried, found = None, []
    for inputs, state in updates(case):
        found_here, *carried = update(theta, inputs, *(carried or recorded.memory(state)))
        found.append(jax.tree.map(np.asarray, found_here))
    return found


@pytest.mark.parametrize("kind", ["meta", "meta_state", "value", "loss", "grad", "dbg"])
@pytest.mark.parametrize("case", recorded.cases("case"))
def test_parity_of_consecutive_updates(case, kind):
    arrays = recorded.load(case)
    for k, found in enumerate(ran(case)):
        expected = recorded.within(arrays, f"u{k}/out/{kind}/")
        assert expected
        for name, x in expected.items():
            if f"{kind}/{name}" not in (*UNUSED, "meta_state/target_params"):
                recorded.check(found[f"{kind}/{name}"], x, f"{kind}/{name}")


def with_backprop():
    names = recorded.cases("case")
    if not isinstance(names[0], str):
        return names
    return [name for name in names if "chain/meta_loss" in recorded.load(name)]


def asked(theta, inputs, averages, lifetime):
    """The sum of the learned part of the loss, and the lifetime's next memory; theta and agent differentiable."""
    rule, _ = recorded.published()
    seen, _ = look(theta, inputs, averages)
    targets = rule.network.targets(theta, lifetime, seen)
    now = jax.tree.map(lambda x: x[NOW], recorded.predictions(inputs["agent"]))
    steps = rule.losses(now.taken(seen.rollout.action), targets, seen)
    return jnp.sum(sum(steps.learned)), rule.network.live(theta, lifetime, seen, targets)


@recorded.quick_jit
@functools.partial(jax.value_and_grad, argnums=(0, 1))
def chain(theta, agents, weights, others, memories):
    """What all updates of a case ask, weighted, with the lifetime's memory carried differentiably between them."""

    def step(lifetime, inputs):
        agent, weight, others, (averages, _) = inputs
        loss, lifetime = asked(theta, others | {"agent": agent}, averages, lifetime)
        return lifetime, weight * loss

    first = jax.tree.map(lambda x: x[0], memories[1])
    return jnp.sum(jax.lax.scan(step, first, (agents, weights, others, memories))[1])


def differentiated(case, weights):
    _, theta = recorded.published()
    recordings = [(inputs, recorded.memory(state)) for inputs, state in updates(case)]
    inputs, memories = jax.tree.map(lambda *x: jnp.stack(x), *recordings)
    weights = jnp.asarray(weights(len(recordings)), jnp.float32)
    return chain(theta, inputs["agent"], weights, inputs, memories)


@pytest.mark.parametrize("case", with_backprop())
def test_parity_of_the_gradient_through_the_meta_network(case):
    # The first update alone, in the program of the chain.
    _, (_, found) = differentiated(case, lambda count: np.arange(count) == 0)
    for name, x in recorded.within(recorded.load(case), "u0/out/grad_backprop/").items():
        recorded.check(found[name][0], x, f"grad_backprop/{name}")


@pytest.mark.parametrize("case", with_backprop())
def test_parity_of_the_meta_gradient_over_a_chain_of_updates(case):
    loss, (gradient, _) = differentiated(case, np.ones)
    arrays = recorded.load(case)
    gradient = {name: np.asarray(x) for name, x in recorded.as_published(gradient).items()}
    recorded.check(loss, arrays["chain/meta_loss"], "chain/meta_loss")
    assert sorted(gradient) == recorded.parameter_names()
    norms = np.array([np.linalg.norm(gradient[name].astype(np.float64)) for name in sorted(gradient)])
    recorded.check(norms, arrays["chain/meta_grad_norm"], "chain/meta_grad_norm")
    for name, x in recorded.within(arrays, "chain/meta_grad/").items():
        difference = np.abs(gradient[name].reshape(x.shape) - x).max()
        assert difference <= 1e-3 * np.abs(x).max() + 1e-5, name
