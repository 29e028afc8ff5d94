"""Task families small enough to know everything about them, each failing for one reason only; and made-up rollouts."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from learned_rl.hypernetwork import Hypernetwork
from learned_rl.memories import GRU, Transformer
from learned_rl.networks import MLP, Network
from learned_rl.tally import Tally
from learned_rl.types import Actions, Continuous, Discrete, Rollout, TimeStep

SMALL = Network(MLP((8,)))
RECURRENT = Network(MLP((8,)), memory=GRU(6), separate=False)
ATTENTIVE = Network(MLP((8,)), memory=Transformer(8, heads=2, layers=2, window=3), separate=False)
TALLYING = Network(MLP((8,)), memory=Tally(6, cells=3, values=4, layers=2), separate=False)
HYPER = Network(MLP((8,)), memory=GRU(6), separate=False, readout=Hypernetwork((5,)))


class ProbeState(NamedTuple):
    time: Any
    cue: Any


@dataclass(frozen=True)
class Probe:
    """Episodes of `length` steps; each draws a cue, -1 or +1. They terminate, or are cut by a time limit."""

    length: int = 1
    terminates: bool = True
    actions: Actions = field(default=Discrete(2))
    obs_shape = (2,)

    @property
    def name(self):
        return type(self).__name__

    def draw(self, key):
        return ()

    def reset(self, task, key):
        state = ProbeState(jnp.zeros((), jnp.int32), jnp.where(jax.random.bernoulli(key), 1.0, -1.0))
        return state, self.observe(state)

    def step(self, task, state, action, key):
        reward = self.reward(task, state, action)
        following = state._replace(time=state.time + 1)
        last = following.time >= self.length
        return following, TimeStep(
            reward=jnp.asarray(reward, jnp.float32),
            discount=1.0 - jnp.asarray(last & self.terminates, jnp.float32),
            last=last,
            next_obs=self.observe(following),
        )

    def observe(self, state):
        return jnp.stack([state.cue, jnp.asarray(state.time, jnp.float32)])

    def reward(self, task, state, action):
        raise NotImplementedError


class CueValue(Probe):
    """The reward is the cue, whatever is done: V(cue) = cue. Only the value can be wrong."""

    def reward(self, task, state, action):
        return state.cue


class LateReward(Probe):
    """The cue is paid at the last of `length` steps: V(cue, t) = gamma^(length - 1 - t) cue."""

    def reward(self, task, state, action):
        return jnp.where(state.time == self.length - 1, state.cue, 0.0)


class Wage(Probe):
    """One a step, and nothing to see. If nothing terminates, V = 1 / (1 - gamma); if each step does, V = 1."""

    def observe(self, state):
        return jnp.ones(2)

    def reward(self, task, state, action):
        return 1.0


class MatchCue(Probe):
    """1 for action 1 at cue +1, or action 0 at cue -1: only the policy matters, and it must look."""

    def reward(self, task, state, action):
        return jnp.where((action == 1) == (state.cue > 0), 1.0, 0.0)


class Recall(MatchCue):
    """As `MatchCue`, but the cue is shown at the first step only and pays at the last: needs a memory."""

    def observe(self, state):
        return jnp.stack([jnp.where(state.time == 0, state.cue, 0.0), jnp.asarray(state.time, jnp.float32)])

    def reward(self, task, state, action):
        return jnp.where(state.time == self.length - 1, super().reward(task, state, action), 0.0)


class PaidLate(MatchCue):
    """As `MatchCue` at the first of `length` steps, shown from then on and paid at the last: needs foresight."""

    def step(self, task, state, action, key):
        earned = jnp.where(state.time == 0, super().reward(task, state, action), state.cue)
        return super().step(task, state._replace(cue=earned), action, key)

    def reward(self, task, state, action):
        return jnp.where(state.time == self.length - 1, state.cue, 0.0)


class FaintCue(MatchCue):
    """As `MatchCue`, but the cue is shown at a fifth of its size beside one that means nothing: needs good features."""

    def reset(self, task, key):
        state = ProbeState(jnp.zeros((), jnp.int32), jax.random.rademacher(key, (2,), jnp.float32))
        return state, self.observe(state)

    def observe(self, state):
        return state.cue * jnp.array([0.2, 1.0])

    def reward(self, task, state, action):
        return super().reward(task, state._replace(cue=state.cue[0]), action)


@dataclass(frozen=True)
class Arms(Probe):
    """A bandit with known pay: d E[R] / d logit_i = p_i (r_i - E[R])."""

    pay: tuple[float, ...] = (1.0, 0.0)

    def __post_init__(self):
        object.__setattr__(self, "actions", Discrete(len(self.pay)))

    def observe(self, state):
        return jnp.ones(2)

    def reward(self, task, state, action):
        return jnp.asarray(self.pay)[action]


class Reach(Probe):
    """-(action - cue / 2)^2, one real action."""

    def reward(self, task, state, action):
        return -jnp.sum((action - state.cue / 2) ** 2)


def reach(length: int = 1) -> Reach:
    return Reach(length, actions=Continuous(1, (-1.0,), (1.0,)))


def made_up_rollout(policy, params, key, steps=6, streams=4) -> Rollout:
    """Random data with terminations, time limits and off-policy probabilities, as no environment would order them."""
    key_drawn, key_acted, key_action = jax.random.split(key, 3)
    seen = (steps, streams, *policy.obs_shape)
    shapes = dict(obs=seen, following=seen, before=(3, *seen[1:]), reward=seen[:2], ended=seen[:2], terminated=seen[:2])
    drawn = jitter({name: jnp.zeros(shape) for name, shape in shapes.items()}, key_drawn, 1.0)
    obs, following = drawn["obs"], drawn["following"]
    ended = drawn["ended"] < -0.52  # three in ten
    terminated = ended & (drawn["terminated"] < 0)
    # Within an episode, what a step led to is what the next one acts on.
    following = following.at[:-1].set(jnp.where(ended[:-1, :, None], following[:-1], obs[1:]))
    memory = policy.start_memory(streams)
    for earlier in drawn["before"]:  # what an agent remembers that has seen something
        memory, _ = policy.act(params, memory, earlier, jnp.zeros(streams, bool))
    rollout = Rollout(
        obs=obs,
        action=jnp.zeros(()),
        reward=drawn["reward"],
        discount=1.0 - terminated,
        last=ended,
        next_obs=following,
        behaviour_log_prob=jnp.zeros(()),
        memory=memory,
        progress=jnp.float32(0.25),
        lifetime=jnp.float32(100.0),
    )
    # Another policy of the same family acted.
    distribution = policy.unroll(jitter(params, key_acted, 0.3), rollout).policy
    action = distribution.sample(key_action)
    return rollout._replace(action=action, behaviour_log_prob=distribution.log_prob(action), behaviour=distribution)


def jitter(tree, key, size=0.1):
    """The tree with noise on every leaf, of one draw: every call of the generator is compiled anew."""
    flat, unravel = ravel_pytree(tree)
    return unravel(flat + size * jax.random.normal(key, flat.shape, flat.dtype))


def noisy(init, key, size=0.1):
    """What `init` gives, compiled, with noise on every leaf that needs no compiling."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return jax.tree.map(lambda x: x + jnp.asarray(size * rng.standard_normal(x.shape), x.dtype), jax.jit(init)(key))


_MADE: dict[str, tuple[Any, Rollout]] = {}


def made(network, actions, heads, seed=0, streams=4):
    """A policy for observations of two numbers, grown-up parameters, and a made-up rollout.

    Compiled in two programs: the time that one takes grows faster than its length.
    """
    policy = network.build((2,), actions, heads)
    if (known := repr((policy, seed, streams))) in _MADE:
        return policy, *jax.tree.map(lambda x: x, _MADE[known])  # fresh dictionaries, in case a test changes them

    key_params, key_rollout = jax.random.split(jax.random.key(seed))
    params = jax.jit(lambda key: jitter(policy.init(key), key, 0.3))(key_params)
    _MADE[known] = params, jax.jit(lambda p, key: made_up_rollout(policy, p, key, streams=streams))(params, key_rollout)
    return policy, *_MADE[known]
