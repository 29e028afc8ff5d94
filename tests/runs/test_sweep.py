"""Sweeps: what a knob changes and what it leaves, what counts as diverged, and, once, the command itself."""

import csv
import io
import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from learned_rl import families, zoo
from learned_rl.networks import MLP, Network
from learned_rl.rule_file import LoadedRule
from learned_rl.types import Discrete
from runs import catalogue, sweep_report
from runs.cli import main
from runs.comparison import Comparison, Curves
from runs.errors import UsageError
from runs.knobs import Knob
from runs.sweep import base, chosen, points
from runs.transfer import train_agents
from runs.trials import Trial
from tests.runs.test_end_to_end import run

TRIAL = Trial(families.catch(), Network(MLP((16, 16))), streams=8, steps=4, updates=100)
RECORD = {
    "families": ["Catch-10x5", "CartPole-varied"],
    "inner": {"streams": 16, "steps": 16, "updates": 200, "segment": 5},
    "network": {"body.hidden": "32,64,32"},
    "action_counts": [2, 3],
}


def turned(names=None, trial=TRIAL, rule=None, record=RECORD):
    return dict(chosen(names, trial, LoadedRule(rule or zoo.a2c(), (), record)))


def test_a_knob_turns_one_thing_and_leaves_the_rest():
    found = turned()
    assert list(found) == list(catalogue.knobs())
    values = {name: list(knob.trials) for name, knob in found.items()}
    assert values["lifetime"] == [25, 50, 100, 200, 400]
    assert values["streams"] == [2, 4, 8, 16, 32]
    assert values["width"] == [4, 8, 16, 32, 64]
    assert values["depth"] == [1, 2, 3, 4, 6]
    assert values["actions"] == [3, 6, 12, 24]
    assert values["reward-scale"] == [0.01, 0.1, 1, 10, 100]
    assert values["permutation"] == [0, 1]
    changed = {"lifetime": "updates", "streams": "streams", "width": "network", "depth": "network"}
    for name, knob in found.items():
        assert knob.trials[knob.base] == TRIAL
        for value, trial in knob.trials.items():
            field = changed.get(name, "tasks")
            assert replace(trial, label="", **{field: getattr(TRIAL, field)}) == TRIAL
            assert trial.name == (TRIAL.name if value == knob.base else f"{TRIAL.name}.{name}-{value:g}")
    assert found["width"].trials[64].network == Network(MLP((64, 64)))
    assert found["depth"].trials[3].network == Network(MLP((16,) * 3))
    assert found["actions"].trials[12].tasks.actions == Discrete(12)
    assert found["reward-scale"].trials[10].tasks.scale == found["reward-scale"].unit(10) == 10
    assert found["lifetime"].trials[50].env_steps == 50 * 32
    names = [trial.name for knob in found.values() for trial in dict.fromkeys(knob.trials.values())]
    assert len({*names}) == len(names) - len(found) + 1  # nothing is trained twice but under one name


def test_the_range_of_the_training_is_read_from_the_record_and_may_be_missing():
    trained = {name: knob.trained for name, knob in turned().items()}
    assert trained == {
        "lifetime": (200,),
        "streams": (16,),
        "width": (32, 64, 32),
        "depth": (3,),
        "actions": (2, 3),
        "reward-scale": (1,),
        "permutation": (0,),
        "distractions": (0,),
    }
    width = turned()["width"]
    assert [value for value in width.trials if sweep_report.in_training(width, value)] == [32, 64]
    assert {knob.trained for knob in turned(record={}).values()} == {()}
    elsewhere = turned(trial=replace(TRIAL, tasks=families.four_rooms()))
    assert elsewhere["reward-scale"].trained == ()


def test_what_cannot_be_turned_is_left_out_or_refused_by_name():
    continuous = replace(TRIAL, tasks=families.pendulum())
    assert set(catalogue.knobs()) - set(turned(trial=continuous)) == {"actions"}
    with pytest.raises(UsageError, match="actions: those of Pendulum-varied are continuous"):
        turned(["actions"], continuous)
    tables = replace(TRIAL, network=Network(MLP(())))
    assert set(catalogue.knobs()) - set(turned(trial=tables)) == {"width", "depth"}
    with pytest.raises(UsageError, match="no hidden layers"):
        turned(["depth"], tables)
    assert list(turned(rule=zoo.maml())) == ["lifetime", "streams", "reward-scale", "permutation"]
    with pytest.raises(UsageError, match="width: the rule brings its agents"):
        turned(["width"], rule=zoo.maml())


def test_the_task_is_of_any_split_and_the_first_one_tested_if_none_is_named():
    assert base("smoke", None).name == "CartPole-v1"
    assert base("smoke", "Catch-5x5").network == Network(MLP((8,)))
    with pytest.raises(UsageError, match="has no task 'Catch-5x6'; perhaps you meant Catch-5x5; it has: Catch-5x5, "):
        base("smoke", "Catch-5x6")


KNOB = Knob("scale", {1.0: TRIAL, 10.0: replace(TRIAL, label="ten")}, 1.0, (1.0,), 10, lambda value: value)


def read(file):
    return list(csv.DictReader(io.StringIO(file.read_text())))


