"""`learned-rl explain`, and what is asked of PySR: a stand-in answers here, for PySR brings a Julia with it."""

import csv
import importlib.util
import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from runs import cli
from runs.explain.drifts import ADVANTAGE, LOG_RATIO
from runs.explain.explanation import Relation
from runs.explain.searched import search


class Lines:
    """Least squares in each input alone, and in all of them, with the part of PySR's interface that is used."""

    def __init__(self, *, timeout_in_seconds, maxsize, parallelism, deterministic, random_state, **others):
        assert deterministic
        assert parallelism == "serial"
        self.seconds = timeout_in_seconds

    def fit(self, x, y, *, variable_names):
        self.picked = [[i] for i in range(len(variable_names))] + [list(range(len(variable_names)))]
        self.weights = [np.linalg.lstsq(x[:, columns], y)[0] for columns in self.picked]
        names = [" + ".join(variable_names[i] for i in columns) for columns in self.picked]
        self.equations_ = pd.DataFrame({"equation": names, "complexity": [len(columns) for columns in self.picked]})
        assert len(y) < 1000

    def get_best(self):
        return self.equations_.iloc[-1]

    def predict(self, x, index):
        return x[:, self.picked[index]] @ self.weights[index]


@pytest.fixture
def lines(monkeypatch):
    stand_in = ModuleType("pysr")
    stand_in.PySRRegressor = Lines
    monkeypatch.setitem(sys.modules, "pysr", stand_in)


def test_a_relation_on_a_grid_is_named_and_in_order():
    relation = Relation.of(np.arange(6).reshape(2, 3), y=np.array([10, 20]), x=np.array([1, 2, 3]))
    assert [(y, x) for y, x in zip(relation.inputs["y"], relation.inputs["x"], strict=True)][3] == (20, 1)
    assert relation.output[3] == 3


def test_formulas_are_judged_on_points_that_the_search_did_not_see(lines):
    relation = Relation.of(2 * ADVANTAGE[:, None] - LOG_RATIO, advantage=ADVANTAGE, log_ratio=LOG_RATIO)
    alone, _, both = search(relation, 1.0)
    assert (both.text, both.complexity, both.chosen) == ("advantage + log_ratio", 2, True)
    assert both.r2 == pytest.approx(1.0)
    assert not alone.chosen
    assert 0.9 < alone.r2 < 0.99  # 4 Var A of 4 Var A + Var log r
    nothing = search(Relation.of(np.zeros((81, 81)), a=ADVANTAGE, b=LOG_RATIO), 1.0)
    assert {formula.r2 for formula in nothing} == {0.0}


def test_pictures_sentences_and_formulas_are_written(lines, tmp_path, capsys):
    words = ["explain", "dpo", "--search", "3", "--out", str(tmp_path / "dpo"), "--json", str(tmp_path / "s.json")]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "at most 1.48 from PPO's and 0 from DPO's" in said
    assert (tmp_path / "dpo" / "drift.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "dpo" / "drift-formulas.csv").read_text().splitlines()))
    assert [row["text"] for row in rows] == ["advantage", "log_ratio", "advantage + log_ratio"]
    assert rows[2]["chosen"] == "True"
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["explanations"]["drift"]["formulas"][2]["complexity"] == 2
    assert "advantage + log_ratio  (R²" in said


def test_mistakes_are_named(tmp_path, capsys, monkeypatch):
    assert cli.main(["explain", "dpp"]) == 2
    assert "dpo" in capsys.readouterr().err
    assert cli.main(["explain", "dpo", "--search", "-1"]) == 2
    assert "--search is a number of seconds, not -1.0" in capsys.readouterr().err
    assert cli.main(["explain", "random", "--out", str(tmp_path)]) == 2
    assert "has no part that can be explained" in capsys.readouterr().err

    def no_network(name):
        raise OSError("nobody there")

    monkeypatch.setattr("runs.explain.searched.importlib", SimpleNamespace(import_module=no_network))
    assert cli.main(["explain", "dpo", "--search", "1", "--out", str(tmp_path)]) == 2
    assert "PySR found no Julia and could not fetch one (nobody there)" in capsys.readouterr().err


@pytest.mark.skipif(not importlib.util.find_spec("pysr"), reason="pysr is not installed; it is the extra `pysr`")
def test_pysr_itself_finds_a_product():
    relation = Relation.of(ADVANTAGE[:, None] * LOG_RATIO, advantage=ADVANTAGE, log_ratio=LOG_RATIO)
    try:
        found = search(relation, 20.0)
    except ValueError as none:
        pytest.skip(str(none))
    assert next(formula for formula in found if formula.chosen).r2 > 0.99
