"""The few-shot study: it says what was earned beside what can be, and plays what was learned, on fresh trials."""

import json

import jax
import pytest

from learned_rl.bandit_oracle import bayes_optimum
from runs import few_shot_study
from runs.few_shot_study import Row


def test_the_study_runs_and_says_how_far_from_the_optimum_it_ends(tmp_path, capsys):
    path = tmp_path / "report.json"
    words = ["--arms", "2", "--pulls", "3", "--seeds", "4", "--steps", "2", "--trials", "64", "--json"]
    assert few_shot_study.main([*words, str(path)]) == 0
    (row,) = json.loads(path.read_text())
    assert (row["arms"], row["pulls"], row["seed"]) == (2, 3, 4)
    assert row["optimum"] == pytest.approx(bayes_optimum(2, 3))
    assert 0 < row["earned"] < 3
    *_, last = capsys.readouterr().out.strip().splitlines()
    assert last.startswith(f"| 2 | 3 | 4 | {row['earned']:.3f} ± {row['error']:.3f} | {row['optimum']:.3f} | ")


def test_an_agent_that_has_learned_nothing_earns_half_its_pulls():
    e = few_shot_study.experiment(arms=3, pulls=4, seed=5, steps=3)
    assert (e.steps, e.seed, e.inner.steps, e.objective.scale) == (3, 5, 4, 2.0)
    theta = jax.tree.map(lambda x: 0 * x, e.rule.init(jax.random.key(0)))
    earned = few_shot_study.returns(e, theta, 20_000, jax.random.key(1))
    assert len(earned) == 20_000
    assert abs(earned.mean() - 2.0) < 4 * earned.std() / len(earned) ** 0.5


def test_where_the_optimum_is_not_known_the_table_says_nothing():
    assert str(Row(5, 100, 0, 74.0, 0.5, None, 9.0)) == "| 5 | 100 | 0 | 74.000 ± 0.500 |  |  | 9 |"


@pytest.mark.slow
@pytest.mark.parametrize("arms", [5, 10])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ten_pulls_are_played_within_one_percent_of_the_bayes_optimum(arms, seed):
    found = few_shot_study.row(arms, 10, seed, None, 100_000)
    print(found)
    assert found.earned > 0.99 * found.optimum
