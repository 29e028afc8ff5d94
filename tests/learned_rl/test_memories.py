"""Memories against other implementations of them, and what they may and may not depend on."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.hypernetwork import Hypernetwork
from learned_rl.memories import GRU, Transformer
from learned_rl.networks import MLP, Network
from learned_rl.tally import Tally
from learned_rl.types import Continuous, Discrete, Heads
from tests.probes import HYPER, jitter, made

TRANSFORMER = Transformer(8, heads=2, layers=2, window=3)


def test_the_gated_unit_is_that_of_flax():
    memory, cell = GRU(5), nn.GRUCell(5)
    params = jitter(memory.init(jax.random.key(0), 3), jax.random.key(1), 0.3)
    r, z, n = jnp.split(params["input"]["w"], 3, axis=1)
    r_b, z_b, n_b = jnp.split(params["input"]["b"], 3)
    r_h, z_h, n_h = jnp.split(params["recurrent"], 3, axis=1)
    theirs = {
        "ir": {"kernel": r, "bias": r_b},
        "iz": {"kernel": z, "bias": z_b},
        "in": {"kernel": n, "bias": n_b},
        "hr": {"kernel": r_h},
        "hz": {"kernel": z_h},
        "hn": {"kernel": n_h, "bias": params["candidate"]},
    }
    h, x = jax.random.normal(jax.random.key(2), (4, 5)), jax.random.normal(jax.random.key(3), (4, 3))
    np.testing.assert_allclose(memory.step(params, h, x)[1], cell.apply({"params": theirs}, h, x)[1], atol=1e-6)
    for k in (r_h, z_h, n_h):
        assert k.shape == (5, 5)
    born = memory.init(jax.random.key(0), 3)["recurrent"]
    np.testing.assert_allclose(born[:, :5].T @ born[:, :5], np.eye(5), atol=1e-5)


def test_a_transformer_sees_as_far_back_as_its_window_and_never_ahead():
    params = jitter(TRANSFORMER.init(jax.random.key(0), 2), jax.random.key(1), 0.3)
    x = jax.random.normal(jax.random.key(2), (9, 1, 2))
    begins = jnp.zeros((9, 1), bool).at[7].set(True)

    def said(x):
        return jnp.sum(TRANSFORMER.unroll(params, TRANSFORMER.start(1), x, begins) ** 3, axis=(1, 2))

    influence = jnp.abs(jax.jit(jax.jacrev(said))(x)).max(axis=(2, 3)) > 0
    now, then = np.indices((9, 9))
    far = 2 * (TRANSFORMER.window - 1)  # layers (window - 1)
    same_episode = (now >= 7) == (then >= 7)
    np.testing.assert_array_equal(influence, (then <= now) & (now - then <= far) & same_episode)


def test_attention_is_that_of_jax_and_positions_count_from_the_episode_s_beginning():
    memory = Transformer(8, heads=2, layers=1, window=20)
    params = jitter(memory.init(jax.random.key(0), 2), jax.random.key(1), 0.3)
    x = jax.random.normal(jax.random.key(2), (6, 3, 2))
    begins = jnp.zeros((6, 3), bool).at[4].set(True)
    y = memory.unroll(params, memory.start(3), x, begins)
    layer = params["layers"][0]

    def norm(scale, x):
        return scale * (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)

    for episode in (slice(0, 4), slice(4, 6)):
        h = jnp.moveaxis(x[episode] @ params["embed"]["w"] + params["embed"]["b"], 0, 1)
        angles = jnp.arange(h.shape[1])[:, None] / jnp.array([1.0, 10.0, 100.0, 1000.0])
        h = h + jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)
        q, k, v = jnp.split(norm(layer["scale"][0], h) @ layer["read"]["w"] + layer["read"]["b"], 3, axis=-1)
        q, k, v = (m.reshape(3, -1, 2, 4) for m in (q, k, v))
        attended = jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(3, -1, 8)
        h = h + attended @ layer["write"]["w"] + layer["write"]["b"]
        first, second = layer["inner"]
        inner = jax.nn.relu(norm(layer["scale"][1], h) @ first["w"] + first["b"])
        h = h + inner @ second["w"] + second["b"]
        np.testing.assert_allclose(y[episode], jnp.moveaxis(norm(params["scale"], h), 0, 1), atol=1e-5)


def test_a_tally_is_a_table_of_sums_that_is_filled_where_an_event_began_and_read_where_the_agent_is():
    memory = Tally(5, cells=3, values=4)
    params = jitter(memory.init(jax.random.key(0), 2), jax.random.key(1), 0.3)
    x = jax.random.normal(jax.random.key(2), (6, 1, 2))
    begins = jnp.zeros((6, 1), bool).at[4].set(True)
    y = memory.unroll(params, memory.start(1), x, begins)
    (params,) = params

    def layer(x, at):
        return x @ at["w"] + at["b"]

    def dense(x, layers):
        return layer(jax.nn.relu(layer(x, layers[0])), layers[1])

    h = layer(x[:, 0], params["said"])
    at = jax.nn.softmax(4 * layer(h, params["address"]), axis=-1)
    for episode in (range(4), range(4, 6)):
        table = np.zeros((3, 5))
        for t in episode:
            if t > episode[0]:
                event = jax.nn.relu(dense(jnp.concatenate([h[t - 1], h[t]]), params["event"]))
                table += np.outer(at[t - 1], np.append(event, 1.0))
            *sums, count = np.asarray(at[t] @ table)
            sums = np.array(sums)
            told = np.concatenate([h[t], np.log1p(sums), sums / (1 + count), [np.log1p(count)]])
            np.testing.assert_allclose(y[t, 0], h[t] + dense(told, params["recall"]), atol=2e-5)
        assert table[:, -1].sum() == pytest.approx(len(episode) - 1, abs=1e-5)


def test_what_was_tallied_before_is_known_until_an_episode_begins():
    memory = Tally(5, cells=3, values=4)
    params = jitter(memory.init(jax.random.key(0), 2), jax.random.key(1), 0.3)
    x = jax.random.normal(jax.random.key(2), (7, 2, 2))
    begins = jnp.zeros((7, 2), bool).at[5, 0].set(True)
    whole, kept = memory.unroll(params, memory.start(2), x, begins), memory.start(2)
    for t in range(3):
        kept, _ = memory.step(params, kept, x[t])
    np.testing.assert_allclose(memory.unroll(params, kept, x[3:], begins[3:]), whole[3:], atol=1e-5)
    fresh = memory.unroll(params, memory.start(2), x[3:], begins[3:])
    assert jnp.abs(fresh - whole[3:])[:2].max() > 1e-3
    np.testing.assert_allclose(fresh[2:, 0], whole[5:, 0], atol=1e-5)


@pytest.mark.parametrize("actions", [Discrete(3), Continuous(2, (-1.0, -1.0), (1.0, 1.0))])
def test_a_hypernetwork_starts_as_one_ordinary_network_for_all_tasks(actions):
    policy = HYPER.build((2,), actions, Heads())
    params = jax.jit(policy.init)(jax.random.key(0))
    outputs = 3 if isinstance(actions, Discrete) else 2
    weight, bias = jnp.split(params["policy_0"]["bias"], [10])
    x = jax.random.normal(jax.random.key(1), (4, 2))
    hidden = jnp.tanh(x @ weight.reshape(2, 5) + bias)
    expected = hidden @ params["policy_1"]["bias"][: 5 * outputs].reshape(5, outputs)
    for memory in (policy.start_memory(4), jax.random.normal(jax.random.key(2), (4, 6))):
        said = policy.act(params, memory, x, jnp.zeros(4, bool))[1].policy
        np.testing.assert_allclose(said[0], expected, atol=1e-6)
    assert jnp.abs(weight.reshape(2, 5) @ weight.reshape(2, 5).T - 2 * jnp.eye(2)).max() < 1e-5


def test_a_grown_hypernetwork_gives_every_stream_a_network_of_its_own():
    policy, params, _ = made(HYPER, Discrete(3), Heads())
    memory, x = jax.random.normal(jax.random.key(2), (4, 6)), jnp.ones((4, 2))
    logits = policy.act(params, memory, x, jnp.zeros(4, bool))[1].policy.logits
    assert jnp.abs(logits - logits[:1])[1:].max(axis=1).min() > 1e-3
    alone = policy.act(params, memory[2:3], x[:1], jnp.zeros(1, bool))[1].policy.logits
    np.testing.assert_allclose(logits[2:3], alone, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GRU(0),
        lambda: Transformer(width=10, heads=4),
        lambda: Transformer(layers=1000),
        lambda: Transformer(window=0),
        lambda: Tally(cells=0),
        lambda: Hypernetwork(spread=-1.0),
        lambda: Network(MLP(), memory=GRU(4)),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match=r"at least|multiple|separate=False"):
        make()
