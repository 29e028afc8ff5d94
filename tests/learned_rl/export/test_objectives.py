"""An exported objective is the rule's own: the same gradient of the agent's parameters, where nothing of ours is
installed, and by StableHLO."""

import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from learned_rl.action_network import ActionNetwork
from learned_rl.export import as_loss, parts, stablehlo, standalone
from learned_rl.export.parts import OBJECTIVES
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.disco.meta_network import MetaNetwork
from learned_rl.rules.disco.predictions import Predictions, following
from learned_rl.rules.disco.rule import Disco
from learned_rl.rules.disco.values import CategoricalValues
from learned_rl.rules.drift import DiscoveredDrift, Drift, LearnedDrift
from learned_rl.rules.lpg import LPG
from learned_rl.rules.metagenrl import MetaGenRL
from learned_rl.rules.q_learning import QLearning, RegularisedError
from learned_rl.types import Discrete
from tests.probes import SMALL, jitter, made_up_rollout

KEY = jax.random.key(0)
TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Reveal:
    """An inner optimizer that hands out the gradient instead of new parameters."""

    def init(self, params):
        return ()

    def update(self, gradient, state, params, learning_rate):
        return gradient, state


RULES = {
    "a2c": ActorCritic(),
    "ppo": Drift(anneal=True, epochs=1, minibatches=1),
    "dpo": Drift(DiscoveredDrift(), epochs=1, minibatches=1),
    "drift": Drift(LearnedDrift(hidden=4), epochs=1, minibatches=1),
    "ta-drift": Drift(LearnedDrift(hidden=4, temporal=True), epochs=1, minibatches=1),
    "lpg": LPG(predictions=3, hidden=4),
    "ta-lpg": LPG(predictions=3, hidden=4, temporal=True),
    "metagenrl": MetaGenRL(hidden=4),
    "dqn-reg": QLearning(RegularisedError(), epochs=1),
    "disco": Disco(
        network=MetaNetwork(predictions=3, hidden=5, lifetime_hidden=4, embedding=3),
        values=CategoricalValues(bins=5),
    ),
}
"""What every objective of `parts` is tried on: one gradient step an update."""


class Case:
    """A rule in the middle of a life, an agent, and a rollout.

    Compiled in two programs: the time that one takes grows faster than its length.
    """

    def __init__(self, name):
        self.name, self.rule = name, RULES[name]
        network = ActionNetwork(torso=(6,), cell=4, head=(4,)) if name == "disco" else SMALL
        self.policy = network.build((2,), Discrete(3), self.rule.heads)
        self.theta, self.params, state, self.rollout = jax.jit(self._make)(KEY)
        told = jax.jit(self._tell)(self.theta, self.params, state, self.rollout)
        self.arguments, self.own_gradient, self.loss = told

    def _make(self, key):
        keys = jax.random.split(key, 5)
        theta = jitter(self.rule.init(keys[0]), keys[0], 0.3)
        params, state = self.rule.birth(theta, self.policy, keys[1])
        params = jitter(params, keys[2], 0.3)
        if self.name == "disco":  # target network and memory of another moment of life
            moved = {name: jitter(getattr(state, name), keys[3], 0.1) for name in ("target_params", "lifetime")}
            state = state._replace(**moved)
        if self.name == "dqn-reg":
            state = state._replace(target_params=jitter(params, keys[3], 0.1))
        return theta, params, state, made_up_rollout(self.policy, params, keys[4])

    def _tell(self, theta, params, state, rollout):
        telling = dataclasses.replace(self.rule, optimizer=Reveal())
        own = telling.update(theta, params, state, rollout, self.policy, KEY)[0]
        arguments = self.said(params, rollout) | self._data(theta, params, state, rollout)
        loss = as_loss(self.rule, theta)(**arguments)
        return arguments, own, jax.tree.leaves(loss)[0]

    def said(self, params, rollout):
        """The arguments of the exported loss that a gradient passes through, as functions of the parameters."""
        outputs = self.policy.unroll(params, rollout)
        if self.name == "disco":
            return {"now": Predictions.of(outputs)._asdict()}
        if self.name == "dqn-reg":
            return {"logits": outputs.policy.logits, "q": outputs.per_action["q"][..., 0]}
        spoken = {"log_prob": outputs.policy.log_prob(rollout.action)}
        if "lpg" in self.name:
            return spoken | {"prediction": outputs.flat["prediction"]}
        spoken |= {"value": outputs.flat["value"][..., 0]}
        return spoken if self.name == "metagenrl" else spoken | {"entropy": outputs.policy.entropy()}

    def _data(self, theta, params, state, r):
        """Its other arguments."""
        steps = {"reward": r.reward, "discount": r.discount, "last": r.last}
        then = self.policy.unroll_next(params, r)
        if self.name == "disco":
            return {**steps, "action": r.action, "behaviour": r.behaviour.logits, **self._predictions(params, state, r)}
        if self.name == "dqn-reg":
            target_next_q = self.policy.unroll_next(state.target_params, r).per_action["q"][..., 0]
            steps.pop("last")
            return {**steps, "action": r.action, "target_next_q": target_next_q, "progress": r.progress}
        if self.name == "metagenrl":
            average = {name: getattr(state, name)._asdict() for name in ("rewards", "values")}
            return {**steps, "state": average, "next_value": then.flat["value"][..., 0]}
        if "lpg" in self.name:
            return {**steps, "next_prediction": then.flat["prediction"], "progress": r.progress, "lifetime": r.lifetime}
        value, next_value = self.said(params, r)["value"], then.flat["value"][..., 0]
        targets = parts(self.rule, theta)[0].functions["targets"].call
        targets = targets(self.rule, theta, **steps, value=value, next_value=next_value)
        if self.name == "a2c":
            return targets
        acted = {
            "behaviour_log_prob": r.behaviour_log_prob,
            "behaviour_value": value,
            "progress": r.progress,
            "lifetime": r.lifetime,
        }
        return {**targets, **acted}

    def _predictions(self, params, s, r):
        slow, now = (Predictions.of(self.policy.unroll(p, r)) for p in (s.target_params, params))
        average = {k: x._asdict() for k, x in s.averages._asdict().items()}
        return {
            "then": following(as_it_is, now, params, r, self.policy)._asdict(),
            "target_now": slow._asdict(),
            "target_then": following(as_it_is, slow, s.target_params, r, self.policy)._asdict(),
            "state": {**average, "lifetime": s.lifetime._asdict()},
        }

    def check(self, gradient):
        """With `gradient` of what was said, the parameters have the gradient that the rule's own update has."""
        found = jax.jit(lambda p, g: jax.vjp(lambda p: self.said(p, self.rollout), p)[1](g)[0])(self.params, gradient)
        assert max(np.abs(x).max() for x in jax.tree.leaves(self.own_gradient)) > 0.01
        assert jax.tree.structure(found) == jax.tree.structure(self.own_gradient)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(self.own_gradient), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)


