"""What every rule must do, whatever the task. A new rule is one line in `RULES`."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.belief_network import BeliefNetwork
from learned_rl.blueprint import Blueprint, blueprint_of
from learned_rl.learned_optimizers.recurrent import Optim4RL
from learned_rl.lifetime import Lifetime
from learned_rl.memories import GRU
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.anneal import Anneal
from learned_rl.rules.auxiliary import Auxiliary
from learned_rl.rules.auxiliary_head import AuxiliaryHead
from learned_rl.rules.disco.meta_network import MetaNetwork
from learned_rl.rules.disco.rule import Disco
from learned_rl.rules.disco.values import CategoricalValues
from learned_rl.rules.drift import DiscoveredDrift, Drift, LearnedDrift
from learned_rl.rules.guard import Guard
from learned_rl.rules.intrinsic.bonus import CountBonus, RandomDistillation
from learned_rl.rules.intrinsic.learned import LifetimeReward, StateActionReward
from learned_rl.rules.intrinsic.places import PlaceReward
from learned_rl.rules.intrinsic.rule import Intrinsic
from learned_rl.rules.intrinsic.value import LifetimeValue
from learned_rl.rules.lpg import LPG
from learned_rl.rules.maml import MAML
from learned_rl.rules.metagenrl import MetaGenRL
from learned_rl.rules.nested import fed
from learned_rl.rules.none import NoLearning
from learned_rl.rules.optimised import Optimised
from learned_rl.rules.q_learning import ClippedError, QLearning
from learned_rl.rules.rl2 import RL2
from learned_rl.rules.schedule import Schedule
from learned_rl.rules.self_tuning import SelfTuning
from learned_rl.rules.varibad import Decoder, VariBAD
from learned_rl.types import Rule
from meta_objectives.problem import MetaProblem
from tests.probes import ATTENTIVE, HYPER, RECURRENT, SMALL, MatchCue, Recall, noisy, reach
from truncation.problem import Segment


class Case(NamedTuple):
    tasks: object
    network: object


RULES = {
    "a2c": ActorCritic(),
    "a2c-annealed": Anneal(),
    "ppo": Drift(epochs=2, minibatches=2, anneal=True),
    "dpo": Drift(drift=DiscoveredDrift(), epochs=2, minibatches=2),
    "random": NoLearning(),
    "drift": Drift(drift=LearnedDrift(hidden=8), epochs=3, minibatches=1),
    "ta-drift": Drift(drift=LearnedDrift(hidden=8, temporal=True), epochs=3, minibatches=1),
    "lpg": LPG(predictions=4, hidden=6),
    "ta-lpg": LPG(predictions=4, hidden=6, temporal=True),
    "metagenrl": MetaGenRL(hidden=6),
    "dqn": QLearning(epochs=2),
    "dqn-clipped": QLearning(ClippedError(), epochs=2),
    "disco": Disco(MetaNetwork(4, hidden=6, lifetime_hidden=5, embedding=8), CategoricalValues(bins=11, limit=10.0)),
    "intrinsic": Intrinsic(reward=LifetimeReward(5, 2, 2)),
    "state-action reward": Intrinsic(Drift(epochs=2, minibatches=2), StateActionReward(5, 2, 2), intrinsic=0.1),
    "places": Intrinsic(reward=PlaceReward(5, 64, resolution=2.0)),
    "count bonus": Intrinsic(reward=CountBonus(64), intrinsic=0.1),
    "lifetime value": LifetimeValue(Intrinsic(reward=StateActionReward(5, 2, 2)), 4, 2, 2),
    "rnd": Intrinsic(reward=RandomDistillation(5, 4, 2), intrinsic=0.1),
    "optim4rl": Optimised(learned=Optim4RL(4, width=5)),
    "open": Optimised(Drift(drift=LearnedDrift(hidden=4), epochs=2, minibatches=2)),
    "schedule": Schedule(Drift(epochs=2, minibatches=2), hidden=4),
    "self_tuning": SelfTuning(),
    "stacx": SelfTuning(AuxiliaryHead()),
    # Objective, optimizer, reward and schedule: what the recipe `joint` learns together.
    "joint": Schedule(
        Intrinsic(Optimised(Drift(LearnedDrift(hidden=4), epochs=2, minibatches=2)), LifetimeReward(5, 2, 2)), hidden=4
    ),
    "guard": Guard(Drift(LearnedDrift(hidden=4), epochs=2, minibatches=2), ActorCritic(), probation=1.0, rounds=1),
    "auxiliary": Auxiliary(questions=3, hidden=4, observation=4),
    "rl2": RL2(Blueprint(RECURRENT)),
    "rl2 with attention": RL2(Blueprint(ATTENTIVE)),
    "hyper": RL2(Blueprint(HYPER)),
    "maml": MAML(blueprint=Blueprint(SMALL)),
    "maml with memory": MAML(Drift(epochs=1, minibatches=1), Blueprint(RECURRENT), per_parameter=False),
    "varibad": VariBAD(Blueprint(BeliefNetwork(2, 6, GRU(5), (6,))), Decoder((3,))),
}
CASES = {
    "discrete": Case(MatchCue(2), SMALL),
    "continuous with memory": Case(reach(2), RECURRENT),
    "continuous": Case(reach(2), SMALL),
    "discrete with memory": Case(Recall(2), RECURRENT),
}
# Each cell compiles a program; two columns have every kind of action, with and without memory, between them.
SLOW = ("continuous", "discrete with memory")
# Rows that differ from another one by what does not look at the kind of action; that one is taken everywhere.
VARIANTS = {
    **dict.fromkeys(("dpo", "random", "ta-drift", "ta-lpg", "count bonus", "lifetime value", "rnd"), ("discrete",)),
    "dqn-clipped": (),
    "self_tuning": (),
    "open": (),
    "state-action reward": (),
}
# What they add to a rule does not look at the kind of action, and has tests of its own.
VARIANTS |= dict.fromkeys(("a2c-annealed", "drift", "intrinsic", "schedule", "auxiliary"), ("discrete",))
# Whose parts are rows of their own, or which have tests of their own with memories.
VARIANTS |= dict.fromkeys(("joint", "stacx", "guard", "places"), ("discrete",))
# Rules that bring their agents have a memory in every column.
VARIANTS |= {
    "rl2": ("continuous with memory",),
    "rl2 with attention": ("continuous with memory",),
    "hyper": ("discrete",),
    "maml": ("discrete",),
    "maml with memory": ("continuous with memory",),
    "varibad": ("continuous with memory",),
}
# Two agents that take turns of four updates, the learned one second: that is when its segments are looked at.
UPDATES, LIVED = {"guard": 8}, {"guard": 2}
DISCRETE_ONLY = ("disco", "dqn", "dqn-clipped", "stacx")
WITHOUT_EFFECT = {
    # A constant added to all logits of a policy target changes nothing.
    ("disco", "['trajectory']['policy']['b']"),
    # Read by an objective, and by no agent.
    *(("lifetime value", f"['value']['{layer}']['{x}']") for layer in ("inward", "outward") for x in "wb"),
    *(("lifetime value", f"['value']['history']['{layer}']['{x}']") for layer in ("embed", "lstm") for x in "wb"),
    # The judgement of this file does not look at the value that these have for objectives that do.
    *((rule, f"['value']['{x}']") for rule in ("rl2", "rl2 with attention", "hyper") for x in ("kernel", "bias")),
    # Nor at beliefs, which the policy reads as data.
    *(("varibad", f"['agent']['encoder']['{layer}']['{x}']") for layer in ("embed", "belief") for x in "wb"),
    *(("varibad", f"['agent']['encoder']['memory']['{x}']") for x in ("recurrent", "candidate")),
    *(
        ("varibad", f"['agent']['{layer}']['{x}']")
        for layer in ("encoder']['memory']['input", "flat']['value")
        for x in "wb"
    ),
    *(("varibad", f"['decoder'][{i}]['{x}']") for i in (0, 1) for x in "wb"),
}
# Rules whose agents never learn by an update: what learns is their memory.
STILL = ("random", "rl2", "rl2 with attention", "hyper", "varibad")
# Rules whose theta acts at birth, and is differentiated there.
BORN = (*STILL[1:], "maml", "maml with memory")


class Likelihood:
    """The cheapest judgement that is differentiable: -E[r log pi(a)] on the last steps of the segment."""

    def start(self, lifetime, key):
        return ()

    def judge(self, lifetime, theta, agent, history, state, key):
        rollout = jax.lax.stop_gradient(jax.tree.map(lambda x: x[-1], history.rollout))
        log_prob = lifetime.policy.unroll(agent.params, rollout).policy.log_prob(rollout.action)
        return Segment(-jnp.mean(rollout.reward * log_prob), {}), ()


class Program:
    """One compiled program for everything that is asked of a rule: two lives, their birth, a segment, its gradient."""

    def __init__(self, rule, case, born, updates, lived):
        self.born = born
        lifetime = Lifetime(case.tasks, rule, case.network, streams=4, steps=4, updates=updates)
        self.problem = MetaProblem(lifetime, Likelihood(), segment=2)
        self.traced = 0
        self.theta = noisy(rule.init, jax.random.key(0), 0.3)
        self.start = jax.jit(jax.vmap(self.problem.start, in_axes=(None, 0)))
        self.advance = jax.jit(self._advance)
        self.births = jax.random.split(jax.random.key(1), 2)
        self.lives = self.start(self.theta, self.births)
        for segment in range(lived):
            self.lives = self.advance(self.theta, self.lives, jax.random.key(100 + segment))[0][1][0]

    def _advance(self, theta, lives, key):
        self.traced += 1

        def mean_loss(theta):
            keys, here = jax.random.split(key, 2), lives
            if self.born:
                params = jax.vmap(self.problem.start, in_axes=(None, 0))(theta, self.births).agent.params
                here = lives._replace(agent=lives.agent._replace(params=params))
            lives_after, segment = jax.vmap(self.problem.advance, in_axes=(None, 0, 0))(theta, here, keys)
            return jnp.mean(segment.loss), (lives_after, segment)

        return jax.value_and_grad(mean_loss, has_aux=True)(theta)


def rule_for(name, case):
    """The rule, for the case's tasks if it brings its agents."""
    rule = RULES[name]
    if (blueprint := blueprint_of(rule)) is None:
        return rule
    return fed(rule, "blueprint", Blueprint.of(blueprint.network, CASES[case].tasks))


