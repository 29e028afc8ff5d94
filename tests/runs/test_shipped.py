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


@pytest.mark.parametrize("name", ["rl2-bandit", "rl2-long-bandit"])
def test_a_bandit_player_earns_on_other_trials_what_its_record_claims(name):
    _, (rule, theta, record) = catalogue.loaded(name, None)
    trial = catalogue.suite("longer_bandits").test[0]
    claimed = record["held_out"][trial.name]
    curves = train_agents(replace(trial, updates=2), rule, theta, seeds=2, seed=7)
    # 512 trials in each of two updates: a standard error of 0.1.
    assert abs(curves.scores.mean() - claimed[name]) < 0.4
    assert curves.scores.mean() > claimed["ppo"] + 1
