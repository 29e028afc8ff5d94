"""What the recordings cannot show: time limits, symmetries, who gets a meta-gradient, and the parts by themselves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.action_network import ActionNetwork
from learned_rl.distributions import Categorical
from learned_rl.optimizers import Sgd
from learned_rl.rollout import over_steps
from learned_rl.rules.averages import MovingAverage
from learned_rl.rules.disco.meta_network import MetaNetwork
from learned_rl.rules.disco.predictions import Pair, Predictions, following, said_of_taken
from learned_rl.rules.disco.rule import Averages, Disco
from learned_rl.rules.disco.values import CategoricalValues
from learned_rl.types import ONE_PER_ACTION, Continuous, Discrete, Heads
from tests.learned_rl.disco.recorded import quick_jit
from tests.probes import RECURRENT, SMALL, made

RULE = Disco(MetaNetwork(4, hidden=6, lifetime_hidden=5, embedding=8), CategoricalValues(bins=11, limit=10.0))
KEY = jax.random.key(0)
T, B, A = 5, 3, 3


@pytest.fixture(scope="module")
def theta():
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(RULE.init, KEY)
    return jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), jnp.float32), shapes)


def cast(rule, actions=A, seed=0):
    """`(agent, target, rollout)`: made-up predictions `(now, then)`, and a made-up rollout that they are of."""
    m, bins = rule.network.predictions, rule.values.bins
    rng = np.random.default_rng(seed)

    def said():
        shapes = [(actions,), (m,), (actions, m), (actions, bins), (actions, actions)]
        return Predictions(*(jnp.asarray(rng.normal(size=(T, B, *s)), jnp.float32) for s in shapes))

    _, _, rollout = made(SMALL, Discrete(actions), rule.heads)
    rollout = over_steps(lambda x: x[:T, :B], rollout)
    return (said(), said()), (said(), said()), rollout


def glances(theta, *networks):
    """What the rule makes of predictions."""
    return (Pair(*(RULE.glance(theta, said) for said in each)) for each in networks)


def fresh():
    return Averages(MovingAverage.start(), MovingAverage.start())


def asked(theta, agent, target, rollout):
    seen, _ = RULE.look(*glances(theta, agent, target), rollout, fresh())
    lifetime = jax.tree.map(lambda x: x + 0.5, RULE.network.birth())
    targets = RULE.network.targets(theta, lifetime, seen)
    return targets, RULE.network.live(theta, lifetime, seen, targets)


def test_the_order_of_the_actions_does_not_matter(theta):
    agent, target, rollout = cast(RULE)
    order = jnp.array([2, 0, 1])
    place = jnp.argsort(order)

    def shuffle(said):
        p, y, z, q, aux = said
        return Predictions(p[..., order], y, z[..., order, :], q[..., order, :], aux[..., order, :][..., order])

    moved = rollout._replace(action=place[rollout.action], behaviour=Categorical(rollout.behaviour.logits[..., order]))
    ask = quick_jit(asked)
    here, life = ask(theta, agent, target, rollout)
    there, other_life = ask(theta, tuple(map(shuffle, agent)), tuple(map(shuffle, target)), moved)
    np.testing.assert_allclose(here.policy[..., order], there.policy, atol=1e-5)
    for x, y in [(here.y, there.y), (here.z, there.z), (life.hidden, other_life.hidden)]:
        np.testing.assert_allclose(x, y, atol=1e-5)


def test_nothing_is_seen_past_the_end_of_an_episode(theta):
    """What a step is asked depends on later steps up to its episode's end, whether by termination or time limit."""
    agent, target, rollout = cast(RULE)
    # The moving average sees all rewards; held still, it tells none of them.
    rule = dataclasses.replace(RULE, decay=1.0)
    still = Averages(MovingAverage(*map(jnp.float32, (0.1, 2.0, 0.5))), MovingAverage.start())
    last = jnp.zeros((T, B), bool).at[2].set(True)

    @quick_jit
    @jax.grad
    def influence(reward, at, discount):
        moved = rollout._replace(reward=reward, last=last, discount=discount)
        seen, _ = rule.look(*glances(theta, agent, target), moved, still)
        return at @ rule.network.targets(theta, rule.network.birth(), seen).z.sum(axis=(1, 2))

    for terminated in (0.0, 1.0):
        for t, reach in ((0, [0, 1, 2]), (2, [2]), (3, [3, 4])):
            found = jnp.abs(influence(rollout.reward, jnp.eye(T)[t], 1.0 - terminated * last)).max(axis=1)
            assert np.flatnonzero(np.asarray(found)).tolist() == reach


