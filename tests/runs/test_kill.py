"""A run that is killed, at any moment and any number of times, ends in the bytes of the run that was not."""

import functools
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
def undisturbed(tmp_path_factory):
    """`name -> (folder, seconds in the outer loop)` of a run that nobody disturbed; each is made once."""
    folder = tmp_path_factory.mktemp("undisturbed")

    @functools.cache
    def made(name):
        return folder / name, finish(start(folder, name))[name]

    return made


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


# What a persistent ES carries from window to window is the most of all learners.
@pytest.mark.parametrize(
    "name", [n if n == "persistent" else pytest.param(n, marks=pytest.mark.slow) for n in LEARNERS]
)
def test_killed_while_training_while_saving_and_interrupted_every_learner_ends_in_the_same_bytes(
    tmp_path, undisturbed, name
):
    """Killed at a random moment of the outer loop, then inside a save; one learner is interrupted politely at first."""
    dice, polite = np.random.default_rng(), name == "evolution"
    whole, duration = undisturbed(name)
    delay = dice.uniform(0, duration)
    with start(tmp_path, name) as process:
        wait_until_ready(process, name)
        time.sleep(delay)
        process.send_signal(signal.SIGINT if polite else signal.SIGKILL)
    print(f"{name}: {process.returncode} after {delay:.2f} s of {duration:.2f}")
    too_late = (tmp_path / name / "finished").exists()  # then a polite signal finds nobody who listens to it
    assert process.returncode == (130 if polite else -signal.SIGKILL) or too_late
    point = f"checkpoint {dice.choice(['state.safetensors', 'meta.json', 'manifest.json', 'renamed'])}"
    with start(tmp_path, name, crash_at=point) as process:
        process.communicate(timeout=300)
    print(f"{name}: {process.returncode} at {point}, {Checkpoints(tmp_path / name / 'checkpoints').steps()}")
    assert process.returncode in (-signal.SIGKILL, 0)  # 0: it was killed too late to have anything left to save
    finish(start(tmp_path, name))
    assert_same(tmp_path / name, whole)
    assert not list((tmp_path / name / "checkpoints").glob("bad"))


def test_killed_between_the_last_checkpoint_and_the_rule_the_rule_is_the_last_one(tmp_path, undisturbed):
    """The one moment at which nothing is left to train, and yet something to do."""
    whole, _ = undisturbed("persistent")
    copy = shutil.copytree(whole, tmp_path / "persistent")
    (copy / "finished").unlink()
    shutil.rmtree(copy / "rule")
    finish(start(tmp_path, "persistent"))
    assert_same(copy, whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_twenty_of_twenty_kills_at_any_moment_of_the_process(tmp_path, undisturbed, name):
    whole, in_loop = undisturbed(name)
    dice, kills, moments = np.random.default_rng(), 0, []
    began = time.monotonic()
    finish(start(tmp_path / "timed", name))
    duration = time.monotonic() - began
    for number in range(40):
        folder = tmp_path / str(number)
        # Most of the process is imports, with nothing to lose: three kills of four wait until the outer loop begins.
        at_once = number % 4 == 0
        delay = dice.uniform(0, duration if at_once else 1.2 * in_loop)
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
        assert_same(folder / name, whole)
        if kills == 20:
            break
    print(json.dumps({"learner": name, "kills": kills, "moments (s, step)": moments}))
    assert kills == 20
