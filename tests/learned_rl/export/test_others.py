"""Schedules, intrinsic rewards and agents elsewhere say what they say here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.export import NotExportable, formats, parts, stablehlo
from learned_rl.rules.drift import Drift
from learned_rl.rules.intrinsic.learned import LifetimeReward
from learned_rl.rules.intrinsic.places import PlaceReward
from learned_rl.rules.intrinsic.rule import Intrinsic
from learned_rl.rules.rl2 import RL2
from learned_rl.rules.schedule import Schedule
from tests.learned_rl.export.test_objectives import named, run_outside
from tests.probes import jitter, noisy

KEY = jax.random.key(0)
SCHEDULE = Schedule(Drift(), hidden=3)
INTRINSIC = Intrinsic(reward=LifetimeReward(hidden=3, observation=4, action=2))
PLACES = Intrinsic(reward=PlaceReward(hidden=3, buckets=8, streams=2))


def test_a_schedule_and_a_reward_of_a_file(tmp_path):
    made = {"schedule": (SCHEDULE, noisy(SCHEDULE.init, KEY))}
    made |= {name: (rule, rule.init(KEY)) for name, rule in (("intrinsic", INTRINSIC), ("places", PLACES))}
    for name in ("intrinsic", "places"):
        made[name][1]["reward"] = jitter(made[name][1]["reward"], KEY, 0.3)
    for name, (rule, theta) in made.items():
        for file, content in formats.write(rule, theta, name, {}, "standalone").items():
            (tmp_path / file).write_bytes(content)
    steps = {"reward": jnp.ones((5, 2)), "discount": jnp.ones((5, 2)), "last": jnp.zeros((5, 2), bool)}
    seen = {"obs": jnp.ones((5, 2, 4)), "next_obs": jnp.arange(40.0).reshape(5, 2, 4) / 40}
    state = {"hidden": jnp.full(3, 0.1), "cell": jnp.full(3, -0.2)}
    remembered = PLACES.reward.start((), None, KEY)._asdict()
    place = jnp.arange(10, dtype=jnp.int32).reshape(5, 2) % 3
    calls = {
        "schedule_rule/coefficients": {"progress": jnp.float32(0.3), "kl": jnp.float32(0.1)},
        "intrinsic_rule/intrinsic_reward": {"state": state, **seen, **steps, "action": jnp.ones((5, 2), jnp.int32)},
        "places_rule/intrinsic_reward": {"state": remembered, "place": place, "next_place": (place + 1) % 5, **steps},
    }
    answers = run_outside(tmp_path, {k: x for call, tree in calls.items() for k, x in named(tree, call).items()})
    for call, arguments in calls.items():
        module, function = call.split("/")
        rule, theta = made[module.removesuffix("_rule")]
        (part,) = parts(rule, theta)
        own = jax.jit(lambda a, p=part, f=function: p.functions[f].call(p.settings, p.theta, **a))(arguments)
        for name, x in named(own, f"{call}/value").items():
            np.testing.assert_allclose(answers[name], x, rtol=0, atol=1e-6)


def test_an_agent_acts_as_stablehlo_and_says_that_it_is_no_file():
    rule = RL2()
    theta = jax.jit(rule.init)(KEY)
    files = stablehlo.write(parts(rule, theta))
    start, act = (jax.export.deserialize(bytearray(files[f"{n}.stablehlo"])) for n in ("start", "act"))
    policy, obs = rule.blueprint.policy(rule.heads), jnp.ones((3, 4))
    last = jnp.array([False, True, False])
    memory = start.call(last=last)
    memory, said = act.call(memory=memory, obs=obs, last=last)
    memory, said = act.call(memory=memory, obs=2 * obs, last=last)

    @jax.jit
    def own(theta):
        memory, _ = policy.act(theta, policy.start_memory(3), obs, last)
        return policy.act(theta, memory, 2 * obs, last)[1].policy.logits

    np.testing.assert_allclose(said["logits"], own(theta), rtol=0, atol=1e-6)
    with pytest.raises(NotExportable, match="its code needs flax"):
        formats.write(rule, theta, "x", {}, "standalone")