@functools.cache
def program(rule, case):
    return Program(rule_for(rule, case), CASES[case], rule in BORN, UPDATES.get(rule, 4), LIVED.get(rule, 0))


@functools.cache
def advanced(rule, case):
    p = program(rule, case)
    return p.advance(p.theta, p.lives, jax.random.key(2))


table = pytest.mark.parametrize(
    ("rule", "case"),
    [
        pytest.param(r, c, marks=[pytest.mark.slow] if c in SLOW or c not in VARIANTS.get(r, CASES) else [])
        for r in RULES
        for c in CASES
        if not (r in DISCRETE_ONLY and "continuous" in c)
    ],
)


@table
def test_everything_is_finite(rule, case):
    for x in jax.tree.leaves(advanced(rule, case)):
        assert np.all(np.isfinite(x))


@table
def test_an_update_keeps_structure_types_and_weak_types(rule, case):
    p = program(rule, case)
    rule = rule_for(rule, case)
    assert isinstance(rule, Rule)
    lifetime, policy = p.problem.lifetime, p.problem.lifetime.policy
    agent = jax.eval_shape(lifetime.start, p.theta, jax.random.key(0))
    _, rollout = jax.eval_shape(lifetime.act, agent, jax.random.key(0))

    def update(theta, params, state, rollout, key):
        return rule.update(theta, params, state, rollout, policy, key)

    params, state, metrics = jax.eval_shape(update, p.theta, agent.params, agent.rule_state, rollout, jax.random.key(0))
    for before, after in ((agent.params, params), (agent.rule_state, state)):
        assert jax.tree.structure(before) == jax.tree.structure(after)
        for b, a in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
            assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)
            assert not a.weak_type
    assert "entropy" in metrics
    assert all(m.shape == () and m.dtype == jnp.float32 for m in metrics.values())
    assert not any(x.weak_type for x in jax.tree.leaves(jax.eval_shape(rule.init, jax.random.key(0))))


