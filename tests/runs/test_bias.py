"""`learned-rl bias`: what it says about problems whose answer is known, and about mistakes."""

import json
import re

import jax
import numpy as np
import pytest

from runs import bias as command
from runs import cli
from runs.bias_subject import subject
from runs.catalogue import problems
from runs.errors import NumericalStop
from runs.menu import ESTIMATORS, USUAL, Sizes
from tests.oracles import LQ_GRADIENT, LQ_TRUNCATED
from tests.runs.test_cli import many
from truncation import TruncatedBackprop
from truncation.diagnostics import Answers, Measured, Sampled
from truncation.diagnostics import found as found_setting

BAD = {
    "bias --problem kestn": "perhaps you meant kesten",
    "bias --problem influence-balance": "perhaps you meant influence-balancing",
    "bias --problem smok": "perhaps you meant smoke",
    "bias --estimator TruncatedBackprob": "perhaps you meant TruncatedBackprop",
    "bias --estimator FullES PersistenES": "perhaps you meant PersistentES",
    "bias --lives 0": "--lives must be at least 1, not 0",
    "bias --repeats 3": "--repeats must be at least 4, not 3",
    "bias --window 0": "--window must be positive, not 0",
    "bias --std -0.1": "--std must be positive, not -0.1",
    "bias --widow 3": "perhaps you meant --window",
}


