"""Repeating a run: the command is recovered, what changed is said, and what differs is found."""

import json

import pytest

from runs import catalogue, reproduce
from runs.cli import main
from runs.commands.options import that_matter
from runs.errors import UsageError
from runs.folder import RunFolder
from runs.journal import Journal
from runs.overrides import apply_overrides, flatten
from runs.reproduce import changed, command, compared


def test_where_things_go_is_no_part_of_a_command():
    words = "discover smoke --json b.json --run-dir out/x --steps 8 --json=a.json --quiet --tracking-uri x --devices 2"
    assert that_matter(words.split()) == ["discover", "smoke", "--steps", "8", "--devices", "2"]


@pytest.mark.parametrize("told", [True, False])
def test_a_discovery_is_recovered_from_its_configuration(told):
    overrides = {"steps": "8", "inner.streams": "2", "transfer.suite": "", "transfer.against": "ppo,a2c", "name": "a'b"}
    settings = flatten(apply_overrides(catalogue.recipe("smoke"), overrides))
    words = ["discover", "smoke", "--steps", "8", "--devices", "2"] if told else []
    recovered = command({"run": "r", "configuration": settings, "command": words})
    assert recovered[:2] == ["discover", "smoke"]
    assert dict(zip(recovered[2::2], recovered[3::2], strict=True)) == {
        f"--{name}": value for name, value in (overrides | ({"devices": "2"} if told else {})).items()
    }
    with pytest.raises(UsageError, match="no recipe"):
        command({"run": "r", "configuration": settings | {"rule": "Another"}, "command": words})


def test_a_transfer_is_repeated_by_its_words_or_by_its_settings():
    settings = {"rule": "ppo", "suite": "smoke", "seeds": 3, "against": "a2c dpo", "rules": "x y"}
    record = {"run": "r", "configuration": settings}
    expected = ["transfer", "ppo", "--suite", "smoke", "--against", "a2c", "dpo", "--seeds", "3"]
    assert command(record) == expected
    assert command(record | {"command": ["transfer", "ppo", "--new", "option"]}) == [
        "transfer",
        "ppo",
        "--new",
        "option",
    ]
    with pytest.raises(UsageError, match="neither a command nor a suite"):
        command({"run": "r", "configuration": {"x": 1}})


def run_folder(path, values=(0.5, 0.25, 0.125), scores=("1.0", "2.0"), seconds=1.0):
    folder = RunFolder.create_or_resume(path, {"suite": "smoke", "rule": "ppo"}, "cpu", ["transfer", "ppo"])
    journal = Journal(path)
    journal.start(run=folder.run, experiment="e", name="n", params={}, tags={})
    for step, value in enumerate(values):
        journal.metrics(step, {"meta/loss": value, "sys/train_seconds": seconds * step})
    journal.close()
    (path / "report").mkdir()
    rows = "".join(f"ppo,catch,{seed},{score}\n" for seed, score in enumerate(scores))
    (path / "report" / "scores.csv").write_text(f"rule,task,seed,score\n{rows}")
    return path


def test_what_differs_is_found_and_the_clock_is_not_compared(tmp_path):
    run = run_folder(tmp_path / "run")
    same = compared(run, run_folder(tmp_path / "same", seconds=2.0))
    assert [same[name].equal for name in ("theta", "scores", "metrics")] == [None, True, True]
    assert same["metrics"].says == "all 3 metrics are equal, bit for bit"
    other = compared(run, run_folder(tmp_path / "other", (0.5, 0.26, 9.0), ("1.0", "2.0000001")))
    assert other["metrics"].says == "2 of 3 metrics differ; the first is meta/loss at step 1: 0.25 then, 0.26 now"
    assert other["scores"].says == "1 of 2 scores differ; the first is ppo on catch, seed 1: 2.0 then, 2.0000001 now"
    short = compared(run, run_folder(tmp_path / "short", (0.5,)))
    assert short["metrics"].says.endswith("meta/loss at step 1: 0.25 then, nothing now")
    longer = compared(run, run_folder(tmp_path / "longer", (0.5, 0.25, 0.125, 1.0)))
    assert longer["metrics"].equal


def test_what_changed_since_is_said(tmp_path):
    record = RunFolder.create_or_resume(tmp_path, {}, "an old device").record
    assert list(changed(record)) == ["device"]
    older = record | {"versions": record["versions"] | {"jax": "0.1"}, "git": "abc"}
    assert changed(older)["jax"][0] == "0.1"
    assert changed(older)["commit"][0] == "abc"


def test_the_command_is_run_again_and_compared(tmp_path, monkeypatch, capsys):
    run = run_folder(tmp_path / "run")
    asked = []

    def again(words, known):
        asked.append(words)
        run_folder(tmp_path / "run-again", scores=("1.0", "3.0"))
        return 0

    monkeypatch.setattr(reproduce, "_run", again)
    assert main(["reproduce", str(run), "--json", str(tmp_path / "a.json")]) == 0
    assert asked == [["transfer", "ppo", "--run-dir", str(tmp_path / "run-again")]]
    summary = json.loads((tmp_path / "a.json").read_text())
    assert (summary["equal"], summary["scores"]["equal"], summary["metrics"]["equal"]) == (False, False, True)
    assert "scores: 1 of 2 scores differ" in capsys.readouterr().out
    assert main(["reproduce", str(run), "--show"]) == 0
    assert len(asked) == 1
    assert main(["reproduce", str(tmp_path)]) == 2
    monkeypatch.setattr(reproduce, "_run", lambda *_: 75)
    assert main(["reproduce", str(run)]) == 75
