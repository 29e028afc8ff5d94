"""Against agents made by hand."""

import jax
import jax.numpy as jnp
import pytest

from learned_rl.lifetime import Agent, Lifetime
from learned_rl.rollout import Streams
from learned_rl.rules.none import NoLearning
from meta_objectives.problem import MetaObjective
from meta_objectives.returns import LifetimeReturn
from tests.probes import SMALL, MatchCue

LIFETIME = Lifetime(MatchCue(), NoLearning(), SMALL, updates=10)
KEY = jax.random.key(0)


def judged(objective, returns, episodes, updates=10):
    returns, episodes = jnp.asarray(returns), jnp.asarray(episodes)
    streams = Streams((), (), (), (), jnp.zeros(len(returns)), returns, episodes)  # pyright: ignore[reportArgumentType]
    agent = Agent((), streams, (), (), jnp.asarray(updates))
    segment, state = objective.judge(LIFETIME, (), agent, None, objective.start(LIFETIME, KEY), KEY)
    assert state == ()
    assert segment.loss.shape == ()
    return float(segment.loss)


def test_the_loss_is_the_negative_mean_return():
    assert isinstance(LifetimeReturn(), MetaObjective)
    assert judged(LifetimeReturn(), [1.0, 5.0], [3, 1]) == -3.0
    assert judged(LifetimeReturn(scale=2.0), [1.0, 5.0], [3, 1]) == -1.5


def test_before_the_first_episode_has_ended_the_one_under_way_counts():
    assert judged(LifetimeReturn(), [2.0, 4.0], [0, 0]) == -3.0


@pytest.mark.parametrize(("free", "expected"), [(0, -7.0), (1, -6.0), (2, -4.0), (3, 0.0)])
def test_the_first_episodes_are_free(free, expected):
    # Streams that have ended 1, 2, 3 episodes: with K free ones, episode K + 1 is the first that counts.
    assert judged(LifetimeReturn(free_episodes=free), [3.0, 6.0, 12.0], [1, 2, 3]) == expected


def test_with_a_final_fraction_the_lifetime_mean_is_the_mean_over_what_counts():
    objective = LifetimeReturn(final=0.3)
    losses = [judged(objective, [float(u)], [1], updates=u) for u in range(1, 11)]
    assert losses[:7] == [0.0] * 7
    assert sum(losses) / 10 == pytest.approx(-(8 + 9 + 10) / 3)


def test_settings_out_of_range_are_refused():
    for settings in ({"final": 0.0}, {"final": 1.5}, {"free_episodes": -1}, {"scale": 0.0}):
        with pytest.raises(ValueError, match=r"must be|is a fraction"):
            LifetimeReturn(**settings)
