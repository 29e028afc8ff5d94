"""`learned-rl select`: chosen on validation tasks and some seeds, believed on others, and kept as a rule."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from learned_rl.rule_file import load_rule
from runs import catalogue
from runs.cli import main
from runs.comparison import Curves
from runs.selected import FRESH, SELECTION

WORTH = {"ActorCritic": 1.0, "Drift": 2.0, "NoLearning": 0.0}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Replaces training by a formula, a little worse on fresh seeds; the list of what was trained."""
    calls = []

    def fake(trial, rule, theta, seeds, seed):
        calls.append((trial.name, type(rule).__name__, seed))
        scores = WORTH.get(type(rule).__name__, 0.5) + 0.1 * np.arange(seeds) - (0.3 if seed == FRESH else 0.0)
        return Curves(np.repeat(scores[:, None], 5, axis=1), scores)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("runs.transfer.train_agents", fake)
    monkeypatch.setattr("runs.recording.MlflowSink", lambda *_: SimpleNamespace(close=lambda timeout: 0))
    return calls


COMMAND = ["select", "a2c", "ppo", "--suite", "smoke", "--against", "dqn", "a2c", "--seeds", "2", "--quiet"]


def test_the_better_rule_is_chosen_on_validation_tasks_and_evaluated_again(trained, tmp_path, capsys):
    assert main([*COMMAND, "--json", "said.json"]) == 0
    (task,) = (trial.name for trial in catalogue.suite("smoke").validation)
    assert trained == [
        *((task, rule, SELECTION) for rule in ("ActorCritic", "Drift", "QLearning", "NoLearning")),
        (task, "Drift", FRESH),
    ]
    said = json.loads((tmp_path / "said.json").read_text())
    assert said["choice"] == "ppo"
    zero, one = 0.05, 1.05  # of random, and of the better reference, on the seeds that choose
    assert said["validation"]["point"] == pytest.approx((2.05 - zero) / (one - zero))
    assert said["fresh"]["point"] == pytest.approx((1.75 - zero) / (one - zero))
    kept = load_rule(said["rule"])
    assert kept.rule == catalogue.built_in("ppo")[0]
    assert kept.record["selected"]["from"] == ["a2c", "ppo"]
    assert "chosen: ppo" in capsys.readouterr().out
    with (tmp_path / "out/selected/smoke/report/selection.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["rule"], row["seeds"]) for row in rows] == [
        ("a2c", "selection"), ("a2c", "selection"), ("ppo", "selection"), ("ppo", "selection"),
        ("ppo", "fresh"), ("ppo", "fresh"),
    ]  # fmt: skip
    assert "was selected on the validation tasks" in (tmp_path / "out/selected/smoke/report.html").read_text()


def test_what_was_finished_is_not_trained_again(trained):
    assert main(COMMAND) == 0
    before = len(trained)
    assert main(COMMAND) == 0
    assert len(trained) == before


def test_what_leaves_no_choice_is_refused(trained, capsys):
    for line, message in [
        ("select ppo --suite smoke", "ppo alone leaves no choice"),
        ("select ppo a2c --suite smok", "smoke"),
        ("select ppo a2b", "a2c"),
        ("select ppo ppo --suite smoke", "are the same rule"),
        ("select ppo a2c --seeds 1", "--seeds must be at least 2"),
    ]:
        assert main(line.split()) == 2
        assert message in capsys.readouterr().err
    assert trained == []
