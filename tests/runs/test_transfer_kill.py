"""`learned-rl transfer`, killed midway: the same command goes on, and ends in the scores of the one that was not."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tiny import environment

ROOT = Path(__file__).parents[2]
SETTINGS = "transfer ppo --suite smoke --against a2c --seeds 2 --quiet --tracking-uri sqlite:///none.db --run-dir run"


def start(folder):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "runs", *SETTINGS.split()]
    return subprocess.Popen(command, cwd=folder, env=environment(PYTHONPATH=str(ROOT)), stdout=subprocess.DEVNULL)


def kept(folder):
    """What was finished, byte for byte, and when."""
    files = sorted((folder / "run" / "transfer").glob("*.json"))
    return {file.name: file.read_bytes() for file in files}, {file.name: file.stat().st_mtime_ns for file in files}


@pytest.mark.slow
def test_killed_midway_it_resumes_to_the_same_scores(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with start(broken) as process:
        while not kept(broken)[0]:
            assert process.poll() is None, "it ended before anything was kept"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    before, times = kept(broken)
    assert 1 <= len(before) < 3
    with start(broken) as again, start(whole) as undisturbed:
        assert again.wait(300) == undisturbed.wait(300) == 0
    after, times_after = kept(broken)
    assert after == kept(whole)[0]
    assert len(after) == 3
    assert {name: times_after[name] for name in times} == times  # not trained again
    scores = [(folder / "run" / "report" / "scores.csv").read_bytes() for folder in (whole, broken)]
    assert scores[0] == scores[1]