def as_it_is(said):
    return said


@functools.cache
def case(name):
    return Case(name)


def stem(name):
    return name.replace("-", "_") + "_rule"


def named(tree, prefix):
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    return {f"{prefix}/{jax.tree_util.keystr(p, simple=True, separator='/')}": x for p, x in pairs}


def run_outside(folder, calls, packages=("jax", "jaxlib", "numpy", "ml_dtypes", "scipy", "opt_einsum")):
    """What a stranger gets who has these packages and the folder."""
    np.savez(folder / "calls.npz", **calls)
    program = [sys.executable, "-I", Path(__file__).with_name("stranger.py"), folder, json.dumps(packages)]
    done = subprocess.run(
        [*program, folder / "calls.npz", folder / "answers.npz"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "answers.npz"))


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder, calls = tmp_path_factory.mktemp("outside"), {}
    for name in RULES:
        for file, content in standalone.write(stem(name), "A rule.", parts(case(name).rule, case(name).theta)).items():
            (folder / file).write_bytes(content)
        calls |= named(case(name).arguments, f"{stem(name)}/loss")
    return run_outside(folder, calls)


def test_every_objective_there_is_is_tried():
    assert {type(rule) for rule in RULES.values()} == set(OBJECTIVES)


@pytest.mark.parametrize("name", RULES)
def test_the_standalone_file_has_the_gradient_of_the_rule(name, answers):
    prefix = f"{stem(name)}/loss"
    said = jax.eval_shape(case(name).said, case(name).params, case(name).rollout)
    gradient = [answers[path] for path in named(said, f"{prefix}/gradient")]
    case(name).check(jax.tree.unflatten(jax.tree.structure(said), gradient))
    value = answers.get(f"{prefix}/value", answers.get(f"{prefix}/value/0"))
    assert abs(value - case(name).loss) <= TOLERANCE


@pytest.mark.parametrize("name", ["ta-drift", "ta-lpg", "metagenrl", "dqn-reg", "disco"])
def test_stablehlo_has_the_gradient_of_the_rule(name):
    part = parts(case(name).rule, case(name).theta)[0]
    function = jax.export.deserialize(bytearray(stablehlo.exported(part.functions["loss"], part.settings, part.theta)))
    assert function.platforms == ("cpu", "cuda", "tpu")
    spoken = jax.eval_shape(case(name).said, case(name).params, case(name).rollout)
    said, data = {}, {}
    for argument, x in case(name).arguments.items():
        (said if argument in spoken else data)[argument] = x
    case(name).check(jax.jit(jax.grad(lambda said: jax.tree.leaves(function.call(**said, **data))[0]))(said))
