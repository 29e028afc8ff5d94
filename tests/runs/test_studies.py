"""What studies share: a recipe of any length, and what its trials pay, episode by episode."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest

from runs import catalogue
from runs.studies import lasting, returns


def test_a_recipe_of_another_length_falls_as_far():
    usual, e = catalogue.recipe("maml-navigation"), lasting("maml-navigation", seed=7, steps=4)
    assert (e.seed, e.steps, e.report_every, e.checkpoint_every) == (7, 4, 2, 2)
    assert e.outer.decay**e.steps == pytest.approx(usual.outer.decay**usual.steps)
    assert lasting("maml-navigation", usual.seed).outer == usual.outer


def test_episodes_are_told_apart_in_the_order_in_which_they_are_played():
    e = lasting("varibad-grid", 0, 1)
    theta, key = e.rule.init(jax.random.key(0)), jax.random.key(1)
    found = returns(e, theta, 30, key)
    lifetime = replace(e.lifetime(e.families[0]), streams=30)
    key_start, key_act = jax.random.split(jax.random.split(key, 1)[0])
    _, rollout = lifetime.act(lifetime.start(theta, key_start), key_act)
    reward = np.asarray(rollout.reward)
    ends = np.asarray(rollout.next_obs)[..., -1] > 0
    assert found.shape == (4, 30)
    for stream in range(30):
        bounds = np.concatenate([[0], np.flatnonzero(ends[:, stream]) + 1])
        paid = [reward[first:last, stream].sum() for first, last in itertools.pairwise(bounds)]
        np.testing.assert_allclose(found[:, stream], paid, rtol=1e-5, atol=1e-5)
