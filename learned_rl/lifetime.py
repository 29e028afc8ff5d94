"""A lifetime: one agent, one task, one rule, from birth to a fixed number of updates. Written for one."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from learned_rl.action_network import ActionNetwork
from learned_rl.blueprint import blueprint_of
from learned_rl.networks import Network
from learned_rl.rollout import Streams, collect, start_streams
from learned_rl.types import Metrics, Params, Policy, Rollout, Rule, RuleState, TaskFamily, Theta


class Agent(NamedTuple):
    """The whole state of one life.

    Attributes:
      task: drawn at birth, the same for ever.
      streams: environments under way.
      params: the network's parameters.
      rule_state: what the rule remembers.
      updates: how many inner updates this agent has had.
    """

    task: PyTree
    streams: Streams
    params: Params
    rule_state: RuleState
    updates: Int[Array, ""]


@dataclass(frozen=True)
class Lifetime:
    """Settings of an inner training run.

    Attributes:
      tasks: what lives are drawn from.
      rule: how the agent learns.
      network: what the agent is, unless the rule brings its own (`learned_rl.blueprint`).
      streams: environments an agent acts in side by side.
      steps: environment steps per stream between two updates.
      updates: N, updates in a life; it defines `Rollout.progress` and `Rollout.lifetime` and nothing else.

    Raises:
      ValueError: a size below 1, or tasks of another shape than the agents that the rule brings.
    """

    tasks: TaskFamily
    rule: Rule
    network: Network | ActionNetwork = Network()
    streams: int = 16
    steps: int = 16
    updates: int = 100

    def __post_init__(self):
        for name in ("streams", "steps", "updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if (blueprint := blueprint_of(self.rule)) is not None:
            blueprint.check(self.tasks)

    @property
    def policy(self) -> Policy:
        blueprint = blueprint_of(self.rule)
        network = self.network if blueprint is None else blueprint.network
        return network.build(self.tasks.obs_shape, self.tasks.actions, self.rule.heads)

    @property
    def steps_per_update(self) -> int:
        """Environment steps of one update, all streams together."""
        return self.streams * self.steps

    def start(self, theta: Theta, key: PRNGKeyArray) -> Agent:
        """A newborn agent in a newly drawn task."""
        key_task, key_agent, key_streams = jax.random.split(key, 3)
        policy = self.policy
        task = self.tasks.draw(key_task)
        params, rule_state = self.rule.birth(theta, policy, key_agent)
        streams = start_streams(self.tasks, task, policy, self.streams, key_streams)
        return Agent(task, streams, params, rule_state, jnp.zeros((), jnp.int32))

    def act(self, agent: Agent, key: PRNGKeyArray) -> tuple[Streams, Rollout]:
        """`steps` fresh steps with the agent's current parameters; the agent itself does not change."""
        progress = jnp.minimum(agent.updates / self.updates, 1.0)
        keys = jax.random.split(key, self.steps)
        streams, rollout = collect(self.tasks, agent.task, self.policy, agent.params, agent.streams, keys, progress)
        return streams, rollout._replace(lifetime=jnp.asarray(self.updates, jnp.float32))

    def live(self, theta: Theta, agent: Agent, key: PRNGKeyArray) -> tuple[Agent, Rollout, Metrics]:
        """One inner update: act, then let the rule change the agent."""
        key_act, key_update = jax.random.split(key)
        streams, rollout = self.act(agent, key_act)
        params, rule_state, metrics = self.rule.update(
            theta, agent.params, agent.rule_state, rollout, self.policy, key_update
        )
        return (
            agent._replace(streams=streams, params=params, rule_state=rule_state, updates=agent.updates + 1),
            rollout,
            metrics,
        )

    def whole(self, theta: Theta, agent: Agent, key: PRNGKeyArray) -> tuple[Agent, Float[Array, " updates"]]:
        """`updates` inner updates: the agent after them, and its mean return after each."""

        def update(agent: Agent, key: PRNGKeyArray) -> tuple[Agent, Float[Array, ""]]:
            agent, _, _ = self.live(theta, agent, key)
            return agent, mean_return(agent.streams)

        return jax.lax.scan(update, agent, jax.random.split(key, self.updates))


def mean_return(streams: Streams) -> Float[Array, ""]:
    """Mean over streams of the return of the last episode that ended; before the first has, of the one under way.

    Defined at every moment of a life, whatever the length of episodes; a mean over those that end in a window is not.
    """
    return jnp.mean(streams.episode_return)
