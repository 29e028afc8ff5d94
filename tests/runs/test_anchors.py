"""Published levels beside measured ones: what counts as agreement, and that finished seeds are kept."""

import numpy as np
import pytest

from runs import anchors
from runs.statistics import Interval


def test_the_reference_configuration_is_the_published_one():
    for game, (rate, b2) in {
        "Asterix": (3e-3, 0.999),
        "Freeway": (1e-3, 0.99),
        "Breakout": (1e-2, 0.99),
        "SpaceInvaders": (7e-3, 0.99),
    }.items():
        life = anchors.lifetime(game)
        assert (life.rule.coefficients.learning_rate, life.rule.optimizer.b2) == (rate, b2)
        assert life.updates * life.steps_per_update == pytest.approx(1e7, rel=1e-3)
        assert (life.streams, life.steps, life.rule.epochs, life.rule.minibatches) == (64, 128, 4, 8)
        assert life.tasks.name == f"{game}-MinAtar"
        assert life.rule.anneal


def test_agreement_is_a_mean_inside_the_band_and_disagreement_an_interval_outside():
    asterix = anchors.ANCHORS["Asterix"]  # 13.5 to 16.5
    assert anchors.verdict(asterix, Interval(16.4, 10, 30)) == "agrees"
    assert anchors.verdict(asterix, Interval(17.0, 16.5, 18)) == "undecided"
    assert anchors.verdict(asterix, Interval(13.0, 12, 14)) == "undecided"
    assert anchors.verdict(asterix, Interval(17.0, 16.6, 18)) == "differs"
    assert anchors.verdict(asterix, Interval(13.0, 12, 13.4)) == "differs"


def test_finished_seeds_are_kept_and_all_are_shown(tmp_path, monkeypatch, capsys):
    lives = []

    def fake(life, seed):
        lives.append((life.tasks.name, life.updates, seed))
        return np.arange(life.updates) + 10.0 * seed

    monkeypatch.setattr(anchors, "trained", fake)
    words = ["--games", "Asterix", "--steps", str(20 * 8192 + 5), "--out", str(tmp_path)]
    assert anchors.main([*words, "--seeds", "1"]) == 0
    assert anchors.main([*words, "--seeds", "2"]) == 0
    assert lives == [("Asterix-MinAtar", 20, 0), ("Asterix-MinAtar", 20, 1)]
    shown = capsys.readouterr().out
    assert "| Asterix | 23.50 [18.50, 28.50] | 2 | 15.04 | 10% | 15 | differs |" in shown  # the last two of 20 updates
    assert anchors.main(["--games", "Asterix", "--steps", "8192", "--seeds", "1", "--out", str(tmp_path)]) == 0
    assert lives[2:] == [("Asterix-MinAtar", 1, 0)]  # another length is another measurement
    with pytest.raises(SystemExit):
        anchors.main(["--games", "Pong"])
