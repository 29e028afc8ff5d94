"""Graceful failure: who acts when, what is undone, how often the test is wrong, and how soon it is right."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.lifetime import Lifetime
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift
from learned_rl.rules.guard import Guard
from learned_rl.rules.lpg import LPG
from learned_rl.rules.maml import MAML
from learned_rl.rules.none import NoLearning
from learned_rl.rules.q_learning import QLearning
from learned_rl.types import Heads, Rollout
from tests.probes import RECURRENT, SMALL, MatchCue, Recall


@dataclass(frozen=True)
class Puppet:
    """a2c at the learning rate that theta says, below 0 ascending what it should descend.

    After as many updates as theta says it leaves numbers that are none."""

    @property
    def heads(self):
        return ActorCritic().heads

    def init(self, key):
        return {"rate": jnp.float32(0.03), "breaks": jnp.float32(1000)}

    def birth(self, theta, policy, key):
        params, state = ActorCritic().birth((), policy, key)
        return params, (state, jnp.zeros(()))

    def update(self, theta, params, state, rollout, policy, key):
        rule = ActorCritic(Coefficients(learning_rate=theta["rate"], entropy=0.0))
        new, inner, metrics = rule.update((), params, state[0], rollout, policy, key)
        bad = jnp.where(state[1] >= theta["breaks"], jnp.inf, 0.0)
        return jax.tree.map(lambda x: x + (bad - bad), new), (inner, state[1] + 1), metrics


def puppet(rate=0.03, breaks=1000):
    return {"rate": jnp.float32(rate), "breaks": jnp.float32(breaks)}


class Lives:
    """Eight lives of 40 updates side by side, one program for every theta."""

    def __init__(self, rule, tasks=None, network=SMALL):
        tasks = tasks or MatchCue(2)
        lifetime = Lifetime(tasks, rule, network, streams=8, steps=8, updates=40)

        def life(theta, key):
            def update(agent, key):
                agent, rollout, metrics = lifetime.live(theta, agent, key)
                returns = jnp.sum(rollout.reward) / jnp.maximum(jnp.sum(rollout.last), 1)
                return agent, (returns, metrics.get("guard_learned", 0.0), metrics.get("guard_decided", 0.0))

            key_birth, key_life = jax.random.split(key)
            agent, seen = jax.lax.scan(update, lifetime.start(theta, key_birth), jax.random.split(key_life, 40))
            return agent, *seen

        self._lives = jax.jit(jax.vmap(life, in_axes=(None, 0)))

    def __call__(self, theta):
        """The agents, their mean returns, whether the learned rule's acts after each update, and whether for good."""
        agents, *seen = self._lives(theta, jax.random.split(jax.random.key(0), 8))
        return agents, *map(np.asarray, seen)


@pytest.fixture(scope="module")
def guarded():
    """Of the two puppets: turns of three updates, probation of twelve."""
    lives = Lives(Guard(Puppet(), Puppet(), probation=0.3, error=0.05))
    return lambda base, fallback: lives({"base": base, "fallback": fallback})


def test_a_rule_that_ascends_is_found_out_and_the_fallback_ends_high(guarded):
    _, returns, learned, decided = guarded(puppet(-0.03), puppet())
    assert not learned[:, 12:].any()
    assert decided[:, 12:].all()
    assert returns[:, -4:].mean() > 1.8  # of 2


def test_a_rule_that_learns_keeps_the_agent_against_one_that_does_not(guarded):
    _, returns, learned, decided = guarded(puppet(), puppet(0.0))
    assert learned[:, 12:].all()
    assert decided[:, 12:].all()
    assert returns[:, -4:].mean() > 1.8


def test_where_neither_learns_the_engineered_one_is_trusted(guarded):
    _, _, learned, _ = guarded(puppet(0.0), puppet(0.0))
    assert learned[:, -1].mean() <= 2 / 8  # chance has it at most one time in ten


