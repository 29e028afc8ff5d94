"""The belief study: its optima are those of the oracles, and its two contenders differ in what trains the memory."""

import json

import numpy as np
import pytest

from learned_rl.goal_tasks import GoalGrid
from learned_rl.networks import Network
from learned_rl.rules.rl2 import RL2
from meta_objectives.history import HistoryActorCritic
from runs import belief_study
from runs.belief_study import BAYES_OPTIMUM, GOAL_KNOWN, REPEATED_SAMPLING, rl2, row
from runs.studies import lasting
from tests.goal_oracles import BAYES_OPTIMAL, BayesOptimal


def test_what_it_is_held_to_is_what_the_oracles_say():
    assert BAYES_OPTIMUM == BAYES_OPTIMAL
    one = BayesOptimal(GoalGrid(), 2)
    known = np.mean([one.found(g, 1) - one.steps for g in one.goals])  # X(g): what follows an episode of 15
    assert known == pytest.approx(GOAL_KNOWN)
    assert REPEATED_SAMPLING < BAYES_OPTIMUM < 4 * GOAL_KNOWN


def test_rl2_has_the_same_memory_trials_and_judge_but_no_belief():
    e = lasting("varibad-grid", 3)
    other = rl2(e)
    assert isinstance(other.rule, RL2)
    assert isinstance(other.rule.blueprint.network, Network)
    assert isinstance(other.objective, HistoryActorCritic)
    assert other.objective == e.objective.base
    assert other.rule.blueprint.network.memory == e.rule.blueprint.network.memory
    assert (other.inner, other.outer, other.families, other.seed) == (e.inner, e.outer, e.families, 3)


def test_the_study_runs(tmp_path, capsys):
    path = tmp_path / "report.json"
    assert belief_study.main(["--seeds", "1", "--steps", "1", "--trials", "64", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert [row["name"] for row in rows] == ["VariBAD", "RL^2"]
    for found in rows:
        assert len(found["episodes"]) == 4
        assert sum(found["episodes"]) == pytest.approx(found["earned"], abs=1e-4)
    *_, last = capsys.readouterr().out.strip().splitlines()
    assert last.startswith("| RL^2 | 1 | ")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_varibad_comes_near_the_bayes_optimum_and_finds_its_way_back_from_the_third_episode(seed):
    found = row("VariBAD", lasting("varibad-grid", seed), 100_000)
    print(found)
    assert found.earned > (REPEATED_SAMPLING + BAYES_OPTIMUM) / 2  # nearer to the optimum
    assert min(found.episodes[2:]) > 0.95 * GOAL_KNOWN
