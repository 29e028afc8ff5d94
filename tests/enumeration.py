"""Every history of a tiny lifetime, through the machinery that otherwise samples one.

The task of a life is a table of the actions that will be taken. The observation shows the next one to the agent's
distribution, which is an ordinary one in all but that it "samples" what it is shown.
"""

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_rl.distributions import Categorical
from learned_rl.optimizers import Sgd
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.types import Discrete, Outputs, TimeStep
from meta_objectives.problem import MetaProblem
from truncation.problem import Segment

KEY = jax.random.key(0)


@dataclass(frozen=True)
class Bandit:
    """One endless episode of pulling arms with known pay; shows what was paid last, and what will be done next."""

    pay: tuple[float, ...]
    table: Any = (0,)
    name = "Bandit"
    obs_shape = (3,)

    @property
    def actions(self):
        return Discrete(len(self.pay))

    def draw(self, key):
        return jnp.asarray(self.table)

    def observe(self, table, time, paid):
        return jnp.stack([jnp.ones(()), paid, jnp.asarray(table[jnp.minimum(time, len(table) - 1)], paid.dtype)])

    def reset(self, task, key):
        time = jnp.zeros((), jnp.int32)
        return time, self.observe(task, time, jnp.zeros(()))

    def step(self, task, state, action, key):
        reward = jnp.asarray(self.pay)[action]
        following = self.observe(task, state + 1, reward)
        return state + 1, TimeStep(reward, jnp.ones(()), jnp.zeros((), bool), following)


class Shown(NamedTuple):
    """A categorical distribution that draws what it was shown."""

    logits: Any
    action: Any

    def perturbed(self, noise):
        return self.action

    def log_prob(self, action):
        return Categorical(self.logits).log_prob(action)

    def entropy(self):
        return Categorical(self.logits).entropy()

    def kl(self, other):
        return Categorical(self.logits).kl(Categorical(other.logits))


@dataclass(frozen=True)
class Written:
    """Settings of a network: `base` without sight of the last number, always born the same, and acting as it is shown.

    With `samples` it acts as it likes.
    """

    base: Any
    samples: bool = False

    def build(self, obs_shape, actions, heads):
        return WrittenPolicy(self.base.build((obs_shape[0] - 1,), actions, heads), self.samples)


@dataclass(frozen=True)
class WrittenPolicy:
    base: Any
    samples: bool

    def init(self, key):
        def grow(shape):
            return 0.5 * jnp.sin(1.0 + jnp.arange(math.prod(shape.shape))).reshape(shape.shape)

        return jax.tree.map(grow, jax.eval_shape(self.base.init, key))

    def start_memory(self, streams):
        return double(self.base.start_memory(streams))

    def show(self, outputs, obs):
        if self.samples:
            return outputs
        return outputs._replace(policy=Shown(outputs.policy.logits, obs[..., -1].astype(jnp.int32)))

    def act(self, params, memory, obs, last):
        memory, outputs = self.base.act(params, memory, obs[..., :-1], last)
        return memory, self.show(outputs, obs)

    def unroll(self, params, rollout):
        return self.show(self.base.unroll(params, rollout._replace(obs=rollout.obs[..., :-1])), rollout.obs)

    def unroll_next(self, params, rollout):
        cut = rollout._replace(obs=rollout.obs[..., :-1], next_obs=rollout.next_obs[..., :-1])
        return self.show(self.base.unroll_next(params, cut), rollout.next_obs)


@dataclass(frozen=True)
class Logits:
    """A "network" whose parameters are its logits."""

    start: tuple[float, ...]

    def build(self, obs_shape, actions, heads):
        return self

    def init(self, key):
        return jnp.asarray(self.start)

    def start_memory(self, streams):
        return ()

    def outputs(self, params, obs):
        return Outputs(Categorical(jnp.broadcast_to(params, (*obs.shape[:-1], len(self.start)))), {}, {})

    def act(self, params, memory, obs, last):
        return memory, self.outputs(params, obs)

    def unroll(self, params, rollout):
        return self.outputs(params, rollout.obs)

    def unroll_next(self, params, rollout):
        return self.outputs(params, rollout.next_obs)


@dataclass(frozen=True)
class Rated:
    """An actor-critic whose learning rate and entropy bonus are theta."""

    base: Any = ActorCritic(Coefficients(discount=0.0), Sgd())

    @property
    def heads(self):
        return self.base.heads

    def init(self, key):
        dtype = jnp.zeros(()).dtype  # not a weak one
        return {"rate": jnp.asarray(0.5, dtype), "entropy": jnp.asarray(0.1, dtype)}

    def birth(self, theta, policy, key):
        return self.base.birth((), policy, key)

    def update(self, theta, params, state, rollout, policy, key):
        told = replace(self.base.coefficients, learning_rate=jnp.exp(theta["rate"]), entropy=theta["entropy"])
        return replace(self.base, coefficients=told).update((), params, state, rollout, policy, key)


class ExactReturn:
    """-pay . pi of an agent whose parameters are its logits."""

    def start(self, lifetime, key):
        return ()

    def judge(self, lifetime, theta, agent, history, state, key):
        return Segment(-jax.nn.softmax(agent.params) @ jnp.asarray(lifetime.tasks.pay), {}), ()


@dataclass(frozen=True)
class LogProbability:
    """Reports log P of the actions that a segment was made of; and of those that come after it, if they judge it."""

    validated: bool = False

    def start(self, lifetime, key):
        return ()

    def judge(self, lifetime, theta, agent, history, state, key):
        log_prob = jnp.sum(history.rollout.behaviour_log_prob)
        if self.validated:
            log_prob += jnp.sum(lifetime.act(agent, key)[1].behaviour_log_prob)
        return Segment(log_prob, {}), ()


def double(tree):
    return jax.tree.map(lambda x: x.astype(jnp.zeros(()).dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def tables(arms, steps):
    """Every sequence of `steps` actions, `[arms^steps, steps]`."""
    return np.array(list(itertools.product(range(arms), repeat=steps)), np.int32)


def unrolled(problem: MetaProblem, theta, key=KEY):
    """`[segments]` of a whole lifetime."""

    def segment(life, key):
        life, report = problem.advance(theta, life, key)
        return life, report.loss

    keys = jax.random.split(key, problem.segments)
    return jax.lax.scan(segment, problem.start(theta, key), keys)[1]


def expectation(problem_of, theta, function, histories, validated=False):
    """`(E[function], variance of each of its numbers)` over all histories, exactly.

    Args:
      problem_of: `(table, objective) -> MetaProblem`; with None as objective, one judged as it is meant to be.
      theta: meta-parameters.
      function: of such a problem.
      histories: tables.
      validated: judgements take fresh steps, which are part of the tables (with one segment a lifetime).
    """

    def one(table):
        judged = problem_of(table, LogProbability(validated))
        return jnp.exp(jnp.sum(unrolled(judged, theta))), function(problem_of(table, None))

    p, values = jax.vmap(one)(jnp.asarray(histories))
    mean = jax.tree.map(lambda v: jnp.tensordot(p, v, axes=1), values)
    square = jax.tree.map(lambda v: jnp.tensordot(p, v**2, axes=1), values)
    return mean, jax.tree.map(lambda s, m: s - m**2, square, mean)


def expected_loss(problem_of, theta, histories, validated=False):
    """E of the mean segment loss. Its derivative in theta is the truth if `problem_of` judges without correction."""
    return expectation(problem_of, theta, lambda problem: jnp.mean(unrolled(problem, theta)), histories, validated)[0]
