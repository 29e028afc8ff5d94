"""The study of schedules: who is compared, with how many environment steps; and, slow, that it runs."""

import json

import numpy as np
import pytest

from learned_rl.rules.coefficients import Coefficients
from runs import schedule_study
from runs.schedule_study import TASKS, Study

TINY = Study(TASKS["catch"], updates=4, streams=2, steps=2, lives=20, first=3, seeds=3, at_once=4)


def test_every_contender_is_tuned_with_as_many_environment_steps():
    first = 20 * TINY.first * TINY.updates * TINY.streams * 16
    trained = TINY.steps * TINY.experiment.env_steps_per_step + first
    for final in (1.0, 0.0):
        grid = TINY.grid(final)
        assert len({str(setting) for setting in grid}) == len(grid) == 20
        lives = TINY.tuning_lives // len(grid)
        assert lives * len(grid) * TINY.updates * TINY.streams * 16 == trained
        assert all(setting.final == final for setting in grid)
    assert TINY.experiment.rule.base.coefficients == Coefficients()
    start = Coefficients(learning_rate=0.1)
    assert TINY.meta_training(start).rule.base.coefficients == start


def test_an_unknown_task_is_bad_usage():
    with pytest.raises(SystemExit) as stopped:
        schedule_study.main(["--tasks", "chess"])
    assert stopped.value.code == 2


@pytest.mark.slow
def test_the_study_runs(tmp_path, capsys):
    sizes = "--updates 4 --streams 2 --steps 2 --lives 20 --first 3 --seeds 3 --at-once 4"
    assert schedule_study.main([*sizes.split(), "--json", str(tmp_path / "report.json")]) == 0
    (report,) = json.loads((tmp_path / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == [
        "learned schedule",
        "a2c's defaults",
        "best constant",
        "best linear anneal",
    ]
    assert all(np.isfinite(row["score"]).all() and len(row["scores"]) == 3 for row in report["rows"])
    assert {len(mean) for mean in report["grids"].values()} == {1, 20}
    assert "P(the learned schedule beats it)" in capsys.readouterr().out
