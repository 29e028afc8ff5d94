"""Seconds of one update of DiscoRL's rule beside the published implementation (google-deepmind/disco_rl).

Both take the published evaluation's learner step on Catch: 64 rollouts of 28 transitions, three actions, the published
agent (943,375 parameters) and meta-network (754,778), untrained, for the time does not depend on their values; target
network, Retrace, meta-network, losses, gradient and Adam. That both find the same numbers is `tests/learned_rl/disco`.

The published code needs an older JAX than this project's: under a newer one it stops, or silently leaves out a gate. So
it is no dependency here. For the comparison, in a virtual environment of its own:

    pip install jax==0.7.2 chex==0.1.90 flax jaxtyping git+https://github.com/google-deepmind/disco_rl.git
    python -m runs.benchmarks --only disco          # in a checkout of this project
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_rl.action_network import ActionNetwork
from learned_rl.distributions import Categorical
from learned_rl.rules.disco.rule import Disco
from learned_rl.types import Discrete, Rollout
from runs.benchmarks.timing import Row, compiled, in_turns

MISSING = "disco_rl is not installed (it needs jax 0.7.2, see runs/benchmarks/disco.py): ours only"
STEPS, ROLLOUTS, ACTIONS, SHAPE, EPISODE = 29, 64, 3, (8, 8, 1), 7
RATE = 1e-2


def recorded() -> dict[str, np.ndarray]:
    """Steps `[29, 64, ...]` as the published agent records them: reward and discount came *with* the observation."""
    rng = np.random.default_rng(0)
    size = (STEPS, ROLLOUTS)
    discount = np.broadcast_to((np.arange(STEPS) % EPISODE != EPISODE - 1)[:, None], size).astype(np.float32)
    return {
        "obs": rng.integers(0, 2, (*size, *SHAPE)).astype(np.float32),
        "action": rng.integers(0, ACTIONS, size).astype(np.int32),
        "reward": np.where(discount == 0, rng.choice([-1.0, 1.0], size), 0.0).astype(np.float32),
        "discount": discount,
        "logits": (0.1 * rng.normal(size=(*size, ACTIONS))).astype(np.float32),
    }


def ours() -> tuple[Callable[[], Any], float]:
    """One update by our rule, and seconds to compile it."""
    rule, steps = Disco(learning_rate=RATE), {k: jnp.asarray(x) for k, x in recorded().items()}
    policy = ActionNetwork().build(SHAPE, Discrete(ACTIONS), rule.heads)
    acted, action, discount = Categorical(steps["logits"][:-1]), steps["action"][:-1], steps["discount"]
    rollout = Rollout(
        obs=steps["obs"][:-1],
        action=action,
        reward=steps["reward"][1:],
        discount=discount[1:],
        last=discount[1:] == 0,
        next_obs=steps["obs"][1:],
        behaviour_log_prob=acted.log_prob(action),
        behaviour=acted,
    )
    theta = rule.init(jax.random.key(0))
    params, state = rule.birth(theta, policy, jax.random.key(1))
    arguments = (theta, params, state, rollout, discount[:-1])
    call, seconds = compiled(lambda t, p, s, r, w: rule.learn(t, p, s, r, policy, w), *arguments)
    return lambda: call(*arguments), seconds


def theirs() -> tuple[Callable[[], Any], float]:
    """One learner step of the published agent, and seconds to compile it; what it would log is left out."""
    from disco_rl import agent as published  # pyright: ignore[reportMissingImports]
    from disco_rl import types  # pyright: ignore[reportMissingImports]
    from dm_env import specs  # pyright: ignore[reportMissingImports]

    settings = published.get_settings_disco()
    settings.learning_rate = RATE
    agent = published.Agent(
        agent_settings=settings,
        single_observation_spec={"observation": specs.Array(SHAPE, np.float32)},
        single_action_spec=specs.BoundedArray((), np.int32, 0, ACTIONS - 1),
        batch_axis_name=None,
    )
    steps = {k: jnp.asarray(x) for k, x in recorded().items()}
    rollout = types.ActorRollout(
        observations={"observation": steps["obs"]},
        actions=steps["action"],
        rewards=steps["reward"],
        discounts=steps["discount"],
        agent_outs={"logits": steps["logits"]},
        states={},
        logits=steps["logits"],
    )
    key = jax.random.PRNGKey(0)
    theta, _ = agent.update_rule.init_params(key)
    arguments = (rollout, agent.initial_learner_state(key), agent.initial_actor_state(key), theta)
    call, seconds = compiled(lambda r, s, n, t: agent.learner_step(key, r, s, n, t, False)[:2], *arguments)
    return lambda: call(*arguments), seconds


def measure(rounds: int) -> Iterator[Row]:
    """One row: seconds of the published update over seconds of ours."""
    call, seconds = ours()
    contenders, details = {"ours": call}, dict[str, Any](compile_seconds=seconds)
    try:
        contenders["theirs"], details["compile_seconds_theirs"] = theirs()
    except ImportError:
        details["note"] = MISSING
    timed = in_turns(contenders, rounds)
    ratio = None
    if "theirs" in timed:
        ratio = timed["theirs"].speedup_of(timed["ours"])
        details |= {"theirs": timed["theirs"].median, "cpu_ratio": timed["theirs"].cpu_speedup_of(timed["ours"])}
    yield Row("one update, Catch as published", timed["ours"].median, "s", ratio, ">= 1.0, aim 2.0", details)