def test_a_time_limit_bootstraps_and_a_termination_does_not(theta):
    agent, target, rollout = cast(RULE)
    last = jnp.zeros((T, B), bool).at[1].set(True)
    look = quick_jit(lambda rollout: RULE.look(*glances(theta, agent, target), rollout, fresh())[0])
    cut = look(rollout._replace(last=last, discount=jnp.ones((T, B))))
    value = cut.values[1].target_value[1]
    np.testing.assert_allclose(cut.steps.q_target[1], rollout.reward[1] + 0.997 * value, rtol=1e-5, atol=1e-5)
    over = look(rollout._replace(last=last, discount=1.0 - last))
    np.testing.assert_allclose(over.steps.q_target[1], rollout.reward[1], atol=1e-6)
    assert np.abs(value).min() > 1e-3


@pytest.mark.parametrize("network", [RECURRENT, ActionNetwork((6,), 5, (4,))], ids=["memory", "no memory"])
def test_what_followed_a_time_limit_is_the_next_observation(network):
    policy, params, rollout = made(network, Discrete(2), RULE.heads)
    rollout = rollout._replace(next_obs=rollout.next_obs + 0.5)  # never the observation of the next step

    @quick_jit
    def all_three(last, discount):
        here = rollout._replace(last=last, discount=discount)
        now = Predictions.of(policy.unroll(params, here))
        return (
            now,
            following(lambda said: said, now, params, here, policy),
            Predictions.of(policy.unroll_next(params, here)),
        )

    for how in ("time limit", "termination", "neither"):
        last = jnp.zeros_like(rollout.last).at[2, 1].set(how != "neither")
        now, then, beyond = all_three(last, 1.0 - last * (how == "termination"))
        for x, found, after in zip(now, then, beyond, strict=True):
            expected = np.concatenate([x[1:], after[-1:]])
            if how == "time limit":
                expected[2, 1] = after[2, 1]
            np.testing.assert_allclose(found, expected, atol=1e-6)
        assert np.abs(now.policy[3, 1] - beyond.policy[2, 1]).max() > 1e-4


def test_value_heads_get_no_meta_gradient_and_the_others_do(theta):
    policy, params, rollout = made(SMALL, Discrete(2), RULE.heads)
    rule, heads = dataclasses.replace(RULE, optimizer=Sgd()), ("q", "aux_pi", "y", "z", "policy")

    @quick_jit
    @jax.grad
    def influence(theta, of):
        _, state = rule.birth(theta, policy, KEY)
        after, _, _ = rule.update(theta, params, state._replace(target_params=params), rollout, policy, KEY)
        return of @ jnp.stack([jnp.sum(after[name]["kernel"] ** 2) for name in heads])

    moved = {}
    for name, of in zip(heads, jnp.eye(len(heads)), strict=True):
        moved[name] = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(influence(theta, of)))
    assert moved["q"] == moved["aux_pi"] == 0
    assert min(moved["y"], moved["z"], moved["policy"]) > 0


def test_weights_leave_steps_out_of_the_loss_but_not_out_of_the_memory(theta):
    policy, params, rollout = made(SMALL, Discrete(2), RULE.heads)
    rule = dataclasses.replace(RULE, optimizer=Sgd(), learning_rate=1.0)

    @quick_jit
    def learn(weight):
        _, state = rule.birth(theta, policy, KEY)
        return rule.learn(theta, params, state._replace(target_params=params), rollout, policy, weight)

    ones = jnp.ones_like(rollout.reward)
    everything, all_state, _ = learn(ones)
    twice, _, _ = learn(2 * ones)
    some, some_state, _ = learn(ones.at[0].set(0.0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), everything, twice)
    assert np.abs(everything["policy"]["kernel"] - some["policy"]["kernel"]).max() > 1e-3
    jax.tree.map(np.testing.assert_array_equal, all_state.lifetime, some_state.lifetime)
    jax.tree.map(np.testing.assert_array_equal, all_state.averages, some_state.averages)


def test_without_a_recorded_policy_the_agents_own_stands_in(theta):
    agent, target, rollout = cast(RULE)
    own = rollout._replace(behaviour=Categorical(agent[0].policy))
    look = quick_jit(lambda rollout: RULE.look(*glances(theta, agent, target), rollout, fresh())[0])
    for field in ("behaviour", "advantage"):
        found, expected = (getattr(look(r), field) for r in (rollout._replace(behaviour=()), own))
        np.testing.assert_array_equal(found, expected)


