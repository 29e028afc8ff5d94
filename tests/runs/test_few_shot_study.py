"""The few-shot study: it says what was earned beside what can be, and plays what was learned, on fresh trials."""

import json

import jax
import numpy as np
import pytest

from learned_rl import families
from learned_rl.bandit_oracle import bayes_optimum
from runs import few_shot_study
from runs.few_shot_study import Row
from runs.studies import returns


def test_the_study_runs_and_says_how_far_from_the_optimum_it_ends(tmp_path, capsys):
    path = tmp_path / "report.json"
    words = ["--arms", "2", "--pulls", "3", "--seeds", "4", "--steps", "2", "--trials", "64", "--json"]
    assert few_shot_study.main([*words, str(path)]) == 0
    (row,) = json.loads(path.read_text())
    assert (row["tasks"], row["seed"]) == ("Bandit-2-x3", 4)
    assert row["optimum"] == pytest.approx(bayes_optimum(2, 3))
    assert 0 < row["earned"] < 3
    *_, last = capsys.readouterr().out.strip().splitlines()
    assert last.startswith(
        f"| Bandit-2-x3 | 4 | {row['earned']:.3f} ± {row['error']:.3f} | {row['optimum']:.3f}, share "
    )


def test_an_agent_that_has_learned_nothing_earns_half_its_pulls():
    e = few_shot_study.experiment("rl2-bandit", families.bandit_trials(3, 4), seed=5, steps=3)
    assert (e.steps, e.seed, e.inner.steps, e.objective.scale) == (3, 5, 4, 2.0)
    theta = jax.tree.map(lambda x: 0 * x, e.rule.init(jax.random.key(0)))
    earned = returns(e, theta, 20_000, jax.random.key(1)).sum(axis=0)
    assert len(earned) == 20_000
    assert abs(earned.mean() - 2.0) < 4 * earned.std() / len(earned) ** 0.5


def test_who_keeps_accounts_learns_in_eighty_steps():
    found = few_shot_study.row("rl2-long-bandit", families.bandit_trials(3, 10), 0, 80, 2_000)
    assert 6.0 < found.earned < found.optimum + 4 * found.error  # at random it is 5


def test_where_nothing_is_known_the_table_says_nothing():
    assert (
        str(Row("Bandit-7-x100", 0, 74.0, 0.5, None, None, 9.0)) == "| Bandit-7-x100 | 0 | 74.000 ± 0.500 |  |  | 9 |"
    )
    assert str(Row("Bandit-5-x100", 0, 74.0, 0.5, None, 78.7, 9.0)).endswith("|  | 78.7 | 9 |")


def test_what_was_trained_on_credit_plays_for_what_is_paid():
    e = few_shot_study.experiment("rl2-long-bandit", families.bandit_trials(3, 20), 0)
    assert e.families[0].credited
    earned = returns(e, e.rule.init(jax.random.key(0)), 2_000, jax.random.key(1)).sum(axis=0)
    assert abs(earned.mean() - 10.0) < 4 * earned.std() / len(earned) ** 0.5
    np.testing.assert_array_equal(earned, np.round(earned))


def test_games_are_played_by_the_recipe_of_their_size():
    assert [recipe for recipe, _ in few_shot_study.games([2, 3], 12, mdps=False)] == ["rl2-bandit"] * 2
    assert [recipe for recipe, _ in few_shot_study.games([50], 10, mdps=False)] == ["rl2-long-bandit"]
    assert [recipe for recipe, _ in few_shot_study.games([2], 13, mdps=True)] == ["rl2-long-bandit", "rl2-mdp"]
    few, many = (few_shot_study.experiment("rl2-long-bandit", families.bandit_trials(n, 20), 0) for n in (10, 11))
    assert (few.inner.steps, few.inner.streams, many.inner.streams) == (20, 256, 64)


@pytest.mark.slow
@pytest.mark.parametrize("arms", [5, 10, 50])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ten_pulls_are_played_within_one_percent_of_the_bayes_optimum(arms, seed):
    ((recipe, tasks),) = few_shot_study.games([arms], 10, mdps=False)
    found = few_shot_study.row(recipe, tasks, seed, None, 100_000)
    print(found)
    assert found.earned > 0.99 * found.optimum


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("recipe", "tasks", "wanted"),
    [("rl2-long-bandit", families.bandit_trials(5, 100), 78.2), ("rl2-mdp", families.mdp_trials(), 155.0)],
)
def test_who_keeps_accounts_learns_to_explore(recipe, tasks, wanted, seed):
    found = few_shot_study.row(recipe, tasks, seed, None, 100_000)
    print(found)
    assert found.earned > wanted
