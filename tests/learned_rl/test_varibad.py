"""VariBAD: the bound is a bound, of whole trials and of nothing else, and moves only what it should."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.belief_network import BeliefNetwork
from learned_rl.blueprint import Blueprint
from learned_rl.distributions import Normal
from learned_rl.goal_tasks import GoalGrid
from learned_rl.lifetime import Lifetime
from learned_rl.memories import GRU
from learned_rl.networks import Network
from learned_rl.rules.rl2 import RL2
from learned_rl.rules.varibad import Decoder, VariBAD
from learned_rl.trials import Trials
from learned_rl.types import Continuous, Discrete, Heads, Outputs
from meta_objectives.belief import BeliefRegularised
from meta_objectives.history import HistoryActorCritic
from meta_objectives.problem import MetaProblem
from tests.probes import made_up_rollout, noisy

KEY = jax.random.key(0)
NETWORK = BeliefNetwork(latent=2, embedding=6, memory=GRU(4), hidden=(5,))
TASKS = Trials(GoalGrid(3, 2), 2)
RULE = VariBAD(Blueprint.of(NETWORK, TASKS), Decoder((3,), 0.5))


def lived(objective=None, steps=10):
    """A problem, and a theta whose beliefs and policies have grown."""
    lifetime = Lifetime(TASKS, RULE, streams=3, steps=steps, updates=1)
    problem = MetaProblem(lifetime, objective or BeliefRegularised(), 1)
    return problem, noisy(RULE.init, KEY, 0.5)


class Believing(NamedTuple):
    """A policy of which only the beliefs are asked."""

    belief: Any

    def unroll(self, params, rollout):
        return Outputs(None, {"belief": self.belief}, {})


def test_of_the_exact_posterior_the_bound_is_the_evidence():
    # One step, one latent number: r = w m + b + noise, so that log p(r) and the posterior are normal's.
    w, b, std, reward = 1.7, -0.4, 0.5, 0.9
    rule = VariBAD(Blueprint(BeliefNetwork(latent=1), (1 + 2 + 2,)), Decoder((), std))
    variance = 1 / (1 + (w / std) ** 2)
    mean = variance * w * (reward - b) / std**2
    policy = Believing(jnp.array([[[mean, np.log(variance)]]]))
    # s' = 1, then the two actions, then the constant.
    theta = {"decoder": [{"w": jnp.array([[w, 0.0, 0.0, 0.0]]), "b": jnp.array([0.0, 0.0, 0.0, b])}]}
    _, _, rollout = one_step(reward)

    @jax.jit
    def bound(keys):
        return jax.vmap(lambda key: rule.evidence(theta, (), rollout, policy, key))(keys)  # type: ignore[arg-type]

    parts = bound(jax.random.split(KEY, 40_000))
    constant = 0.5 * np.log(2 * np.pi * std**2)
    found = -np.asarray(parts.reconstruction) - constant - np.asarray(parts.divergence)
    evidence = float(Normal(jnp.array([b]), 0.5 * jnp.log(jnp.array([w**2 + std**2]))).log_prob(jnp.array([reward])))
    assert found.mean() == pytest.approx(evidence, abs=4 * found.std() / len(found) ** 0.5)
    assert found.std() / len(found) ** 0.5 < 0.01


def one_step(reward):
    policy = BeliefNetwork(latent=1).build((5,), Discrete(2), Heads())
    params = jax.jit(policy.init)(KEY)
    rollout = jax.jit(lambda key: made_up_rollout(policy, params, key, steps=1, streams=1))(KEY)
    following = jnp.array([[[1.0, 0.0, 0.0, 0.0, 0.0]]])
    rollout = rollout._replace(reward=jnp.array([[reward]]), next_obs=following, last=jnp.zeros((1, 1), bool))
    return policy, params, rollout


def test_the_bound_by_hand_over_two_trials_and_a_half():
    problem, theta = lived()
    lifetime = problem.lifetime
    agent = jax.jit(lifetime.start)(theta, KEY)
    _, rollout = jax.jit(lifetime.act)(agent, jax.random.key(1))
    found, belief = jax.jit(
        lambda: (
            RULE.evidence(theta, agent.params, rollout, lifetime.policy, KEY),
            lifetime.policy.unroll(agent.params, rollout).flat["belief"],
        )
    )()
    noise = np.asarray(jax.random.normal(KEY, (10, 3, 2)))
    mean, log_variance = np.split(np.asarray(belief), 2, axis=-1)
    latent = mean + np.exp(log_variance / 2) * noise
    (inner, outer), total, divergence = jax.tree.map(np.asarray, theta["decoder"]), 0.0, 0.0
    r = jax.tree.map(np.asarray, rollout)
    np.testing.assert_array_equal(np.flatnonzero(r.last[:, 0]), [3, 7])  # trials of two episodes of two steps
    for b in range(3):
        for t in range(10):
            weight = np.maximum(latent[t, b] @ inner["w"] + inner["b"], 0) @ outer["w"] + outer["b"]
            for i in range(10):
                if i // 4 == t // 4 and i % 2 == 0:  # of one trial; of every episode's two steps the first shows s'
                    led = np.concatenate([r.next_obs[i, b, :9], np.eye(5)[r.action[i, b]], [1.0]])
                    total += 0.5 * ((r.reward[i, b] - weight @ led) / 0.5) ** 2
            now = Normal(mean[t, b], log_variance[t, b] / 2)
            before = (
                Normal(np.zeros(2), np.zeros(2)) if t % 4 == 0 else Normal(mean[t - 1, b], log_variance[t - 1, b] / 2)
            )
            divergence += float(now.kl(before))
    assert found.reconstruction == pytest.approx(float(total) / 30, rel=1e-4)
    assert found.divergence == pytest.approx(divergence / 30, rel=1e-4)


def names(tree, moved):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator=".") for path, x in leaves if np.any(x) == moved}


def test_what_is_earned_moves_the_policy_and_the_bound_moves_beliefs():
    problem, theta = lived()
    rewards = HistoryActorCritic()

    @jax.jit
    def gradients(theta):
        life = problem.start(theta, KEY)

        def loss(theta, objective):
            judged = MetaProblem(problem.lifetime, objective, 1)
            return judged.advance(theta, life._replace(agent=born(theta, life.agent)), KEY)[1].loss

        return [
            jax.grad(loss)(theta, o) for o in (rewards, BeliefRegularised(rewards), BeliefRegularised(rewards, 0.0))
        ]

    def born(theta, agent):
        return agent._replace(params=theta["agent"])

    earned, both, unweighed = gradients(theta)
    beliefs = {n for n in names(theta, True) if n.startswith(("agent.encoder", "decoder"))}
    assert names(earned, False) == beliefs
    assert names(both, False) == set()
    assert names(unweighed, False) == beliefs
    for name in ("body", "policy", "flat"):
        jax.tree.map(np.testing.assert_array_equal, both["agent"][name], earned["agent"][name])


@pytest.mark.parametrize(
    "actions", [Discrete(3), Continuous(2, (-1.0,) * 2, (1.0,) * 2)], ids=["discrete", "continuous"]
)
def test_a_trial_replayed_is_the_trial_acted(actions):
    policy = NETWORK.build((6,), actions, Heads(flat={"value": 1}))
    params = noisy(policy.init, KEY, 0.5)
    rollout = jax.jit(lambda key: made_up_rollout(policy, params, key, steps=5, streams=4))(KEY)

    @jax.jit
    def replayed(rollout):
        return policy.unroll(params, rollout), policy.unroll_next(params, rollout)

    @jax.jit
    def acted(rollout):
        def step(carry, inputs):
            memory, last = carry
            obs, following, ended = inputs
            memory, outputs = policy.act(params, memory, obs, last)
            _, after = policy.act(params, memory, following, jnp.zeros(4, bool))
            return (memory, ended), (outputs, after)

        start = (rollout.memory, jnp.zeros(4, bool))
        return jax.lax.scan(step, start, (rollout.obs, rollout.next_obs, rollout.last))[1]

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), acted(rollout), replayed(rollout))


def test_what_has_no_belief_is_refused():
    with pytest.raises(ValueError, match="agents of VariBAD are BeliefNetworks"):
        VariBAD(Blueprint(Network()))
    with pytest.raises(ValueError, match="for vectors and flat heads only"):
        NETWORK.build((2, 2), Discrete(2), Heads())
    with pytest.raises(ValueError, match="std=0 must be positive"):
        Decoder(std=0)
    with pytest.raises(ValueError, match="weight and divergence must be at least 0"):
        BeliefRegularised(weight=-1.0)
    lifetime = Lifetime(TASKS, RL2(Blueprint.of(Network(separate=False), TASKS)), streams=2, steps=2, updates=1)
    problem = MetaProblem(lifetime, BeliefRegularised(), 1)
    with pytest.raises(ValueError, match="a RL2 has no beliefs"):
        jax.eval_shape(lambda key: problem.advance(RULE, problem.start(lifetime.rule.init(key), key), key), KEY)