@pytest.mark.parametrize("breaks", [0, 2, 7])
def test_an_update_that_is_not_finite_is_undone_at_once_and_the_fallback_takes_over(guarded, breaks):
    agents, returns, learned, decided = guarded(puppet(breaks=breaks), puppet(0.0))
    # Its updates are the life's 4th to 6th, and those from the 10th on.
    falls = {0: 3, 2: 5, 7: 13}[breaks]
    assert not learned[:, falls:].any()
    assert decided[:, falls:].all()
    assert learned[:, falls - 1].all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((agents.params, agents.rule_state, returns)))


def test_until_its_first_turn_is_over_a_guarded_life_is_the_fallbacks(guarded):
    agents, returns, *_ = guarded(puppet(-0.03), puppet())
    bare, alone, *_ = Lives(Puppet())(puppet())
    np.testing.assert_array_equal(returns[:, :3], alone[:, :3])
    assert not np.array_equal(returns[:, 3:], alone[:, 3:])
    assert jax.tree.structure(agents.params) == jax.tree.structure(bare.params)


def test_where_no_episode_ends_in_a_turn_the_whole_life_is_the_fallbacks():
    tasks = MatchCue(30)
    agents, returns, learned, decided = Lives(Guard(Puppet(), Puppet(), probation=0.3), tasks)(
        {"base": puppet(-0.03), "fallback": puppet()}
    )
    bare, alone, *_ = Lives(Puppet(), tasks)(puppet())
    assert not learned.any()
    assert decided[:, 2:].all()
    np.testing.assert_allclose(returns, alone, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), agents.params, bare.params)


def test_with_a_memory_and_rewards_at_the_end_that_somebody_else_may_have_earned():
    lives = Lives(Guard(Puppet(), Puppet(), probation=0.6), Recall(3), RECURRENT)
    _, returns, learned, _ = lives({"base": puppet(-0.06), "fallback": puppet(0.06)})
    assert not learned[:, 24:].any()
    assert returns[:, -4:].mean() > 0.85


def test_the_meta_gradient_is_finite_after_the_fall_and_nothing_flows_to_the_rule_that_fell(guarded):
    """Beside a life in which it did not fall: there, a choice is a selection of what is computed of both."""
    fallen, *_ = guarded(puppet(breaks=0), puppet())
    trusted, *_ = guarded(puppet(), puppet(0.0))
    both = jax.tree.map(lambda a, b: jnp.stack([a[0], b[0]]), fallen, trusted)
    lifetime = Lifetime(MatchCue(2), Guard(Puppet(), Puppet(), probation=0.3), SMALL, streams=8, steps=8, updates=40)

    def loss(theta, agent):
        after, rollout, _ = lifetime.live(theta, agent, jax.random.key(0))
        return jnp.mean(rollout.reward * lifetime.policy.unroll(after.params, rollout).policy.log_prob(rollout.action))

    gradient = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))({"base": puppet(), "fallback": puppet()}, both)
    rates = {name: np.asarray(part["rate"]) for name, part in gradient.items()}
    assert np.isfinite([*rates["base"], *rates["fallback"]]).all()
    assert rates["base"][0] == 0 != rates["base"][1]
    assert rates["fallback"][0] != 0 == rates["fallback"][1]


UPDATES, TURN, ERROR = 100, 4, 0.2
WATCHED = Guard(NoLearning(), NoLearning(), probation=0.16, rounds=2, error=ERROR, watched=8)


class _Nobody:
    """A policy without parameters."""

    def init(self, key):
        return {}


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, None, None))
def _verdicts(key, learned, reference):
    _, state = WATCHED.birth({"base": (), "fallback": ()}, _Nobody(), key)

    def update(state, now):
        key, *means = now
        reward = jnp.where(state.learned_acts, *means) + jax.random.normal(key, (4, 8))
        rollout = Rollout(*[jnp.zeros(())] * 7)._replace(reward=reward, last=jnp.ones_like(reward, bool))
        state = WATCHED._judged(WATCHED._posted(state, rollout), jnp.zeros((), bool), jnp.float32(UPDATES))
        return state, state.learned_acts

    return jax.lax.scan(update, state, (jax.random.split(key, UPDATES), learned, reference))[1]


