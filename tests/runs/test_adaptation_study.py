"""The adaptation study: what it calls a gap that is closed, and what it asks the recipe for."""

import json

import jax
import numpy as np
import pytest

from runs import adaptation_study
from runs.adaptation_study import UPDATES, paced, row, scores
from runs.studies import lasting


def test_a_gap_is_closed_from_what_was_earned_before_to_the_straight_walk():
    found = np.array([[-40.0, -20.0, -10.0, -5.0, 0.0]] * 6) + np.linspace(-3, 3, 6)[:, None]
    said = row("MAML", 3, found)
    assert said.scores == pytest.approx([-40, -20, -10, -5])
    assert [x.point for x in said.closed] == pytest.approx([0.5, 0.75, 0.875])
    assert said.closed[0].low <= 0.5 <= said.closed[0].high
    assert str(said).startswith("| MAML | 3 | -40.0 | -20.0 | -10.0 | -5.0 | 0.50 [")


def test_at_rate_nought_nothing_changes_and_the_best_is_the_tasks_own():
    e = lasting("maml-navigation", seed=7, steps=4)
    theta = e.rule.init(jax.random.key(0))
    still = scores(e, paced(e.rule, 0.0), theta, 8, jax.random.key(1))
    assert still.shape == (8, UPDATES + 2)
    assert np.abs(still[:, 1:-1].mean(axis=0) - still[:, 0].mean()).max() < 8  # 20 episodes of each of 8 agents
    moved = scores(e, paced(e.rule, 3.0), theta, 8, jax.random.key(1))
    np.testing.assert_allclose(moved[:, 0], still[:, 0], rtol=1e-5)
    assert np.abs(moved[:, 3] - still[:, 3]).max() > 5
    assert (still[:, -1] > still[:, 0]).all()
    assert (still[:, -1] > -2).all()


def test_the_study_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(adaptation_study, "RATES", (1.0,))
    monkeypatch.setattr(adaptation_study, "trained", lambda e: (e.rule.init(jax.random.key(e.seed)), []))
    path = tmp_path / "report.json"
    assert adaptation_study.main(["--seeds", "1", "--steps", "1", "--tasks", "4", "--json", str(path)]) == 0
    ours, other = json.loads(path.read_text())
    assert (ours["name"], other["name"]) == ("MAML", "pretrained, rate 1")
    assert len(ours["scores"]) == len(ours["closed"]) + 1 == 4
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.slow
def test_one_update_closes_more_than_half_of_the_gap_and_more_than_after_pretraining():
    ours, pretrained = adaptation_study.compare(0, None, 400)
    print(ours, pretrained, sep="\n")
    assert ours.closed[0].low > max(0.5, pretrained.closed[0].high)