def comparison():
    """Four agents a cell. At ten, returns are ten times as large, and each rule fails in a way of its own."""

    def curves(*scores, broken=()):
        scores = np.array(scores, float)
        return Curves(np.repeat(scores[:, None], 5, axis=1), scores, np.array(broken, int))

    ten = {
        "good": curves(20, 30, 40, 30),
        "gone": curves(20, np.nan, np.inf, 30, broken=[0, 1]),
        "worse": curves(-20, -10, 0, 5),
        "close": curves(-1, 11, 21, 29),
        "random": curves(0, 10, 20, 30),
    }
    one = {name: curves(2, 3, 4, 3) for name in ten} | {"random": curves(0, 1, 2, 3)}
    results = {name: {TRIAL.name: one[name], "ten": ten[name]} for name in ten}
    return Comparison((TRIAL.name, "ten"), (1, 1), results)


def test_divergence_is_what_is_not_finite_and_what_is_below_random_by_more_than_noise():
    found = {(p.value, p.rule): p for p in points({"scale": KNOB}, comparison())}
    assert len(found) == 10
    assert found[10, "good"].mean.point == found[1, "good"].mean.point == 3.0  # in the task's own unit
    diverged = {where: p.diverged for where, p in found.items() if p.diverged}
    assert diverged == {(10, "gone"): "3 of 4 agents not finite", (10, "worse"): "below random"}
    assert found[10, "gone"].mean.point == 2.5  # of those whose return is a number
    lost = comparison().results["gone"]["ten"]._replace(scores=np.full(4, np.nan))
    nothing = Comparison(("ten",), (1,), {"gone": {"ten": lost}, "random": comparison().results["random"]})
    (gone, _) = points({"scale": replace(KNOB, trials={10.0: KNOB.trials[10.0]})}, nothing)
    assert (gone.broken, gone.below, np.isnan(gone.mean.point)) == (4, False, True)


def test_the_report_says_what_was_in_training_and_what_diverged(tmp_path):
    found = list(points({"scale": KNOB}, comparison()))
    text = sweep_report.write({"scale": KNOB}, found, TRIAL, tmp_path)
    assert (tmp_path / "sweep.md").read_text() == text
    assert "| 1 | 3.00 [" in text
    lines = text.splitlines()
    assert next(line for line in lines if line.startswith("| 1 |")).endswith("| in training |")
    ten = next(line for line in lines if line.startswith("| 10 |"))
    assert ten.endswith("| gone: 3 of 4 agents not finite; worse: below random |")
    rows = read(tmp_path / "agents.csv")
    assert len(rows) == 2 * 5 * 4
    assert rows[-1] == {"knob": "scale", "value": "10", "rule": "random", "seed": "3", "score": "3.0"}
    assert [row["score"] for row in rows if row["rule"] == "gone"][5:7] == ["nan", "inf"]
    rows = {(row["value"], row["rule"]): row for row in read(tmp_path / "sweep.csv")}
    assert len(rows) == 10
    assert rows["10", "worse"]["diverged"] == "below random"
    assert (rows["1", "good"]["in_training"], rows["10", "good"]["in_training"]) == ("yes", "no")
    assert float(rows["10", "good"]["low"]) < 3.0 == float(rows["10", "good"]["mean"])
    assert (tmp_path / "sweep-scale.png").read_bytes().startswith(b"\x89PNG")


class _Breaks(type(zoo.random())):
    """Leaves no number of the parameters of some of the agents."""

    def update(self, theta, params, state, rollout, policy, key):
        some = params["body_0"]["kernel"][0, 0] > 0
        broken = jax.tree.map(lambda x: jax.numpy.where(some, x / 0.0, x), params)
        return broken, *super().update(theta, params, state, rollout, policy, key)[1:]


def test_parameters_that_are_not_finite_are_seen_though_returns_are():
    trial = Trial(families.bernoulli_bandit(), Network(MLP((8,))), streams=2, steps=4, updates=12)
    curves = train_agents(trial, _Breaks(), (), 8, seed=1)
    assert np.isfinite(curves.scores).all()
    assert 0 < len(curves.broken) < 8
    assert len(train_agents(trial, zoo.random(), (), 8, seed=1).broken) == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_command(tmp_path):
    words = ("sweep", "a2c", "--suite", "smoke", "--over", "permutation", "--against", "random", "--seeds", "2")
    out, err, summary = run(tmp_path, *words)
    assert "sweep 0/4  a2c on CartPole-v1\n" in err
    assert "## permutation: observations permuted" in out
    folder = tmp_path / "out" / "sweep" / "a2c-CartPole-v1"
    assert summary["path"] == str(folder)
    report = {file.name for file in (folder / "sweep-report").iterdir()}
    assert report == {"sweep.md", "sweep.csv", "agents.csv", "sweep-permutation.png"}
    kept = {file.name.rsplit("--", 1)[0] for file in (folder / "sweep").iterdir()}
    both = ("CartPole-v1", "CartPole-v1.permutation-1")
    assert kept == {f"{trial}--{rule}" for trial in both for rule in ("a2c", "random")}
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    (child,) = [event for event in events if event["kind"] == "child"]
    assert child["name"] == "sweep/permutation"
    assert set(child["values"]) == {f"sweep/{rule}/{value}" for rule in ("a2c", "random") for value in (0, 1)}
    rows = read(folder / "sweep-report" / "agents.csv")
    scores = {row["value"]: row["score"] for row in rows if row["rule"] == "a2c" and row["seed"] == "0"}
    assert scores["0"] != scores["1"]


MISTAKES = {
    "sweep a2c --over lifetme": "there is no knob 'lifetme'; perhaps you meant lifetime",
    "sweep a2d": "perhaps you meant a2c",
    "sweep a2c --suite smoky": "perhaps you meant smoke",
    "sweep a2c --seeds 1": "--seeds must be at least 2",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_are_said_at_once(line, capsys):
    assert main(line.split()) == 2
    assert MISTAKES[line] in capsys.readouterr().err