def verdicts(learned, reference):
    """Who acts after each of 100 updates of 600 lives; probation is 16 of them. A turn has 128 episodes of one step,
    whose returns are normal, of deviation 1 about the means given for the life's updates."""
    means = (jnp.broadcast_to(jnp.asarray(m, jnp.float32), UPDATES) for m in (learned, reference))
    return np.asarray(_verdicts(jax.random.split(jax.random.key(0), 600), *means))


NOW = 0.3 * np.arange(UPDATES)  # learning, little within a turn
MARGIN = 3 * np.sqrt(ERROR * (1 - ERROR) / 600)


def test_turns_are_taken_in_order_until_somebody_is_better():
    acts = verdicts(NOW - 0.3 * TURN, NOW)  # equal at equal ages
    order = [False] * 3 + [True] * 4 + [False] * 4 + [True] * 4 + [False]
    assert (acts[:, :16] == order).all(axis=1).mean() > 1 - 2 * ERROR
    assert (verdicts(NOW + 9, NOW)[:, :20] == [False] * 3 + [True] * 17).all()
    assert (verdicts(NOW, NOW + 9)[:, :20] == [False] * 3 + [True] * 4 + [False] * 13).all()


def test_a_learner_that_is_no_better_is_trusted_as_rarely_as_is_said():
    """With a probability of at most `error`: nearly that, or the test would be dull. After probation it is never found
    below what the fallback was when it was young."""
    acts = verdicts(NOW - 0.3 * TURN, NOW)
    trusted = acts[:, 15].mean()
    assert 0.7 * ERROR < trusted < ERROR + MARGIN
    assert acts[:, -1].mean() == trusted


def test_a_learned_rule_that_is_as_good_as_the_fallback_was_is_rarely_found_worse_in_the_rest_of_its_life():
    acts = verdicts(np.where(np.arange(UPDATES) < 16, 2.0, 0.0), 0.0)
    assert acts[:, 15].all()
    lost = 1 - acts[:, -1].mean()
    # Comparisons share one reference, so that errors come together, and are rarer than their sum.
    assert 0.3 * ERROR < lost < ERROR + MARGIN


def test_a_rule_that_shows_nothing_is_trusted_as_rarely_as_chance_has_it():
    assert verdicts(0.0, 0.0)[:, -1].mean() < ERROR + MARGIN


def test_half_a_deviation_is_seen_by_the_end_of_probation_and_a_collapse_within_two_turns():
    assert verdicts(0.0, 0.5)[:, 16:].mean() < 0.01
    assert verdicts(0.5, 0.0)[:, 16].mean() > 0.98
    collapse = verdicts(np.where(np.arange(UPDATES) < 50, 2.0, -1.0), 0.0)
    assert collapse[:, 49].all()
    assert not collapse[:, 50 + 2 * TURN :].any()


def test_settings_that_make_no_sense_are_refused():
    for wrong in (dict(probation=0.0), dict(probation=1.1), dict(rounds=0), dict(error=0.5), dict(watched=0)):
        with pytest.raises(ValueError, match="probation must be in"):
            Guard(**wrong)
    with pytest.raises(ValueError, match="a MAML brings agents of its own"):
        Guard(fallback=MAML())
    heads = Guard(LPG(predictions=3), QLearning()).heads
    assert heads == Heads({"prediction": 3} | dict(QLearning().heads.flat), QLearning().heads.per_action)

    class Wide(NoLearning):
        heads = Heads(flat={"value": 2})

    with pytest.raises(ValueError, match="'value' has width 2 in base and 1 in fallback"):
        Guard(Wide(), ActorCritic())


def test_theta_is_that_of_both():
    theta = Guard(LPG(predictions=3, hidden=4), Drift()).init(jax.random.key(0))
    alone = LPG(predictions=3, hidden=4).init(jax.random.key(0))
    assert theta["fallback"] == ()
    jax.tree.map(np.testing.assert_array_equal, theta["base"], alone)


def test_the_levels_of_all_rounds_add_up_to_the_error():
    rule = Guard(error=0.04, rounds=4)
    levels = [rule.level(k) for k in range(1, 5)]
    np.testing.assert_allclose(sum(levels), 0.04)
    assert levels == sorted(levels)
    assert levels[0] == 0.04 / 64
