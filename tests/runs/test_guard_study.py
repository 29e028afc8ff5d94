"""The guard study: its fractions are what they are called, and it asks for tasks that there are."""

from types import SimpleNamespace

import numpy as np
import pytest

from runs import guard_study
from runs.guard_study import NAMES, QUESTIONS, chosen, rows, table, trials

EARNED = {"learned": 8.0, "guarded": 5.0, "fallback": 6.0, "random": 2.0}


def comparison(earned, noise=0.0):
    rng = np.random.default_rng(0)
    results = {name: {"Task": SimpleNamespace(scores=earned[name] + noise * rng.normal(size=16))} for name in NAMES}
    return SimpleNamespace(tasks=("Task",), results=results)


def test_fractions_are_of_what_was_to_be_had():
    scores = np.array([[EARNED[name] for name in NAMES]] * 16)
    found = {name: float(question(scores)) for name, question in QUESTIONS.items()}
    assert found == pytest.approx({"safety": 3 / 4, "kept": 1 / 2, "gain": -1 / 2})


def test_a_gain_is_told_only_where_the_learned_rule_is_better_than_the_fallback():
    (row,) = rows("misleading", comparison(EARNED, 0.1))
    assert row["gain"].point == pytest.approx(-0.5, abs=0.2)
    assert row["safety"].low < row["safety"].point < row["safety"].high
    (worse,) = rows("misleading", comparison(EARNED | {"learned": 1.0}, 0.1))
    assert worse["gain"] is None
    line = list(table([row, worse]))
    assert line[0].startswith("| task | learned | guarded | fallback | random | safety | kept | gain |")
    assert line[2].startswith("| Task (misleading) | 7.98 [7.93, 8.02] | 4.99")
    assert line[3].endswith("|  |")


def test_tasks_are_asked_for_by_name(capsys):
    every = trials(10)
    some = dict(chosen(every, ["Acrobot-v1", "Catch-10x5"]))
    assert {kind: [t.name for t in found] for kind, found in some.items()} == {
        "as in training": ["Catch-10x5"],
        "misleading": ["Acrobot-v1"],
    }
    assert dict(chosen(every, None)) == dict(every)
    with pytest.raises(SystemExit) as stop:
        guard_study.main(["--only", "Acrobat-v1"])
    assert stop.value.code == 2
    assert "there is no task Acrobat-v1; there are Catch-10x5" in capsys.readouterr().err
