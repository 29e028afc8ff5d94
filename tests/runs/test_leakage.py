"""What a rule is tested on is held out of what it was trained on, or is refused, or is said not to be."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from learned_rl import families
from learned_rl.rule_file import save_rule
from learned_rl.rules.lpg import LPG
from runs import catalogue, leakage
from runs.cli import main
from runs.discover import _held_out
from runs.errors import UsageError
from runs.leakage import describe_all, leaks, recorded, unknown
from runs.trials import Trial


@pytest.mark.parametrize("name", catalogue.suites())
def test_no_split_of_a_suite_is_inside_another(name):
    suite = catalogue.suite(name)
    if suite.same_distribution:
        assert leaks({name: suite.test}, "rule", describe_all([trial.tasks for trial in suite.train]))
        return
    for here, there in (("test", "train"), ("test", "validation"), ("validation", "train")):
        seen = describe_all([trial.tasks for trial in suite.split(there)])
        assert [str(leak) for leak in leaks({name: suite.split(here)}, there, seen)] == []


@pytest.mark.parametrize("name", catalogue.recipes())
def test_recipes_are_tested_on_held_out_tasks_or_say_that_they_are_not(name):
    experiment = catalogue.recipe(name)
    _, notes = _held_out(experiment)
    assert bool(notes) == experiment.transfer.allow_overlap


def test_a_leak_is_told_with_suite_task_rule_family_and_every_range_that_varies():
    trials = {"control": (Trial(families.cartpole(1.5, 3.0)), Trial(families.deep_sea()))}
    (leak,) = leaks(trials, "mine", describe_all([families.catch(), families.cartpole()]))
    lines = str(leak).split("\n")
    assert lines[0] == (
        "suite control: CartPole-varied is inside CartPole-varied, which mine was trained on, in these ranges:"
    )
    assert "  masspole: tested [0.15, 0.3), trained on [0.05, 0.2)" in lines
    assert len(lines) == 1 + 4
    (same,) = leaks({"s": (Trial(families.catch()),)}, "mine", describe_all([families.catch()]))
    assert str(same).endswith("with the same parameters")
    with pytest.raises(UsageError, match=r"suite control(.|\n)*CartPole-varied(.|\n)*--that"):
        leakage.refuse([leak], "--that")
    leakage.refuse([], "--that")


def test_records_that_do_not_say_it_or_cannot_be_read_are_unknown():
    said = describe_all([families.catch()])
    assert recorded({"ranges": said}) == said
    broken = [dict(said[0], ranges={"rows": values}) for values in ({}, {"from": 1}, {"from": "a", "to": "b"}, 7)]
    for record in ({}, {"families": ["Catch"]}, {"ranges": "all"}, {"ranges": []}, {"ranges": [{}]}):
        assert recorded(record) is None
    for kept in broken:
        assert recorded({"ranges": [kept]}) is None
    assert "does not say what it was trained on" in unknown("disco", {"w": 1}, {})
    assert unknown("a2c", (), {}) == ""
    assert unknown("mine", {"w": 1}, {"ranges": said}) == ""
    assert "parts were learned before (a=out/b)" in unknown("mine", {"w": 1}, {"ranges": said, "loaded": ["a=out/b"]})


@pytest.fixture
def plans(monkeypatch):
    """What was let through to be compared, instead of comparing it."""
    let_through = []

    def compared(plan, *_):
        let_through.append(plan)
        return {}

    monkeypatch.setattr("runs.evaluation.compared", compared)
    monkeypatch.setattr("runs.recording.MlflowSink", lambda *_: SimpleNamespace(close=lambda timeout: 0))
    return let_through


@pytest.fixture
def rule(tmp_path, monkeypatch):
    """Writes a rule with a record."""
    monkeypatch.chdir(tmp_path)
    made = LPG(predictions=2, hidden=2)
    theta = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(made.init, jax.random.key(0)))

    def write(**record):
        save_rule(made, theta, tmp_path / "mine", record)
        return "./mine"

    return write


COMMAND = ["--suite", "smoke", "--against", "a2c", "--seeds", "2", "--quiet", "--json", "said.json"]


def test_the_command_refuses_a_test_task_inside_the_training_distribution_unless_told_otherwise(
    rule, tmp_path, capsys, plans
):
    address = rule(ranges=describe_all([families.catch(), families.cartpole()]))
    assert main(["transfer", address, *COMMAND]) == 2
    message = capsys.readouterr().err
    for part in ("smoke", "CartPole-v1", "CartPole-varied", "masscart: tested 1.0, trained on [0.5, 2)", "held out"):
        assert part in message
    assert json.loads((tmp_path / "said.json").read_text())["exit"] == 2
    assert not (tmp_path / "out").exists()
    assert plans == []
    assert main(["transfer", address, *COMMAND, "--allow-overlap"]) == 0
    assert plans[0].notes == {"CartPole-v1": "inside the training distribution of mine"}
    # A learned rule that stands beside the one in question may have seen the task as well.
    assert main(["transfer", "ppo", "--suite", "smoke", "--against", address]) == 2
    assert "which mine was trained on" in capsys.readouterr().err


def test_the_command_lets_held_out_tasks_pass_and_says_what_it_cannot_know(rule, capsys, plans):
    address = rule(ranges=describe_all([families.catch(), families.cartpole(1.1, 2.0)]))
    assert main(["transfer", address, *COMMAND]) == 0
    assert "trained on" not in capsys.readouterr().err
    assert plans[0].notes == {}
    assert main(["transfer", rule(families=["CartPole"]), *COMMAND, "--run-dir", "other"]) == 0
    assert "mine: its record does not say what it was trained on" in capsys.readouterr().err


def test_the_command_takes_a_split_of_several_suites(rule, plans, tmp_path):
    suites = "--suite smoke few_shot_bandits --split validation --against a2c --quiet"
    assert main(["transfer", rule(), *suites.split()]) == 0
    assert [trial.name for trial in plans[0].trials] == ["CartPole-varied", "Bandit-5-x10"]
    assert [path.name for path in (tmp_path / "out" / "transfer").iterdir()] == [
        "mine-smoke+few_shot_bandits-validation"
    ]


def test_a_recipe_is_refused_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["discover", "default", "--transfer.suite", "bsuite"]) == 2
    message = capsys.readouterr().err
    assert "suite bsuite: Catch-10x5 is inside Catch-10x5, which lpg-quick was trained on" in message
    assert "--transfer.allow_overlap true" in message
    assert not (tmp_path / "out").exists()
