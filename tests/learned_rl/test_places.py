"""The reward of places: what it is shown of a life, against a reader who keeps every episode."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.distributions import Categorical
from learned_rl.export import others
from learned_rl.rules.intrinsic.places import PlaceReward, Steps
from learned_rl.rules.intrinsic.reward import IntrinsicReward
from learned_rl.types import Rollout
from tests.probes import jitter

KEY = jax.random.key(0)
REWARD = PlaceReward(4, 64, streams=3)
STEPS, STREAMS, PLACES = 60, 3, 6


def life(seed=0, steps=STEPS):
    """Wanderings among six places, `[T, B]`, with endings of both kinds; episodes go on where the last step led."""
    keys = jax.random.split(jax.random.key(seed), 5)
    shape = (steps, STREAMS)
    there = jax.random.randint(keys[0], shape, 0, PLACES)
    last = jax.random.bernoulli(keys[1], 0.25, shape)
    begun = jax.random.randint(keys[2], (steps + 1, STREAMS), 0, PLACES)
    here = jnp.concatenate([begun[:1], jnp.where(last, begun[1:], there)[:-1]])
    reward = jax.random.normal(keys[3], shape)
    discount = 1.0 - (last & jax.random.bernoulli(keys[4], 0.5, shape))
    return Steps(here, there, reward, discount, last)


def cut(steps, start, stop):
    return Steps(*(x[start:stop] for x in steps))


def born(reward=REWARD):
    return reward.start((), None, KEY)  # ty: ignore


def read(steps, room=10**9):
    """The inputs by a reader with dictionaries, who looks back at all finished episodes, or at the last `room`."""
    visits, finished, shown = {}, [[] for _ in range(STREAMS)], []
    passed, earned, top = [set() for _ in range(STREAMS)], [0.0] * STREAMS, None
    folded: dict[int, float] = {}

    def best(place):
        """Of episodes of the streams that were there; what was found out once is kept."""
        for episodes in finished:
            was = [i for i, (places, _) in enumerate(episodes) if place in places]
            if was and len(episodes) - was[-1] <= room:
                folded[place] = max(folded.get(place, -np.inf), episodes[was[-1]][1])
        return folded.get(place)

    for here, there, reward, discount, last in zip(*map(np.asarray, steps), strict=True):
        row = []
        for b in range(STREAMS):
            best(here[b])
            passed[b].add(here[b])
        first = [there[b] not in passed[b] for b in range(STREAMS)]
        for b in range(STREAMS):
            best(there[b])
            visits[there[b]] = visits.get(there[b], 0) + 1
            passed[b].add(there[b])
            earned[b] += reward[b]
        for b in range(STREAMS):
            after, before, most = folded.get(there[b]), folded.get(here[b], 0.0), 0.0 if top is None else top
            m = after or 0.0
            row.append(
                [
                    visits[there[b]] ** -0.5, np.log((visits.get(here[b], 0) + 1) / (visits[there[b]] + 1)), first[b],
                    reward[b], 1 - discount[b], m, after is not None, m - before, most, m - most,
                    (len(finished[b]) + 1) ** -0.5,
                ]
            )  # fmt: skip
        for b in np.flatnonzero(last):
            top = earned[b] if top is None else max(top, earned[b])
            finished[b].append((passed[b], earned[b]))
            passed[b], earned[b] = set(), 0.0
        shown.append(row)
    return np.array(shown, np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_shown_what_the_equations_say(seed):
    steps = life(seed)
    seen, _ = jax.jit(REWARD.seen)(born(), steps)
    np.testing.assert_allclose(seen, read(steps), rtol=1e-5, atol=1e-5)


def test_what_came_of_an_episode_is_forgotten_after_as_many_more_as_there_is_room_for():
    """The last place is left for about as long as six episodes last, again and again."""
    reward = replace(REWARD, buckets=PLACES)
    seen, differ = jax.jit(reward.seen), []
    for seed in range(8):
        steps = life(seed, steps=200)
        away = jax.random.bernoulli(jax.random.key(seed), 0.93, steps.last.shape)
        here, there = (jnp.where(away, jnp.minimum(x, PLACES - 2), x) for x in (steps.here, steps.there))
        steps = steps._replace(here=here, there=there)
        expected = read(steps, room=PLACES - 1)
        np.testing.assert_allclose(seen(born(reward), steps)[0], expected, rtol=1e-5, atol=1e-5)
        differ += [np.any(expected != read(steps, room=PLACES - 1 + offset)) for offset in (-1, 1)]
    assert np.all(np.any(np.reshape(differ, (8, 2)), axis=0))


def test_a_life_that_is_read_in_parts_is_the_life_that_was_read_at_once():
    steps, seen = life(), jax.jit(REWARD.seen)
    whole, after = seen(born(), steps)
    first, memory = seen(born(), cut(steps, 0, 23))
    second, memory = seen(memory, cut(steps, 23, None))
    np.testing.assert_array_equal(jnp.concatenate([first, second]), whole)
    jax.tree.map(np.testing.assert_array_equal, memory, after)


def test_which_stream_is_which_does_not_matter_and_unused_room_neither():
    steps, order = life(), jnp.array([2, 0, 1])
    wide = replace(REWARD, streams=8)
    seen, _ = jax.jit(REWARD.seen)(born(), steps)
    other, memory = jax.jit(wide.seen)(born(wide), Steps(*(x[:, order] for x in steps)))
    np.testing.assert_array_equal(other, seen[:, order])
    np.testing.assert_array_equal(memory.episode[STREAMS:], 0)


def rollout(steps):
    obs, next_obs = (jax.nn.one_hot(x, 9) for x in (steps.here, steps.there))
    shape = steps.reward.shape
    return Rollout(
        obs, jnp.zeros(shape, jnp.int32), steps.reward, steps.discount, steps.last, next_obs, jnp.zeros(shape),
        behaviour=Categorical(jnp.zeros((*shape, 2))),
    )  # fmt: skip


def test_places_are_told_apart_by_observations_and_rewards_are_scaled():
    steps, big = life(), replace(REWARD, scale=10.0)
    theta = jitter(REWARD.init(KEY), KEY, 0.5)
    assert isinstance(REWARD, IntrinsicReward)
    # Hashed into 64 buckets, nine places are still nine; numbers of places mean nothing.
    expected = REWARD.paid(theta, read(steps))
    told = rollout(steps)._replace(reward=10.0 * steps.reward)
    paid, memory = jax.jit(big.pay)(theta, born(big), told)
    np.testing.assert_allclose(paid, expected, rtol=1e-4, atol=1e-5)
    assert np.sum(np.asarray(memory.visits) > 0) == PLACES


def test_other_code_that_numbers_places_is_told_the_same():
    steps, theta = life(), jitter(REWARD.init(KEY), KEY, 0.5)
    here, there, *rest = (np.asarray(x) for x in steps)
    named = dict(zip(("reward", "discount", "last"), rest, strict=True))
    state = others.reward_start(REWARD, theta)
    paid, after = others.place_reward(REWARD, theta, state=state, place=here, next_place=there, **named)
    np.testing.assert_allclose(paid, REWARD.paid(theta, read(steps)), rtol=1e-4, atol=1e-5)
    assert set(after) == set(state)


def test_an_untrained_one_pays_nothing():
    paid, _ = jax.jit(REWARD.pay)(REWARD.init(KEY), born(), rollout(life()))
    np.testing.assert_array_equal(paid, np.zeros((STEPS, STREAMS)))


def test_no_room_and_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="streams=2: there is no room for 3 streams; set it to 3 or more"):
        jax.eval_shape(replace(REWARD, streams=2).seen, born(replace(REWARD, streams=2)), life())
    for settings in ({"hidden": 0}, {"buckets": 0}, {"streams": 0}, {"scale": 0.0}, {"resolution": -1.0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            PlaceReward(**settings)