@table
def test_the_second_segment_does_not_recompile(rule, case):
    p = program(rule, case)
    _, (lives, _) = advanced(rule, case)[0]
    assert p.traced == 1
    p.advance(p.theta, lives, jax.random.key(3))
    assert p.traced == 1


@table
def test_every_trainable_leaf_moves_or_none_does(rule, case):
    before = program(rule, case).lives.agent.params
    after = advanced(rule, case)[0][1][0].agent.params
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(before)]
    moved = [bool(np.any(b != a)) for b, a in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)]
    assert moved == [rule not in STILL] * len(moved), [p for p, m in zip(paths, moved, strict=True) if not m]


@table
def test_every_leaf_of_theta_has_a_gradient(rule, case):
    p = program(rule, case)
    gradient = advanced(rule, case)[1]
    assert jax.tree.structure(gradient) == jax.tree.structure(p.theta)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        name = jax.tree_util.keystr(path)
        assert np.abs(leaf).max() > 0 or (rule, name) in WITHOUT_EFFECT, name


@table
def test_lives_side_by_side_are_lives_alone(rule, case):
    p = program(rule, case)
    _, (lives, _) = advanced(rule, case)[0]
    twice = jax.tree.map(lambda x: x[jnp.array([0, 0])], p.lives)
    # The same program, the first life twice: its neighbour must not matter.
    _, (again, _) = p.advance(p.theta, twice, jax.random.key(2))[0]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[0]), lives.agent.params, again.agent.params)
