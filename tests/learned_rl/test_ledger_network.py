"""Accounts of actions: what is replayed is what was acted on, and no action is known by its number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.ledger_network import LedgerNetwork
from learned_rl.rollout import collect, start_streams
from learned_rl.trials import Trials
from learned_rl.types import ONE_PER_ACTION, Continuous, Discrete, Heads
from tests.probes import Recall, jitter

LEDGER = LedgerNetwork(width=5, cells=3, values=4, hidden=6, layers=2)
HEADS = Heads(flat={"value": 1}, per_action={"advantage": 2, "next": ONE_PER_ACTION})
TASKS = Trials(Recall(length=2, actions=Discrete(3)), episodes=2)  # trials of four steps


def grown(heads=HEADS):
    policy = LEDGER.build(TASKS.obs_shape, TASKS.actions, heads)
    return policy, jitter(jax.jit(policy.init)(jax.random.key(0)), jax.random.key(1), 0.3)


def same(one, other):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), one, other)


def test_replay_is_what_acting_said_across_trials_and_rollouts():
    policy, params = grown()
    streams = start_streams(TASKS, (), policy, 5, jax.random.key(1))
    act, unroll, unroll_next = jax.jit(policy.act), jax.jit(policy.unroll), jax.jit(policy.unroll_next)
    for r, steps in enumerate((7, 1, 4)):  # the second rollout ends a trial, the third begins with one
        began = streams
        streams, rollout = collect(
            TASKS, (), policy, params, streams, jax.random.split(jax.random.key(10 + r), steps), jnp.float32(0)
        )
        replayed, following = unroll(params, rollout), unroll_next(params, rollout)
        memory, last = began.memory, began.last
        for t in range(steps):
            memory, said = act(params, memory, rollout.obs[t], last)
            same(said, jax.tree.map(lambda x, t=t: x[t], replayed))
            _, after = act(params, memory, rollout.next_obs[t], jnp.zeros(5, bool))
            same(after, jax.tree.map(lambda x, t=t: x[t], following))
            last = rollout.last[t]
        same(streams.memory, memory)


def test_an_account_is_a_table_of_what_followed_an_action_where_it_was_taken():
    policy, params = grown(Heads())
    streams = start_streams(TASKS, (), policy, 1, jax.random.key(1))
    streams, _ = collect(TASKS, (), policy, params, streams, jax.random.split(jax.random.key(2), 3), jnp.float32(0))
    _, rollout = collect(TASKS, (), policy, params, streams, jax.random.split(jax.random.key(3), 5), jnp.float32(0))
    obs = np.asarray(rollout.obs[1:5, 0])  # a whole trial: the first step is the last one of the trial before
    assert rollout.last[:, 0].tolist() == [True, False, False, False, True]
    tally = params["tally"]

    def layer(x, at):
        return x @ at["w"] + at["b"]

    seen, taken = np.concatenate([obs[:, :2], obs[:, 5:]], axis=1), obs[1:, 2:5]
    h = layer(seen, tally["said"])
    at = jax.nn.softmax(4 * layer(h, tally["address"]), axis=-1)
    table, logits = np.zeros((3, 3, 5)), policy.unroll(params, rollout).policy.logits[1:, 0]
    for t in range(4):
        if t > 0:
            both = jnp.concatenate([h[t - 1], h[t]])
            event = jax.nn.relu(layer(jax.nn.relu(layer(both, tally["event"][0])), tally["event"][1]))
            table += np.einsum("c,a,v->cav", at[t - 1], taken[t - 1], np.append(event, 1.0))
        recalled = np.einsum("c,cav->av", at[t], table)
        sums, count = recalled[:, :-1], recalled[:, -1:]
        common = np.tile(np.append(h[t], np.log1p(count.sum())), (3, 1))
        x = np.concatenate([common, np.log1p(sums), sums / (1 + count), np.log1p(count)], axis=1)
        x = jax.nn.relu(layer(x, params["account"]))
        for among in params["among"]:
            x = jax.nn.relu(layer(np.concatenate([x, np.tile(x.mean(axis=0), (3, 1))], axis=1), among))
        np.testing.assert_allclose(logits[t], layer(x, params["policy"])[:, 0], atol=1e-5)
    assert table[..., -1].sum() == pytest.approx(3.0)


def test_who_renames_the_actions_renames_what_is_said_of_them():
    policy, params = grown(Heads(flat={"value": 1}, per_action={"advantage": 2}))
    streams = start_streams(TASKS, (), policy, 4, jax.random.key(1))
    keys = jax.random.split(jax.random.key(2), 6)
    _, rollout = collect(TASKS, (), policy, params, streams, keys, jnp.float32(0))
    names = jnp.array([2, 0, 1])
    renamed = rollout.obs.at[..., 2:5].set(rollout.obs[..., 2:5][..., names])
    before, after = policy.unroll(params, rollout), policy.unroll(params, rollout._replace(obs=renamed))
    same(before.policy.logits[..., names], after.policy.logits)
    same(before.per_action["advantage"][..., names, :], after.per_action["advantage"])
    same(before.flat, after.flat)
    assert jnp.abs(before.policy.logits - after.policy.logits).max() > 1e-3


def test_the_same_parameters_serve_any_number_of_actions():
    few, many = (LEDGER.build((n + 4,), Discrete(n), Heads(flat={"value": 1})) for n in (2, 50))
    shapes = [jax.tree.map(jnp.shape, jax.jit(policy.init)(jax.random.key(0))) for policy in (few, many)]
    assert shapes[0] == shapes[1]
    said = many.act(few.init(jax.random.key(0)), many.start_memory(2), jnp.ones((2, 54)), jnp.zeros(2, bool))[1]
    assert said.policy.entropy().min() > 0.999 * np.log(50)  # at birth


@pytest.mark.parametrize(("shape", "actions"), [((4,), Discrete(3)), ((4, 4), Discrete(2)), ((6,), Continuous(2))])
def test_what_is_no_trial_of_discrete_actions_is_refused(shape, actions):
    with pytest.raises(ValueError, match="for discrete actions in Trials only"):
        LEDGER.build(shape, actions, Heads())


@pytest.mark.parametrize("sizes", [{"cells": 0}, {"layers": 1000}])
def test_sizes_out_of_range_are_refused(sizes):
    with pytest.raises(ValueError, match="all must be at least 1, layers at most"):
        LedgerNetwork(**sizes)
