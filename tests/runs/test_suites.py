"""Suites: three splits each, apart where they say so, and several of them in one comparison."""

import importlib.util
from dataclasses import replace

import jax
import pytest

from learned_rl import families
from learned_rl.types import TaskFamily
from runs import catalogue
from runs.evaluation import together
from runs.trials import Suite, Trial

ONE, OTHER = Trial(families.catch()), Trial(families.deep_sea())


OPTIONAL = {"craftax": "craftax", "jaxmarl": "jaxmarl", "locomotion": "brax", "minigrid": "navix", "xland": "xminigrid"}


@pytest.mark.parametrize("name", catalogue.suites())
def test_every_suite_has_three_splits_of_trials_that_can_be_played(name):
    suite = catalogue.suite(name)
    assert suite.same_distribution == (suite.train == suite.validation == suite.test)
    seen = [trial for split in ("train", "validation", "test") for trial in suite.split(split)]
    if not suite.same_distribution:
        assert len({*seen}) == len(seen)
    if name in OPTIONAL and not importlib.util.find_spec(OPTIONAL[name]):
        pytest.skip(f"{OPTIONAL[name]} is not installed; it is the extra `{OPTIONAL[name]}`")
    for tasks in {trial.tasks for trial in seen}:
        assert isinstance(tasks, TaskFamily)
        key = jax.eval_shape(jax.random.key, 0)
        _, obs = jax.eval_shape(lambda key, tasks=tasks: tasks.reset(tasks.draw(key), key), key)
        assert obs.shape == tasks.obs_shape


@pytest.mark.parametrize(
    ("name", "length"), [("few_shot_bandits", 1), ("longer_bandits", 1), ("longer_mdps", 10), ("few_shot_grid", 15)]
)
def test_a_rollout_is_a_whole_trial_where_several_episodes_are_one(name, length):
    suite = catalogue.suite(name)
    trials = [trial for split in ("train", "validation", "test") for trial in suite.split(split)]
    assert [trial.steps for trial in trials] == [length * trial.tasks.episodes for trial in trials]


def test_the_trials_of_the_readmes_table_are_the_present_ones():
    said = [(t.name, t.env_steps, t.tasks) for t in catalogue.suite("small").test]
    assert said == [
        ("MetaMaze-misc", 51_200, families.meta_maze(7)),
        ("UmbrellaChain-bsuite", 51_200, families.umbrella_chain(5, 20)),
        ("DeepSea-bsuite", 51_200, families.deep_sea(8)),
        ("Acrobot-v1", 51_200, families.fixed("Acrobot-v1")),
    ]


def test_a_split_is_not_empty_and_has_each_name_once():
    with pytest.raises(ValueError, match="validation has"):
        Suite((ONE,), (), (ONE,))
    with pytest.raises(ValueError, match=r"test has \['Catch-10x5', 'Catch-10x5'\]"):
        Suite((ONE,), (ONE,), (ONE, replace(ONE, updates=7)))


def test_several_suites_are_one_comparison():
    longer = replace(ONE, updates=7)
    assert together({"a": (ONE, OTHER), "b": (ONE,)}) == {"a": [ONE, OTHER], "b": [ONE]}
    suites = together({"a": (ONE, OTHER), "b": (longer,)})
    names = {suite: [trial.name for trial in trials] for suite, trials in suites.items()}
    assert names == {"a": ["a.Catch-10x5", OTHER.name], "b": ["b.Catch-10x5"]}
    assert [trial.updates for trial in suites["b"]] == [7]
