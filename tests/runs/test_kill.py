"""A run that is killed, at any moment and any number of times, ends in the bytes of the run that was not."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from runs.checkpoints import Checkpoints
from runs.journal import read_events
from tests.tiny import environment

ROOT = Path(__file__).parents[2]
LEARNERS = ("backprop", "persistent", "evolution")


def start(folder, *names, crash_at=""):
    command = [sys.executable, "-m", "tests.tiny", str(folder), *names]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(LEARNED_RL_CRASH_AT=crash_at), stdout=subprocess.PIPE, text=True
    )


def finish(process):
    """Waits; `{name: seconds in the outer loop}` of what was finished."""
    said = process.communicate(timeout=300)[0].split("\n")
    assert process.returncode == 0
    return {line.split()[1]: float(line.split()[2]) for line in said if line.startswith("finished")}


def wait_until_ready(process, name):
    for line in process.stdout:
        if line.split()[:2] == ["ready", name]:
            return
    raise AssertionError(f"the process ended before {name} began")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The runs that nobody disturbed, and how long their outer loops took."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, finish(start(folder, *LEARNERS))


def outcome(folder):
    """Everything that must not depend on interruptions: rule, last checkpoint, and every metric of every step."""
    last = folder / "checkpoints" / f"{Checkpoints(folder / 'checkpoints').steps()[-1]:09d}"
    files = [folder / "rule" / "rule.safetensors", folder / "rule" / "rule.json"]
    files += [last / "state.safetensors", last / "meta.json", folder / "rule-untrained" / "rule.safetensors"]
    metrics = [(e["step"], e["values"], e["nonfinite"]) for e, _ in read_events(folder) if e["kind"] == "metrics"]
    return {file.name + file.parent.name: file.read_bytes() for file in files}, metrics


def assert_same(folder, whole):
    files, metrics = outcome(folder)
    expected_files, expected_metrics = outcome(whole)
    assert [name for name in expected_files if files[name] != expected_files[name]] == []
    assert [step for step, _, _ in metrics] == list(range(1, 41))
    assert metrics == expected_metrics


def test_killed_while_training_while_saving_and_interrupted_every_learner_ends_in_the_same_bytes(tmp_path, whole):
    """Each learner is killed at a random moment of its outer loop, then inside a save; one is interrupted politely."""
    dice = np.random.default_rng()
    points = ["state.safetensors", "meta.json", "manifest.json", "renamed"]
    for name in LEARNERS:
        delay, polite = dice.uniform(0, whole[1][name]), name == "evolution"
        with start(tmp_path, *LEARNERS) as process:
            wait_until_ready(process, name)
            time.sleep(delay)
            process.send_signal(signal.SIGINT if polite else signal.SIGKILL)
        print(f"{name}: {process.returncode} after {delay:.2f} s of {whole[1][name]:.2f}")
        too_late = (tmp_path / name / "finished").exists()  # then a polite signal finds nobody who listens to it
        assert process.returncode == (130 if polite else -signal.SIGKILL) or too_late
        point = f"checkpoint {dice.choice(points)}"
        with start(tmp_path, name, crash_at=point) as process:
            process.communicate(timeout=300)
        print(f"{name}: {process.returncode} at {point}, {Checkpoints(tmp_path / name / 'checkpoints').steps()}")
        assert process.returncode in (-signal.SIGKILL, 0)  # 0: it was killed too late to have anything left to save
    finish(start(tmp_path, *LEARNERS))
    for name in LEARNERS:
        assert_same(tmp_path / name, whole[0] / name)
        assert not list((tmp_path / name / "checkpoints").glob("bad"))


def test_killed_between_the_last_checkpoint_and_the_rule_the_rule_is_the_last_one(tmp_path, whole):
    """The one moment at which nothing is left to train, and yet something to do."""
    copy = shutil.copytree(whole[0] / "evolution", tmp_path / "evolution")
    (copy / "finished").unlink()
    shutil.rmtree(copy / "rule")
    finish(start(tmp_path, "evolution"))
    assert_same(copy, whole[0] / "evolution")


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_twenty_of_twenty_kills_at_any_moment_of_the_process(tmp_path, whole, name):
    dice, kills, moments = np.random.default_rng(), 0, []
    began = time.monotonic()
    finish(start(tmp_path / "timed", name))
    duration = time.monotonic() - began
    for number in range(40):
        folder = tmp_path / str(number)
        # Most of the process is imports, with nothing to lose: three kills of four wait until the outer loop begins.
        at_once = number % 4 == 0
        delay = dice.uniform(0, duration if at_once else 1.2 * whole[1][name])
        with start(folder, name) as process:
            if not at_once:
                wait_until_ready(process, name)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        if (folder / name / "finished").exists():
            continue
        kills += 1
        steps = [e["step"] for e, _ in read_events(folder / name) if e["kind"] == "metrics"]
        moments.append((round(delay, 2), steps[-1] if steps else 0))
        finish(start(folder, name))
        assert_same(folder / name, whole[0] / name)
        if kills == 20:
            break
    print(json.dumps({"learner": name, "kills": kills, "moments (s, step)": moments}))
    assert kills == 20
