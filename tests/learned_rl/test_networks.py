"""Memory, heads and replay: what is replayed is what was acted on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.memories import GRU
from learned_rl.networks import CNN, Network, orthogonal
from learned_rl.rollout import collect, restart, start_streams
from learned_rl.types import Continuous, Discrete, Heads
from tests.probes import ATTENTIVE, HYPER, RECURRENT, SMALL, TALLYING, MatchCue, Recall, made, reach

HEADS = Heads(flat={"value": 1, "prediction": 3}, per_action={"advantage": 2})


def recurrent():
    # Grown up: at the small gain of birth, a wrong memory would not show.
    return made(RECURRENT, Discrete(2), Heads(flat={"value": 1}))


def test_memory_is_cleared_exactly_where_the_previous_step_ended_an_episode():
    policy, params, _rollout = recurrent()
    memory, obs = jnp.ones((3, 6)), jnp.ones((3, 2))
    kept, _ = policy.act(params, memory, obs, jnp.array([False, True, False]))
    fresh, _ = policy.act(params, policy.start_memory(3), obs, jnp.zeros(3, bool))
    np.testing.assert_allclose(kept[1], fresh[1], rtol=1e-6)
    assert jnp.abs(kept[0] - fresh[0]).max() > 1e-2
    np.testing.assert_array_equal(kept[0], kept[2])


def test_streams_do_not_leak_into_each_other():
    policy, params, rollout = recurrent()

    def first_value(obs):
        return jnp.sum(policy.unroll(params, rollout._replace(obs=obs)).flat["value"][:, 0])

    influence = jax.jit(jax.grad(first_value))(rollout.obs)
    assert jnp.abs(influence[:, 0]).max() > 0
    np.testing.assert_array_equal(influence[:, 1:], 0)


@pytest.mark.parametrize(
    "network", [RECURRENT, ATTENTIVE, TALLYING, HYPER], ids=["GRU", "transformer", "tally", "hypernetwork"]
)
def test_replay_is_what_acting_said_across_episode_ends_and_rollouts(network):
    policy, params, rollout = made(network, Discrete(2), Heads(flat={"value": 1}))
    tasks = Recall(length=3)
    task = tasks.draw(jax.random.key(0))
    streams = start_streams(tasks, task, policy, 5, jax.random.key(1))
    # Seven steps: the second rollout begins in the middle of an episode, the third right after an end.
    act, unroll, unroll_next = jax.jit(policy.act), jax.jit(policy.unroll), jax.jit(policy.unroll_next)
    for r, steps in enumerate((7, 2, 4)):
        keys = jax.random.split(jax.random.key(10 + r), steps)
        began = streams
        streams, rollout = collect(tasks, task, policy, params, streams, keys, jnp.float32(0))
        outputs = unroll(params, rollout)
        np.testing.assert_allclose(
            outputs.policy.log_prob(rollout.action), rollout.behaviour_log_prob, rtol=1e-5, atol=1e-6
        )
        # By hand, step by step.
        memory, last = began.memory, began.last
        following = unroll_next(params, rollout)
        for t in range(steps):
            memory, said = act(params, memory, rollout.obs[t], last)
            np.testing.assert_allclose(said.flat["value"], outputs.flat["value"][t], rtol=1e-5, atol=1e-6)
            # The value to bootstrap from has seen step t, and is of the same episode even where that ended.
            _, after = act(params, memory, rollout.next_obs[t], jnp.zeros(5, bool))
            np.testing.assert_allclose(after.flat["value"], following.flat["value"][t], rtol=1e-5, atol=1e-6)
            last = rollout.last[t]
        for kept, by_hand in zip(jax.tree.leaves(streams.memory), jax.tree.leaves(memory), strict=True):
            np.testing.assert_allclose(kept, by_hand, rtol=1e-5, atol=1e-6)


def test_a_network_without_memory_replays_too():
    policy, params, rollout = made(SMALL, Discrete(2), Heads())
    assert rollout.memory == policy.start_memory(4) == ()
    direct = policy.act(params, (), rollout.next_obs[2], rollout.last[2])[1].policy.logits
    np.testing.assert_allclose(policy.unroll_next(params, rollout).policy.logits[2], direct, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [2, 5])
def test_heads_have_the_shapes_a_rule_asked_for(count):
    for network in (SMALL, RECURRENT):
        policy, params, rollout = made(network, Discrete(count), HEADS)
        outputs = jax.jit(policy.unroll)(params, rollout)
        assert outputs.policy.logits.shape == (6, 4, count)
        assert {k: v.shape for k, v in outputs.flat.items()} == {"value": (6, 4, 1), "prediction": (6, 4, 3)}
        assert outputs.per_action["advantage"].shape == (6, 4, count, 2)


def test_real_actions_have_a_state_independent_spread_and_no_heads_per_action():
    policy = SMALL.build((2,), reach().actions, Heads(flat={"value": 1}))
    params = jax.jit(policy.init)(jax.random.key(0))
    outputs = policy.act(params, (), jnp.ones((3, 2)), jnp.zeros(3, bool))[1]
    assert outputs.policy.mean.shape == outputs.policy.log_std.shape == (3, 1)
    np.testing.assert_array_equal(outputs.policy.log_std, 0)
    with pytest.raises(ValueError, match="'advantage' is per action"):
        SMALL.build((2,), Continuous(1, (-1.0,), (1.0,)), HEADS).init(jax.random.key(0))


@pytest.mark.parametrize("shape", [(10, 10, 4), (10, 5)])
def test_a_convolution_sees_where_things_are(shape):
    policy = Network(CNN((4,), (8,))).build(shape, Discrete(3), HEADS)
    params = jax.jit(policy.init)(jax.random.key(0))
    images = jax.nn.one_hot(jnp.array([0, 7]), int(np.prod(shape))).reshape(2, *shape)
    outputs = policy.act(params, (), images, jnp.zeros(2, bool))[1]
    assert outputs.policy.logits.shape == (2, 3)
    assert jnp.abs(outputs.flat["prediction"][0] - outputs.flat["prediction"][1]).max() > 1e-3


def test_a_convolution_of_a_vector_is_refused():
    with pytest.raises(ValueError, match="use an MLP"):
        Network(CNN()).build((4,), Discrete(2), Heads()).init(jax.random.key(0))
    with pytest.raises(ValueError, match="set separate=False"):
        Network(memory=GRU(4))


def test_an_agent_is_born_close_to_uniform():
    policy = Network().build((2,), Discrete(4), Heads(flat={"value": 1}))
    params = jax.jit(policy.init)(jax.random.key(0))
    outputs = policy.act(params, (), 3 * jax.random.normal(jax.random.key(1), (50, 2)), jnp.zeros(50, bool))[1]
    assert outputs.policy.entropy().min() > 0.999 * np.log(4)


def test_separate_bodies_share_nothing():
    policy, params, rollout = made(SMALL, Discrete(2), Heads(flat={"value": 1}))
    gradient = jax.grad(lambda p: jnp.sum(policy.unroll(p, rollout).flat["value"]))(params)
    assert jnp.abs(gradient["body_0"]["kernel"]).max() == 0
    assert jnp.abs(gradient["heads_body_0"]["kernel"]).max() > 0


FIELDS = ("obs", "action", "reward", "discount", "last", "next_obs", "behaviour_log_prob")


def test_sampled_data_carry_no_gradient_except_the_probability_that_acted():
    for tasks, network in ((MatchCue(2), SMALL), (reach(2), SMALL), (Recall(2), RECURRENT)):
        policy = network.build((2,), tasks.actions, Heads())
        params = jax.jit(policy.init)(jax.random.key(0))
        task = tasks.draw(jax.random.key(0))
        streams = start_streams(tasks, task, policy, 3, jax.random.key(1))

        def totals(params, tasks=tasks, policy=policy, task=task, streams=streams):
            keys = jax.random.split(jax.random.key(2), 4)
            rollout = collect(tasks, task, policy, params, streams, keys, jnp.float32(0))[1]
            return {field: jnp.sum(jnp.asarray(getattr(rollout, field), jnp.float32)) for field in FIELDS}

        for field, gradient in jax.jit(jax.jacrev(totals))(params).items():
            size = max(jnp.abs(g).max() for g in jax.tree.leaves(gradient))
            assert (size > 0) == (field == "behaviour_log_prob"), field


def test_returns_of_episodes_are_accounted_for():
    tasks, policy = Recall(length=3), SMALL.build((2,), Discrete(2), Heads())
    task = tasks.draw(jax.random.key(0))
    params = jax.jit(policy.init)(jax.random.key(0))
    streams = start_streams(tasks, task, policy, 8, jax.random.key(1))
    rewards = []
    one = jax.jit(lambda streams, key: collect(tasks, task, policy, params, streams, key[None], jnp.float32(0)))
    for t in range(11):
        streams, rollout = one(streams, jax.random.key(2 + t))
        rewards.append(rollout.reward[0])
        ended = (t + 1) // 3
        np.testing.assert_array_equal(streams.episodes, ended)
        done = rewards[3 * ended - 3 : 3 * ended] if ended else rewards
        np.testing.assert_allclose(streams.episode_return, sum(done), err_msg=f"after step {t}")
        np.testing.assert_allclose(streams.running_return, sum(rewards[3 * ended :], jnp.zeros(8)))


class Coins(Recall):
    """Episodes of one step; what is shown, and what is earned, are coins tossed as actions are: from a key alone."""

    def reset(self, task, key):
        state, _ = super().reset(task, key)
        state = state._replace(cue=self._toss(key))
        return state, jnp.full(2, state.cue)

    def step(self, task, state, action, key):
        state, out = super().step(task, state, action, key)
        return state, out._replace(reward=self._toss(key))

    def _toss(self, key):
        return jnp.argmax(jax.random.gumbel(key, (1, 2))).astype(jnp.float32)


def test_acting_the_environment_and_its_restart_have_keys_of_their_own():
    tasks, policy = Coins(length=1), SMALL.build((2,), Discrete(2), Heads())
    params = jax.tree.map(jnp.zeros_like, policy.init(jax.random.key(0)))  # a coin, then, decides
    streams = start_streams(tasks, (), policy, 1, jax.random.key(1))
    keys = jax.random.split(jax.random.key(2), 101)
    _, rollout = collect(tasks, (), policy, params, streams, keys, jnp.float32(0))
    tossed = np.stack([rollout.action[:-1, 0], rollout.reward[:-1, 0], rollout.obs[1:, 0, 0]])
    agreement = (tossed[:, None] == tossed[None]).mean(axis=2)[np.triu_indices(3, 1)]
    assert np.all(np.abs(agreement - 0.5) < 4 * 0.05), agreement  # standard error 0.05; 1 if a key is used twice


@pytest.mark.parametrize("shape", [(30, 8), (16, 16), (3, 12), (5, 1), (1, 5), (1, 1)])
def test_orthogonal_matrices_are_those_of_jax(shape):
    matrix = orthogonal(2**0.5)(jax.random.key(0), shape)
    expected = jax.nn.initializers.orthogonal(2**0.5)(jax.random.key(0), shape)
    np.testing.assert_allclose(matrix, expected, atol=1e-4)
    gram = matrix.T @ matrix if shape[0] >= shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(gram, 2 * np.eye(min(shape)), atol=1e-5)


def test_orthogonal_matrices_stay_so_where_the_draw_is_nearly_singular(monkeypatch):
    close = jnp.array([[1.0, 1.0, 0.0], [0.0, 1e-4, 1.0], [1.0, 1.0, 1e-4]])
    monkeypatch.setattr(jax.random, "normal", lambda key, shape, dtype: close)
    matrix = orthogonal(1.0)(jax.random.key(0), (3, 3))
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-5)


@pytest.mark.parametrize("terminates", [True, False])
def test_a_stream_restarts_exactly_where_its_episode_ended(terminates):
    """Observation and environment begin anew together; what is bootstrapped from belongs to the episode that ended."""
    tasks = MatchCue(length=3, terminates=terminates)
    policy = SMALL.build(tasks.obs_shape, tasks.actions, Heads())
    params = policy.init(jax.random.key(0))
    streams = start_streams(tasks, (), policy, 4, jax.random.key(1))
    streams, rollout = collect(
        tasks, (), policy, params, streams, jax.random.split(jax.random.key(2), 7), jnp.float32(0)
    )
    time, following = rollout.obs[..., 1], rollout.next_obs[..., 1]
    np.testing.assert_array_equal(time, np.arange(7)[:, None] % 3 * np.ones(4))
    np.testing.assert_array_equal(following, time + 1)
    np.testing.assert_array_equal(rollout.last, following == 3)
    np.testing.assert_array_equal(rollout.discount, 1 - (rollout.last & terminates))
    inside = ~rollout.last[:-1]
    np.testing.assert_array_equal(rollout.next_obs[:-1][inside], rollout.obs[1:][inside])
    np.testing.assert_array_equal(streams.env.time, 1)
    assert len(np.unique(np.asarray(rollout.obs[::3, :, 0]))) == 2  # other cues: each restart is a draw of its own
    picked = restart(jnp.array([True, False]), jnp.ones((2, 3)), jnp.zeros((2, 3)))
    np.testing.assert_array_equal(picked, [[1, 1, 1], [0, 0, 0]])