# Values


@pytest.mark.parametrize("values", [CategoricalValues(), CategoricalValues(21, 20.0), CategoricalValues(41, 5.0)])
def test_a_number_is_what_its_distribution_stands_for(values):
    x = jnp.array([-30.5, -3.0, -0.3, 0.0, 1e-3, 0.5, 1.0, 7.7, 20.0])
    code = values.encode(x)
    np.testing.assert_allclose(code.sum(-1), 1, atol=1e-6)
    assert code.min() >= 0
    assert ((code > 0).sum(-1) <= 2).all()
    # Two-hot is exact in the squashed number, up to the published 1e-5.
    spacing = 2 * values.limit / (values.bins - 1)
    np.testing.assert_allclose(
        code @ jnp.linspace(-values.limit, values.limit, values.bins), values.squash(x), atol=1.5e-5 * spacing + 3e-5
    )
    decoded = values.decode(jnp.log(code + 1e-30))
    np.testing.assert_allclose(decoded, x, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(values.expand(values.squash(x)), x, rtol=1e-4, atol=3e-4)


def test_numbers_beyond_the_limit_sit_on_the_last_point():
    values = CategoricalValues(5, 2.0)
    np.testing.assert_allclose(values.encode(jnp.array([1e4, -1e4])), [[0, 0, 0, 0, 1], [1, 0, 0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize(("bad", "why"), [((600,), "nearest: 601"), ((1,), "at least 3"), ((5, 0.0), "positive")])
def test_impossible_bins_are_refused(bad, why):
    with pytest.raises(ValueError, match=why):
        CategoricalValues(*bad)


def test_averages_forget_geometrically_and_correct_their_start():
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(30, 4, 2)).astype(np.float32)
    average = MovingAverage.start()
    for each in x:
        average = average.observe(jnp.asarray(each), 0.9)
    weights = 0.9 ** np.arange(29, -1, -1)
    mean, square = (np.average(m, weights=weights) for m in (x.mean((1, 2)), (x**2).mean((1, 2))))
    deviation = np.sqrt(square - mean**2)
    np.testing.assert_allclose(average.standardise(x[0]), (x[0] - mean) / deviation, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(average.rescale(x[0]), x[0] / deviation, rtol=1e-3, atol=1e-4)


# The agent


def test_the_action_network_has_the_published_size():
    policy = ActionNetwork().build((8, 8, 1), Discrete(3), Disco().heads)
    params = jax.eval_shape(policy.init, KEY)
    assert sum(x.size for x in jax.tree.leaves(params)) == 943_375


def test_what_is_said_of_the_actions_taken_is_that_part_of_what_is_said_and_moves_the_agent_alike():
    policy, params, rollout = made(ActionNetwork((6,), 5, (4,)), Discrete(A), RULE.heads)

    def every(p):
        return Predictions.of(policy.unroll(p, rollout)).taken(rollout.action)

    def judged(said):
        return sum(jnp.sum(jnp.cos(jnp.arange(x.size).reshape(x.shape)) * x) for x in said)

    def both(way):
        return quick_jit(lambda p: (way(p), jax.grad(lambda p: judged(way(p)))(p)))(params)

    found, expected = both(lambda p: said_of_taken(policy, p, rollout)), both(every)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


def test_heads_of_one_number_per_action_follow_the_task():
    heads = Heads(per_action={"next": ONE_PER_ACTION, "other": 5})
    for network in (SMALL, ActionNetwork((6,), 5, (4,))):
        policy = network.build((2,), Discrete(7), heads)
        params = jax.eval_shape(policy.init, KEY)
        outputs = jax.eval_shape(
            lambda p, policy=policy: policy.act(p, (), jnp.zeros((3, 2)), jnp.zeros(3, bool))[1], params
        )
        assert outputs.per_action["next"].shape == (3, 7, 7)
        assert outputs.per_action["other"].shape == (3, 7, 5)


def test_an_action_network_wants_actions_to_step_through():
    with pytest.raises(ValueError, match="continuous"):
        ActionNetwork().build((2,), Continuous(1, (-1.0,), (1.0,)), Heads())
    with pytest.raises(ValueError, match="at least one layer"):
        ActionNetwork(torso=())
