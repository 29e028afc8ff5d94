"""Time and memory of one inner update of every rule of the zoo, beside plain PPO's; new rules appear by themselves.

The same agents (separate bodies of 64 x 64) on the same rollout of Catch, 16 streams of 16 steps; acting is not timed.
The ratio is the rule's time over that of `ppo` with its 4 epochs of 4 minibatches: an update of most other rules is one
gradient step, and costs less. Memory is what the compiled update holds at once, as the compiler accounts for it:
arguments, results and temporaries. Theta is untrained.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax

from learned_rl.blueprint import blueprint_of
from learned_rl.families import catch
from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.types import Rule
from learned_rl.zoo import BUILT_IN, LEARNABLE
from runs.benchmarks.timing import Row, compiled, in_turns, peak_bytes

NETWORK = Network(MLP((64, 64)))
UPDATES = 10  # in one call, one after the other: what a call itself costs is none of a rule's


def measure(rounds: int) -> Iterator[Row]:
    """One row a rule, all called in turns."""
    contenders, known = {}, {}
    for name, make in {**BUILT_IN, **LEARNABLE}.items():
        if blueprint_of(rule := make()) is None:  # agents that a rule brings along are for other tasks
            contenders[name], known[name] = update_of(rule)
    ppo = known["ppo"]["peak_bytes"]
    timed = in_turns(contenders, rounds)
    for name, t in timed.items():
        details = known[name]
        details["cpu_ratio"] = t.cpu_speedup_of(timed["ppo"])
        memory = ""
        if ppo is not None:
            details["memory_ratio"] = details["peak_bytes"] / ppo
            memory = f"; peak {details['peak_bytes'] / 2**20:.2f} MiB, {details['memory_ratio']:.2f} x ppo's"
        yield Row(name + memory, 1e3 * t.median / UPDATES, "ms/update", t.speedup_of(timed["ppo"]), "", details)


def update_of(rule: Rule) -> tuple[Callable[[], Any], dict[str, Any]]:
    """`UPDATES` updates on one rollout: the compiled call, and what is known about it."""
    lifetime = Lifetime(catch(), rule, NETWORK, streams=16, steps=16)
    policy = lifetime.policy

    def born(key):
        theta = rule.init(key)
        agent = lifetime.start(theta, key)
        _, rollout = lifetime.act(agent, key)
        return theta, agent.params, agent.rule_state, rollout

    def updated(theta, params, state, rollout, keys):
        def one(life, key):
            params, state = life
            return rule.update(theta, params, state, rollout, policy, key)[:2], None

        return jax.lax.scan(one, (params, state), keys)[0]

    arguments = jax.jit(born)(jax.random.key(0)), jax.random.split(jax.random.key(1), UPDATES)
    program, seconds = compiled(updated, *arguments[0], arguments[1])
    details = {"compile_seconds": seconds, "peak_bytes": peak_bytes(program)}
    return lambda: program(*arguments[0], arguments[1]), details
