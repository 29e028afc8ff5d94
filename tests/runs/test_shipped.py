"""Rules that come with the package: whole, small, with the record of their making, and as good as it says."""

from dataclasses import replace

import pytest

from learned_rl.rule_file import verify_rule
from runs import catalogue
from runs.leakage import leaks, recorded
from runs.transfer import train_agents

NAMES = tuple(catalogue.shipped())


@pytest.mark.parametrize("name", NAMES)
def test_every_one_is_whole_and_says_how_it_was_made(name):
    folder = catalogue.shipped()[name]
    assert verify_rule(folder)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2**20
    found, rule = catalogue.loaded(name, None)
    assert found == name
    assert {"about", "made_by", "held_out", "env_steps", "seed"} <= set(rule.record)
    suite = rule.record["held_out"]["suite"]
    assert leaks({suite: catalogue.suite(suite).test}, name, recorded(rule.record) or ()) == []


@pytest.mark.parametrize(
    ("name", "suite", "error"),  # a standard error: of 512 trials of twenty pulls, of 128 of twenty episodes
    [("rl2-bandit", "longer_bandits", 0.1), ("rl2-long-bandit", "longer_bandits", 0.1), ("rl2-mdp", "longer_mdps", 4)],
)
def test_who_remembers_earns_on_other_trials_what_its_record_claims(name, suite, error):
    _, (rule, theta, record) = catalogue.loaded(name, None)
    trial = catalogue.suite(suite).test[0]
    claimed = record["held_out"][trial.name]
    curves = train_agents(replace(trial, updates=2), rule, theta, seeds=2, seed=7)
    assert abs(curves.scores.mean() - claimed[name]) < 4 * error
    assert curves.scores.mean() > claimed["ppo"] + 10 * error
