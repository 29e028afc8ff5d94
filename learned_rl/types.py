"""The nouns of an agent's life, with their shapes.

Time leads: a rollout is `[T, B, ...]`, `T` consecutive steps of `B` streams that one agent acts in. Functions on
returns are written for one stream `[T]`. Polarity is in the name: `discount` is 0 where the task *terminated*, `last`
is true where the episode ended for whichever reason, a time limit included.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, Num, PRNGKeyArray, PyTree

Theta: TypeAlias = PyTree  # what is meta-learned; () for a hand-designed rule
Params: TypeAlias = PyTree  # one agent's network parameters
RuleState: TypeAlias = PyTree  # what a rule remembers between updates: optimizer moments, counters, learned memory
Memory: TypeAlias = PyTree  # recurrent acting state, leaves [B, ...]; () if none
Metrics: TypeAlias = dict[str, Float[Array, ""]]


@dataclass(frozen=True)
class Discrete:
    """`count` actions, numbered from 0."""

    count: int = 2


@dataclass(frozen=True)
class Continuous:
    """`size` real actions. Agents act in units of half the range: -1 is `low`, +1 is `high`, clipped by the task."""

    size: int = 1
    low: tuple[float, ...] = (-1.0,)
    high: tuple[float, ...] = (1.0,)


Actions: TypeAlias = Discrete | Continuous


class TimeStep(NamedTuple):
    """One step of one stream.

    Attributes:
      reward: float32.
      discount: 0 where the task terminated, else 1.
      last: the episode ended with this step, by termination or by its time limit.
      next_obs: what the action led to: the observation to bootstrap from. The next episode begins with another one.
    """

    reward: Float[Array, ""]
    discount: Float[Array, ""]
    last: Bool[Array, ""]
    next_obs: Float[Array, "*obs"]


@runtime_checkable
class TaskFamily(Protocol):
    """A distribution over tasks of one shape: an environment, and a draw of everything that is hidden in it.

    One *task* is a pytree that stays the same for a whole life, over all episodes and streams.
    """

    @property
    def name(self) -> str: ...
    @property
    def obs_shape(self) -> tuple[int, ...]: ...
    @property
    def actions(self) -> Actions: ...

    def draw(self, key: PRNGKeyArray) -> PyTree:
        """Draws the task of one life."""
        ...

    def reset(self, task: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, "*obs"]]:
        """Begins an episode: `(environment state, observation)`."""
        ...

    def step(
        self, task: PyTree, state: PyTree, action: Num[Array, "*action"], key: PRNGKeyArray
    ) -> tuple[PyTree, TimeStep]:
        """Takes one step. Never begins an episode: whoever acts does (`learned_rl.rollout.restart`)."""
        ...


class Rollout(NamedTuple):
    """`T` steps of `B` streams of one agent, with everything an update may read.

    Attributes:
      obs: what was acted on.
      action: what was done; integers, or reals in units of half the action range.
      reward: what came of it.
      discount: 0 where the task *terminated*, else 1.
      last: the episode ended, by termination or by time limit: cut traces and reset memories here.
      next_obs: before any reset; bootstrap from it wherever `discount` is 1.
      behaviour_log_prob: log-probability of `action` under the policy that acted, differentiable in its params.
      memory: the acting memory before the first step, `()` if none.
      progress: fraction of the lifetime lived before this rollout, in [0, 1). Not in the papers' rollouts: schedules
        and temporally-aware rules read it, and a rule must not have to know how long a lifetime is.
      lifetime: N, how many updates the lifetime has; 1, whose logarithm is 0, where nobody said.
      behaviour: the distribution that acted, `[T, B, ...]`; `()` if it was that of the agent that learns. Rules that
        look at the probabilities of actions not taken need it.
    """

    obs: Float[Array, "T B *obs"]
    action: Num[Array, "T B *action"]
    reward: Float[Array, "T B"]
    discount: Float[Array, "T B"]
    last: Bool[Array, "T B"]
    next_obs: Float[Array, "T B *obs"]
    behaviour_log_prob: Float[Array, "T B"]
    memory: Memory = ()
    progress: Float[Array, ""] | np.float32 = np.float32(0.0)
    lifetime: Float[Array, ""] | np.float32 = np.float32(1.0)
    behaviour: Any = ()


ONE_PER_ACTION = 0  # the width of a head per action that is as many numbers as there are actions


@dataclass(frozen=True)
class Heads:
    """What an agent's network must output for a rule, beside the policy itself.

    Attributes:
      flat: name -> width, one vector a state.
      per_action: name -> width, one vector a state and action (discrete actions only); `ONE_PER_ACTION` for a
        distribution over actions, say: a rule does not know how many there are.
    """

    flat: Mapping[str, int] = field(default_factory=dict)
    per_action: Mapping[str, int] = field(default_factory=dict)


class Outputs(NamedTuple):
    """What the network says of a batch of observations; leading axes are the observations'."""

    policy: Any  # Categorical | Normal, see learned_rl.distributions
    flat: dict[str, Float[Array, "... width"]]
    per_action: dict[str, Float[Array, "... actions width"]]


Layers: TypeAlias = dict[str, Float[Array, " units"]]
"""How loud each unit of each layer is (`learned_rl.layers.loudness`), layers by the path of their tensors in the
parameters: `body_0`, `torso/1`."""


@runtime_checkable
class Policy(Protocol):
    """An agent's network as pure functions of its parameters.

    One that also has `unroll_layers(params, rollout) -> (outputs, Layers)`, outputs being those of `unroll`, tells a
    learned optimizer which of its units are dormant. One that has `unroll_taken(params, rollout) -> outputs`, the
    same but for `per_action`, `[T, B, n]` of the action taken alone, saves rules the derivatives of the others.
    """

    def init(self, key: PRNGKeyArray) -> Params: ...

    def start_memory(self, streams: int) -> Memory:
        """The memory of `streams` streams at the beginning of an episode."""
        ...

    def act(
        self, params: Params, memory: Memory, obs: Float[Array, "B *obs"], last: Bool[Array, " B"]
    ) -> tuple[Memory, Outputs]:
        """One step. Memories are cleared where `last`, that is, where the *previous* step ended an episode."""
        ...

    def unroll(self, params: Params, rollout: Rollout) -> Outputs:
        """Outputs `[T, B, ...]` at `rollout.obs`, with the memory replayed from `rollout.memory`."""
        ...

    def unroll_next(self, params: Params, rollout: Rollout) -> Outputs:
        """Outputs `[T, B, ...]` at `rollout.next_obs`: what to bootstrap from, also where the episode was cut."""
        ...


@runtime_checkable
class Rule(Protocol):
    """An RL algorithm: how an agent changes after a rollout (`f_theta` of the literature).

    A learned rule and a hand-designed one (`theta = ()`) implement the same protocol, so a baseline is a rule like any
    other. Settings are the dataclass' fields; everything learned is in `theta`, everything remembered in the state.
    """

    @property
    def heads(self) -> Heads: ...

    def init(self, key: PRNGKeyArray) -> Theta:
        """Untrained meta-parameters."""
        ...

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, RuleState]:
        """A new agent."""
        ...

    def update(
        self, theta: Theta, params: Params, state: RuleState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, RuleState, Metrics]:
        """One inner update. Differentiable in `theta`, and in `params` as far as the rule is."""
        ...