def test_mistakes_and_help_are_answered_at_once_without_jax(tmp_path):
    reports, jax = many(tmp_path, *BAD, "bias --help", "list problems")
    assert not jax
    for line, (code, out, err, seconds, files) in zip(BAD, reports, strict=False):
        assert (code, out, files) == (2, "", []), line
        assert BAD[line] in err, line
        assert err.count("\n") == 1, line
        assert seconds < 1.0, line
    (help_code, text, *_), (list_code, listed, *_) = reports[-2:]
    assert (help_code, list_code) == (0, 0)
    assert "--estimator NAME" in text
    assert [line.split()[0] for line in listed.splitlines()] == list(problems())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--window 30", "window=30 is not in [1, horizon] = [1, 20]"),
        ("--estimator NoiseReuseES --lives 5", "lives=5: antithetic pairs need an even number"),
        ("--estimator ControlVariateES --lives 4", "three teams of pairs need at least 6"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_before_anything_runs(tmp_path, capsys, options, message):
    out = tmp_path / "out"
    assert cli.main(["bias", "--problem", "linear-quadratic", *options.split(), "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def run(tmp_path, capsys, line):
    file = tmp_path / "summary.json"
    code = cli.main(["bias", *line.split(), "--out", str(tmp_path / "out"), "--json", str(file)])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(file.read_text()), captured


def test_the_linear_quadratic_problem(tmp_path, capsys):
    line = "--problem linear-quadratic --estimator TruncatedBackprop --window 5 10 --repeats 8"
    found, captured = run(tmp_path, capsys, line)
    square = np.sum(LQ_GRADIENT**2)
    np.testing.assert_allclose(found["gradient_square"]["point"], square, rtol=1e-8)
    rows = {(row["estimator"], row["window"]): row for row in found["settings"]}
    for window in (5, 10):
        expected = np.sum((LQ_TRUNCATED[window] - LQ_GRADIENT) ** 2) / square
        np.testing.assert_allclose(rows["TruncatedBackprop", window]["bias"]["point"], expected, rtol=1e-8)
    # 16 lives of 20 segments; a segment of backprop costs 3.
    assert found["budget"] == 320
    assert rows["TruncatedBackprop", 10]["at_budget"]["lives"] == 10
    assert rows["TruncatedBackprop", 5]["at_budget"]["lives"] == 21
    chosen = found["recommended"]
    assert (chosen["estimator"], chosen["window"], chosen["std"], chosen["lives"]) == (
        "TruncatedBackprop",
        10,
        None,
        10,
    )
    parts = found["parts"]["TruncatedBackprop"]["bias"]
    assert [name for name, part in parts.items() if part is None] == ["smoothing", "sampling", "bootstrap"]
    assert parts["hysteresis"]["low"] > 0
    assert (tmp_path / "out" / "work-error.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "out" / "table.md").read_text() in captured.out
    assert "recommended at this cost: **TruncatedBackprop, window 10, lives 10**" in captured.out
    assert re.search(r"bias 1/\d+  the truth", captured.err)
    assert found["lags"]["first"] == [0, 1, 2, 4, 8, 16]
    np.testing.assert_allclose(np.sum(found["lags"]["contribution"]), 1, rtol=1e-9)


@pytest.mark.slow  # compiling the learned rule takes a minute
def test_a_recipe_with_its_own_estimator(tmp_path, capsys):
    found, captured = run(tmp_path, capsys, "--problem smoke --repeats 4 --lives 2 --quiet")
    assert {row["estimator"] for row in found["settings"]} == {"TruncatedBackprop"}
    assert [row["window"] for row in found["settings"]] == [1, 2]
    assert found["inner_steps_per_segment"] == 2
    whole = found["settings"][1]
    assert abs(whole["bias"]["point"]) < 1e-8  # window = horizon, on the very lives of the truth
    assert captured.err == ""


def test_a_recipe_brings_its_estimator_and_its_truth():
    found = subject("smoke", 0)
    settings = Sizes(found.horizon, 2, 6, found.std, 1, 3)
    assert found.estimator("TruncatedBackprop", settings) == TruncatedBackprop(2, 2, 6, microbatch=3)
    assert (found.usual, found.smoothed, found.truth, found.adaptive) == (("TruncatedBackprop",), False, None, True)
    evolved = subject("schedule-control", 0)
    assert evolved.usual == ("PersistentES", "FullES")
    assert (evolved.truth.std, evolved.smoothed) == (0.1, True)
    population = subject("drift-minatar", 0)
    assert (population.usual, population.std) == (("FullES",), 0.03)
    np.testing.assert_allclose(population.velocity(np.array([3.0, -4.0]) * 1e-3), [-0.00849, 0.01131], rtol=1e-3)


def test_nothing_is_written_where_nothing_can_be(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    line = f"bias --problem linear-quadratic --estimator TruncatedBackprop --window 5 --repeats 4 --out {blocked}"
    assert cli.main(line.split()) == 74
    assert f"--out {blocked}: " in capsys.readouterr().err


def test_a_gradient_that_is_not_finite_stops_with_its_own_code(tmp_path, capsys, monkeypatch):
    broken = subject("linear-quadratic", 0)

    def infinite(problem, theta, key):
        return theta * float("inf")

    monkeypatch.setattr(command, "subject", lambda *_: command.replace(broken, truth=infinite))
    assert cli.main(["bias", "--problem", "linear-quadratic", "--out", str(tmp_path / "out"), "--quiet"]) == 76
    assert "whole lifetimes break down" in capsys.readouterr().err


def row(name, total, dead=0.0, cost=1.0, variance=1.0):
    asked = subject("linear-quadratic", 0)
    samples = np.random.default_rng(0).normal(size=(8, 1, 3)) * np.sqrt(variance / 3) + total
    said = Answers(Sampled(samples, np.full(8, dead), 1), np.zeros((8, 3)))
    setting = command.Setting(name, int(cost), None, 1)
    with jax.enable_x64(True):
        return command._row(asked.born(), setting, None, said, Measured(1.0, 1.0, 1.0))


def test_who_says_nothing_is_not_recommended():
    asked = subject("linear-quadratic", 0)
    dead = row("TruncatedBackprop", 0.0, dead=1.0, variance=0.0)
    exploded = row("TruncatedBackprop", float("nan"))
    sound = row("TruncatedBackprop", 1.0, cost=200.0)
    outcome = command.Outcome(asked, command._budget(asked, 1, [dead, exploded, sound]), None, [dead, exploded, sound])
    assert outcome.budget == 600  # what one life of the only sound setting costs
    assert outcome.recommended is sound
    assert (sound.trial.bias > 1, dead.trial.bias, exploded.trial.bias) == (True, float("inf"), float("inf"))
    assert row("TruncatedBackprop", 0.01).trial.bias == 0  # cannot be told from nought
    with pytest.raises(NumericalStop, match="every life breaks down"):
        command._budget(asked, 1, [dead, exploded])


def test_every_estimator_on_the_menu_exists_and_can_be_made():
    import truncation

    for name, entry in ESTIMATORS.items():
        at = Sizes(horizon=8, window=2, lives=6, std=0.1, size=3)
        made = entry.make(at)
        assert type(made) is getattr(truncation, name), name
        assert entry.price(at) >= 1
        assert entry.perturbs == (found_setting(made, "std") is not None), name
        assert entry.windowed == (getattr(made, "window", 8) == 2), name
    assert set(USUAL) <= set(ESTIMATORS)


@pytest.mark.parametrize("name", problems())
def test_every_named_problem_is_what_its_settings_say(name):
    found = subject(name, 0).born()
    assert 1 <= found.window <= found.horizon
    for estimator in found.usual:
        found.estimator(estimator, Sizes(found.horizon, found.window, 6, found.std, 1))
