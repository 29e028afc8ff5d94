"""`learned-rl compare`: what is read back, what may be compared, and what is said."""

import dataclasses
import json

import numpy as np
import pytest

from runs import tables
from runs.cli import main
from runs.comparison import Comparison, Curves
from runs.errors import ArtifactRefused, UsageError
from runs.recorded import recorded

TASKS, STEPS, SEEDS = ("Maze", "Chain"), (600, 1200), 6


def comparison(seed=0, tasks=TASKS, steps=STEPS, seeds=SEEDS, **levels):
    """Contenders whose scores lie around a level; those of one name are the same in every comparison."""

    def curves(name, task, level):
        noise = np.random.default_rng([*name.encode(), *task.encode(), seed * (name == "learned")])
        returns = level * np.array([0.5, 1.0, 1.0]) + noise.normal(size=(seeds, 3))
        return Curves(returns, returns[:, -1])

    levels |= {"random": 0.0}
    results = {name: {task: curves(name, task, level) for task in tasks} for name, level in levels.items()}
    references = tuple(name for name in levels if name in ("a2c", "ppo"))
    points = tuple((n // 3, 2 * n // 3, n) for n in steps)
    return Comparison(tuple(tasks), tuple(steps), results, references, points)


def run_folder(path, found, identity="1"):
    """What a finished run keeps, as far as it is read."""
    (path / "transfer").mkdir(parents=True)
    (path / "report").mkdir()
    (path / "run.json").write_text("{}")
    for task in found.tasks:
        (path / "transfer" / f"{task}--random--{identity}.json").write_text("{}")
        (path / "transfer" / f"{task}--learned--{path.name}.json").write_text("{}")
    for name, content in {"scores": tables.scores_csv(found), "curves": tables.curves_csv(found)}.items():
        (path / "report" / f"{name}.csv").write_text(content)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_folder(tmp_path / "one", comparison(1, learned=8.0, a2c=5.0, ppo=10.0))
    run_folder(tmp_path / "two", comparison(2, learned=3.0, untrained=1.0, ppo=10.0, dpo=4.0))
    return tmp_path


def say(capsys, *arguments):
    code = main(["compare", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_what_was_written_is_read_back_to_every_digit(tmp_path):
    found = comparison(learned=8.0, a2c=5.0)
    found.results["learned"]["Maze"].scores[2] = np.nan
    back = recorded(run_folder(tmp_path / "run", found))
    assert dataclasses.replace(back, results={}, references=()) == dataclasses.replace(found, results={}, references=())
    assert back.references == ("a2c",)
    assert list(back.results) == ["learned", "a2c", "random"]
    for name, by_task in found.results.items():
        for task, curves in by_task.items():
            np.testing.assert_array_equal(back.results[name][task].returns, curves.returns)
            np.testing.assert_array_equal(back.results[name][task].scores, curves.scores)


def test_the_rules_of_two_runs_are_compared_on_the_scale_they_share(folder, capsys):
    code, out, err = say(capsys, "one", "two", "--json", "summary.json")
    assert (code, err) == (0, "")
    assert "| task (environment steps) | one | two | ppo | random |" in out  # neither a2c nor dpo: not in both
    assert "1 = the best of ppo (ppo: Maze, Chain)" in out
    assert "one against two: won; IQM 0.7" in out
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["references"] == ["ppo"]
    verdict = summary["verdicts"]["two"]
    assert verdict["outcome"] == "won"
    assert verdict["improvement"] == {"point": 1.0, "low": 1.0, "high": 1.0}
    assert summary["scores"]["two"]["Chain"] == pytest.approx(3.0, abs=1.5)
    assert summary["iqm"]["one"]["low"] < summary["iqm"]["one"]["point"] < summary["iqm"]["one"]["high"]
    assert sorted(file.name for file in folder.iterdir()) == ["one", "summary.json", "two"]


def test_other_contenders_and_other_orders(folder, capsys):
    code, out, _ = say(capsys, "two#untrained", "one", "one#a2c", "--out", "out")
    assert code == 0
    assert "| two#untrained | one | one#a2c | ppo | random |" in out
    assert "two#untrained against one: lost" in out
    assert out.startswith((folder / "out" / "table.md").read_text())
    assert list(recorded_names(folder / "out")) == ["two#untrained", "one", "one#a2c", "ppo", "random"]


def recorded_names(out):
    (out / "report").mkdir()
    for file in out.glob("*.csv"):
        file.rename(out / "report" / file.name)
    return recorded(out).results


def test_only_what_both_measured_is_compared(folder, capsys):
    other = comparison(3, tasks=("Chain", "Walk"), steps=(1200, 300), learned=2.0)
    run_folder(folder / "three", other)
    code, out, _ = say(capsys, "one", "three")
    assert code == 0
    assert "Maze" not in out
    assert "Walk" not in out
    assert "| Chain (1,200) |" in out
    assert "1 = the best of all (one: Chain)" in out  # they share no reference


def test_a_reference_that_was_measured_twice_is_said(folder, capsys):
    other = comparison(2, learned=3.0, ppo=12.0)
    run_folder(folder / "three", other)
    code, _, err = say(capsys, "one", "three")
    assert code == 0
    assert err == "ppo did not earn the same in all runs: that of one is used\n"


REFUSED = {
    "seeds": (dict(seeds=5), "1", "Maze: 6 seeds against 5; Chain: 6 seeds against 5"),
    "steps": (dict(steps=(600, 900)), "1", "Chain: 1,200 environment steps against 900"),
    "agents": ({}, "2", "Maze: other agents, streams, root seed or parameters of the task"),
    "tasks": (dict(tasks=("Walk", "Run")), "1", "no task that all have in common: one has Maze, Chain; three has Walk"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_was_not_measured_alike_is_refused(folder, capsys, what):
    settings, identity, message = REFUSED[what]
    run_folder(folder / "three", comparison(3, learned=2.0, **settings), identity)
    code, out, err = say(capsys, "one", "three")
    assert (code, out) == (2, "")
    assert message in err


def test_mistakes_are_said(folder, capsys):
    (folder / "empty").mkdir()
    (folder / "begun").mkdir()
    (folder / "begun" / "run.json").write_text("{}")
    for arguments, message in {
        ("one",): "one alone cannot be compared",
        ("one", "nowhere"): "nowhere is not a run directory",
        ("one", "empty"): "empty is not a run directory",
        ("one", "begun"): "begun has compared nothing yet",
        ("one", "two#untraind"): "two has no contender 'untraind'; perhaps you meant untrained",
        ("one", "two#"): "two has no contender ''",
        ("one", "two", "one"): "given twice: one",
    }.items():
        code, out, err = say(capsys, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), arguments
        assert message in err, arguments


def test_damaged_data_are_refused(folder, capsys):
    scores = folder / "two" / "report" / "scores.csv"
    whole = scores.read_text()
    for damaged, message in [
        (whole.replace(",role", ",rule2"), "has no column role, as in earlier versions"),
        (whole.replace("two", "x").replace(",0,", ",0,x", 1), "could not convert string to float"),
        ("\n".join(whole.splitlines()[:-1]) + "\n", "of random on Chain, lines are missing"),
        ("\n".join(line for line in whole.splitlines() if "random" not in line), "random is missing"),
    ]:
        scores.write_text(damaged)
        code, out, err = say(capsys, "one", "two")
        assert (code, out) == (65, ""), message
        assert message in err
    scores.write_text(whole)
    curves = folder / "two" / "report" / "curves.csv"
    curves.write_text("\n".join(line for line in curves.read_text().splitlines() if "dpo,Maze,2,200," not in line))
    with pytest.raises(ArtifactRefused, match="of dpo on Maze, lines are missing"):
        recorded(folder / "two")
    (folder / "two" / "report" / "curves.csv").unlink()
    with pytest.raises(ArtifactRefused, match=r"curves\.csv is missing"):
        recorded(folder / "two")
    with pytest.raises(UsageError, match="has compared nothing"):
        recorded(folder)
