"""What the recipe rl2-bandit learns, against the exact Bayes optimum."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.rollout import collect, start_streams
from runs.catalogue import recipe
from runs.programs import Programs
from tests.bandit_oracle import bayes_optimum

BANDITS = 100_000


def judged(experiment, theta, key):
    """Mean return of fresh trials and its standard error, with the best arm's mean as a control variate."""
    (tasks,) = experiment.families
    policy = experiment.lifetime(tasks).policy

    @jax.jit
    def returns(theta, key):
        key_start, key_live = jax.random.split(key)
        began = start_streams(tasks, (), policy, BANDITS // 10, key_start)
        keys = jax.random.split(key_live, tasks.episodes)
        ended, _ = collect(tasks, (), policy, theta, began, keys, jnp.float32(0))
        return ended.episode_return, jnp.max(began.env.task, axis=1)

    found = [returns(theta, k) for k in jax.random.split(key, 10)]
    earned, best = (np.concatenate([np.asarray(f[i]) for f in found]) for i in (0, 1))
    slope = np.cov(earned, best)[0, 1] / best.var(ddof=1)
    arms = tasks.actions.count
    earned = earned - slope * (best - arms / (arms + 1))
    return earned.mean(), earned.std(ddof=1) / BANDITS**0.5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rl2_comes_within_a_hundredth_of_the_bayes_optimum(seed):
    experiment = replace(recipe("rl2-bandit"), seed=seed)
    programs = Programs(experiment)
    state = programs.birth()
    for step in range(0, experiment.steps, experiment.report_every):
        state, _ = programs.advance(state, step)
    mean, error = judged(experiment, experiment.learner.theta(state), jax.random.key(1000 + seed))
    print(f"seed {seed}: {mean:.4f} +- {error:.4f}")
    assert mean >= 0.99 * bayes_optimum(5, 10)
