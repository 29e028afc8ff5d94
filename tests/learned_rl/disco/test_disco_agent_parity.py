"""Whole learner steps against the recorded ones: agent network, rule, loss weights, optimizer, target network."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.action_network import ActionNetwork
from learned_rl.distributions import Categorical
from learned_rl.optimizers import ElementClippedAdam
from learned_rl.rules.disco.predictions import Predictions, following
from learned_rl.rules.disco.rule import DiscoState
from learned_rl.types import Discrete, Rollout
from tests.learned_rl.disco import recorded

# Path in our parameters -> name in the recording.
LAYERS = {
    "torso/{}": "mlp/~_embedding_pass/torso/~/linear_{}",
    "policy": "mlp/~_head_pass/torso_head/~/linear_0",
    "flat/y": "mlp/~_head_pass/torso_head_1/~/linear_0",
    "cell": "mlp/linear",
    "model": "mlp/action_cond/linear",
    "per_action/z/{}": "mlp/mlp/~/linear_{}",
    "per_action/aux_pi/{}": "mlp/mlp_1/~/linear_{}",
    "per_action/q/{}": "mlp/mlp_2/~/linear_{}",
}
NAMES = {ours.format(i): theirs.format(i) for ours, theirs in LAYERS.items() for i in range(8)}


def recorded_name(path):
    layer, _, kind = jax.tree_util.keystr(path, simple=True, separator="/").rpartition("/")
    return f"{NAMES[layer]}/{kind}"


def named(params):
    return {recorded_name(path): np.asarray(x) for path, x in jax.tree_util.tree_flatten_with_path(params)[0]}


class Learner:
    """The rule with the recorded agent and optimizer."""

    def __init__(self, case):
        sizes = recorded.agent_settings(case)
        rule, self.theta = recorded.published()
        optimizer = ElementClippedAdam(max_step=sizes["max_abs_update"])
        self.rule = dataclasses.replace(rule, learning_rate=sizes["learning_rate"], optimizer=optimizer)
        self.arrays, self.steps = recorded.load(case), sizes["learner_steps"]
        network = ActionNetwork(tuple(sizes["torso"]), sizes["lstm_size"], tuple(sizes["head_hidden"]))
        shape = (sizes["rows"], sizes["columns"], 1)
        self.policy = network.build(shape, Discrete(sizes["actions"]), rule.heads)
        self.empty = jax.eval_shape(self.policy.init, jax.random.key(0))
        self.learn = recorded.quick_jit(self._learn)

    def params(self, prefix):
        return jax.tree_util.tree_map_with_path(
            lambda path, x: jnp.asarray(self.arrays[f"{prefix}/{recorded_name(path)}"]).reshape(x.shape), self.empty
        )

    def start(self):
        params, target = self.params("init/params"), self.params("init/target_params")
        averages, lifetime = recorded.memory(recorded.within(self.arrays, "init/meta_state/"))
        return params, DiscoState(target, averages, lifetime, self.rule.optimizer.init(params))

    def rollout(self, k):
        """Transitions of `T + 1` recorded steps, whose rewards and discounts came *with* the observations."""
        step = recorded.within(self.arrays, f"s{k}/in/")
        obs = jnp.asarray(step["observation"], jnp.float32)
        acted, action = Categorical(jnp.asarray(step["behaviour_logits"][:-1])), jnp.asarray(step["actions"][:-1])
        discount = jnp.asarray(step["discounts"], jnp.float32)
        rollout = Rollout(
            obs=obs[:-1],
            action=action,
            reward=jnp.asarray(step["rewards"][1:]),
            discount=discount[1:],
            last=discount[1:] == 0,
            next_obs=obs[1:],
            behaviour_log_prob=acted.log_prob(action),
            behaviour=acted,
        )
        return rollout, discount[:-1]  # what the published agent weighs the steps by

    def _learn(self, params, state, rollout, weight):
        rule, policy = self.rule, self.policy
        after = rule.learn(self.theta, params, state, rollout, policy, weight)

        def said(params):
            return Predictions.of(policy.unroll(params, rollout))

        def pair(params):
            return rule.pair(self.theta, said(params), params, rollout, policy)

        agent = said(params), following(lambda said: said, said(params), params, rollout, policy)
        seen, _ = rule.look(pair(params), pair(state.target_params), rollout, state.averages)
        targets = rule.network.targets(self.theta, state.lifetime, seen)

        def loss(params):
            steps = rule.losses(said(params).taken(rollout.action), targets, seen)
            return jnp.sum(weight * rule.total(steps)) / (jnp.sum(weight) + 1e-8), steps

        (total, steps), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return after, agent, targets.policy, total, steps, gradient


@functools.cache
def learner(case):
    return Learner(case)


@functools.cache
def ran(case):
    """Every learner step, our own parameters and memory carried from each to the next."""
    me = learner(case)
    params, state = me.start()
    found = []
    for k in range(me.steps):
        after, *rest = me.learn(params, state, *me.rollout(k))
        found.append(((params, state), after, *rest))
        params, state = after[0], after[1]
    return found


@pytest.mark.parametrize("case", recorded.cases("agent"))
def test_parity_of_the_agents_network(case):
    arrays, agent = recorded.load(case), ran(case)[0][2]
    both = jax.tree.map(lambda now, then: np.concatenate([now, then[-1:]]), *agent)
    for name, x in recorded.within(arrays, "s0/out/agent_out/").items():
        recorded.check(getattr(both, {"logits": "policy"}.get(name, name)), x, name, 1e-5)
    for name, x in recorded.within(arrays, "s0/out/agent_out_first_step/").items():
        recorded.check(getattr(both, name)[0], x, name, 1e-5)


@pytest.mark.parametrize("case", recorded.cases("agent"))
def test_parity_of_losses_and_gradients(case):
    arrays, allowed = recorded.load(case), recorded.agent_tolerance
    for k, (_, _, _, pi_hat, total, steps, gradient) in enumerate(ran(case)):
        expected = recorded.within(arrays, f"s{k}/out/")
        recorded.check(pi_hat, expected["pi_hat"], "pi_hat", allowed("pi_hat"))
        recorded.check(sum(steps.learned), expected["agent_loss"], "agent_loss", allowed("per_step_losses"))
        no_meta = 0.2 * steps.value
        recorded.check(no_meta, expected["agent_loss_no_meta"], "no_meta", allowed("per_step_losses"))
        recorded.check(total, expected["total_loss"], "total_loss", allowed("total_loss"))
        found, compared = named(gradient), recorded.within(expected, "grad/")
        assert compared
        for name, x in compared.items():
            recorded.check(found[name].reshape(x.shape), x, name, allowed("grad"))
        assert norm(found) == pytest.approx(expected["global_gradient_norm"], rel=allowed("norms_relative"))


@pytest.mark.parametrize("case", recorded.cases("agent"))
def test_parity_of_what_a_learner_step_leaves(case):
    arrays, allowed = recorded.load(case), recorded.agent_tolerance
    rate = recorded.agent_settings(case)["learning_rate"]
    close = {"params": 1e-4, "target_params": 1e-5}
    for k, ((before, _), (params, state, _), *_) in enumerate(ran(case)):
        expected = recorded.within(arrays, f"s{k}/out/")
        memory = recorded.recorded_memory(state.averages, state.lifetime)
        for name, x in recorded.within(expected, "meta_state/").items():
            recorded.check(memory[name], x, f"meta_state/{name}")
        change = named(jax.tree.map(jnp.subtract, params, before))
        assert norm(change) == pytest.approx(expected["global_update_norm"], rel=allowed("norms_relative"))
        for kind, tree in (("params", params), ("target_params", state.target_params)):
            found = named(tree)
            pairs = [(found[name].ravel(), x.ravel()) for name, x in recorded.within(expected, f"{kind}/").items()]
            if pairs:
                off = np.abs(np.concatenate([mine - theirs for mine, theirs in pairs]))
                share = 1.0 if kind == "params" else 0.1
                assert np.mean(off <= close[kind]) >= 0.999, kind
                assert off.max() <= 2.1 * rate * share * (k + 1), kind


def norm(named):
    return np.sqrt(sum(np.sum(np.asarray(x, np.float64) ** 2) for x in named.values()))
