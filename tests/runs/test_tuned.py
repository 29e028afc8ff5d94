"""Tuned baselines on the command line: which tasks they see, for how many steps, and where they end up."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from learned_rl import zoo
from learned_rl.rule_file import load_rule, save_rule
from runs import catalogue
from runs.cli import main
from runs.suites import smoke
from runs.transfer import Contender

ONE = smoke().validation[0].env_steps


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Replaces training by a formula in which the largest learning rate is best; the trials that were trained on."""
    seen = []

    def fake(trial, subject, settings, seeds, root):
        seen.append(trial)
        return np.array([[s[0] if s else 0.0 for _ in seeds] for s in settings])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("runs.candidates.train", fake)
    monkeypatch.setattr("runs.recording.MlflowSink", lambda *_: SimpleNamespace(close=lambda timeout: 0))
    return seen


@pytest.fixture
def plans(monkeypatch):
    """What would be compared."""
    kept = []
    monkeypatch.setattr("runs.evaluation.compared", lambda plan, *_: kept.append(plan) or {})
    return kept


def mine(**record):
    """A rule file of a rule that was learned, with a record."""
    save_rule(zoo.dpo(), (), "mine", record)
    return "./mine"


def test_a_tuned_rule_is_a_rule_file_that_says_how_it_was_tuned_and_never_sees_a_test_task(trained, capsys):
    words = ["tune", "a2c", "--suite", "smoke", "--env-steps", str(30 * ONE + 5), "--quiet", "--json", "said.json"]
    assert main(words) == 0
    assert {*trained} == {*smoke().validation}
    assert not {*trained} & {*smoke().test, *smoke().train}
    address = "out/tuned/smoke/a2c-tuned/rule"
    name, (rule, theta, record) = catalogue.loaded(address, None)
    assert (name, theta) == ("a2c-tuned", ())
    assert rule.coefficients.learning_rate == 3e-2
    assert 28 * ONE < record["env_steps"] <= record["allowance"] == 30 * ONE + 5
    assert record["tasks"] == ["CartPole-varied"]
    assert record["ranges"][0]["environment"] == "CartPole-v1"  # so that the leakage check knows where it was tuned
    assert json.loads(Path("said.json").read_text())["best"] == record["best"]
    assert "coefficients.learning_rate 0.03" in capsys.readouterr().out
    before = len(trained)
    assert main(words) == 0
    assert len(trained) == before  # nothing twice


def test_transfer_tunes_its_baselines_with_the_steps_that_the_rule_was_meta_trained_with(trained, plans, tmp_path):
    words = ["--suite", "smoke", "--against", "dqn", "a2c", "ppo", "--quiet"]
    assert main(["transfer", mine(env_steps=25 * ONE), *words, "--tune"]) == 0
    names = [c.name for c in plans[0].contenders]
    assert names == ["mine", "dqn", "a2c", "ppo", "random", "a2c-tuned", "ppo-tuned"]
    assert {*trained} == {*smoke().validation}
    assert [t.name for t in plans[0].trials] == ["CartPole-v1"]
    for name, best in (("a2c", 3e-2), ("ppo", 1e-2)):
        rule, _, record = load_rule(tmp_path / "out" / "transfer" / "mine-smoke" / "tuned" / f"{name}-tuned" / "rule")
        assert record["allowance"] == 25 * ONE
        assert rule.coefficients.learning_rate == best
        assert Contender(f"{name}-tuned", rule, ()) in plans[0].contenders
    assert main(["transfer", mine(), *words, "--tune", str(9 * ONE), "--run-dir", "nine"]) == 0
    assert load_rule(tmp_path / "nine" / "tuned" / "a2c-tuned" / "rule").record["allowance"] == 9 * ONE
    assert main(["transfer", mine(), *words, "--run-dir", "plain"]) == 0
    assert [c.name for c in plans[2].contenders] == ["mine", "dqn", "a2c", "ppo", "random"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tune", "a2cc", "--env-steps", "9"], "no grid is declared for 'a2cc'; perhaps you meant a2c"),
        (["tune", "a2c", "--env-steps", "0"], "--env-steps must be at least 1, not 0"),
        (["tune", "a2c", "--suite", "smal", "--env-steps", "9"], "perhaps you meant small"),
        (["tune", "a2c", "--suite", "smoke", "--env-steps", "9"], "9 environment steps are too few to tune with"),
        (["transfer", "ppo", "--suite", "smoke", "--tune"], "the record of ppo does not say how many steps"),
        (["transfer", "ppo", "--suite", "smoke", "--tune", "-1"], "--tune must be positive"),
        (["transfer", "ppo", "--suite", "smoke", "--against", "dqn", "--tune"], "no grid is declared for any of dqn"),
    ],
)
def test_mistakes_are_said(words, message, trained, plans, capsys):
    assert main([*words, "--quiet"]) == 2
    assert message in capsys.readouterr().err
    assert trained == plans == []
