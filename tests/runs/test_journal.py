import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from runs.errors import ArtifactRefused, DiskError
from runs.journal import FILE, Journal, read_events

START = {"run": "r1", "experiment": "toy", "name": "first", "params": {"std": 0.1}, "tags": {"rule": "lpg"}}


def events(folder):
    return [event for event, _ in read_events(folder)]


def record(folder, steps, rule="v1"):
    """What a deterministic run reports, from the first step of `steps` on."""
    journal = Journal(folder)
    journal.start(**START)
    for step in steps:
        journal.metrics(step, {"meta/loss": 1.0 / (1 + step), "inner/return": step})
        if step % 5 == 0:
            journal.metrics(step, {"eval/catch": step})
    (folder / "rule").mkdir(exist_ok=True)
    (folder / "rule" / "rule.json").write_text(rule)
    journal.artifact("rule", "rule")
    journal.model("toy-rule", "rule")
    journal.child("eval/catch", name="catch", tags={}, params={"seeds": 3}, metrics={"return": 0.5})
    journal.finish("FINISHED")
    return journal


def test_events_are_read_back_in_order(tmp_path):
    record(tmp_path, range(7)).close()
    read = events(tmp_path)
    assert [event["seq"] for event in read] == list(range(len(read)))
    kinds = ["start", *["metrics"] * 9, "artifact", "model", "child", "finish"]
    assert [event["kind"] for event in read] == kinds
    assert read[1]["values"] == {"meta/loss": 1.0, "inner/return": 0.0}
    assert (tmp_path / read[-3]["path"] / "rule.json").read_text() == "v1"


def test_repeating_steps_after_a_resume_records_nothing_twice(tmp_path):
    record(tmp_path, range(10)).close()
    before = (tmp_path / FILE).read_bytes()
    again = record(tmp_path, range(6, 10))
    assert again.last_step == 9
    again.close()
    assert (tmp_path / FILE).read_bytes() == before
    record(tmp_path, range(6, 12)).close()
    added = events(tmp_path)[len(before.splitlines()) :]
    assert [(event["kind"], event.get("step")) for event in added] == [
        ("metrics", 10),
        ("metrics", 10),
        ("metrics", 11),
        ("finish", None),
    ]


def test_artifacts_are_recorded_when_they_change_and_models_once_for_each_content(tmp_path):
    for rule in ["v1", "v2", "v1"]:
        record(tmp_path, range(1), rule).close()
    kinds = [event["kind"] for event in events(tmp_path)]
    assert kinds.count("artifact") == 3
    assert kinds.count("model") == 2
    copies = {
        (tmp_path / event["path"] / "rule.json").read_text() for event in events(tmp_path) if event["kind"] == "model"
    }
    assert copies == {"v1", "v2"}


def test_nonfinite_values_are_counted_not_recorded_and_keep_their_identity(tmp_path):
    for _ in range(2):
        with_infinity = Journal(tmp_path)
        with_infinity.start(**START)
        with_infinity.metrics(0, {"a": float("inf"), "b": float("nan"), "c": 1.0})
        with_infinity.metrics(1, {"a": 1.0, "b": 2.0, "c": 1.0})
        with_infinity.metrics(1, {"a": float("nan"), "b": 2.0, "c": 1.0})
        with_infinity.close()
    _, first, second = events(tmp_path)
    assert first["values"] == {"c": 1.0, "sys/nonfinite": 2.0}
    assert first["nonfinite"] == ["a", "b"]
    assert second["values"] == {"a": 1.0, "b": 2.0, "c": 1.0}


def test_every_prefix_of_a_torn_journal_opens_and_is_completed_to_the_same_record(tmp_path):
    record(tmp_path, range(3)).close()
    whole = (tmp_path / FILE).read_bytes()
    expected = [{**event, "time": 0} for event in events(tmp_path)]
    for length in range(0, len(whole), 7):
        (tmp_path / FILE).write_bytes(whole[:length])
        record(tmp_path, range(3)).close()
        assert [{**event, "time": 0} for event in events(tmp_path)] == expected


def test_a_last_line_with_garbage_is_cut_off(tmp_path):
    record(tmp_path, range(3)).close()
    whole = (tmp_path / FILE).read_bytes()
    for tail in [b"\0" * 4096, b'{"seq":9}\n', whole.splitlines(keepends=True)[2]]:
        (tmp_path / FILE).write_bytes(whole + tail)
        Journal(tmp_path).close()
        assert (tmp_path / FILE).read_bytes() == whole


def test_every_flipped_bit_before_the_last_line_is_refused_by_line_number(tmp_path):
    record(tmp_path, range(3)).close()
    whole = (tmp_path / FILE).read_bytes()
    last = whole[:-1].rindex(b"\n")
    second_last = whole[:last].rindex(b"\n")
    for at in range(0, second_last, 5):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << (at % 8)
        (tmp_path / FILE).write_bytes(flipped)
        line = whole[:at].count(b"\n") + 1
        with pytest.raises(ArtifactRefused, match=rf"line {line}: damaged"):
            Journal(tmp_path)
        assert (tmp_path / FILE).read_bytes() == flipped
    lines = whole.splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(ArtifactRefused, match="line 3"):
        Journal(tmp_path)


def test_start_comes_first(tmp_path):
    with pytest.raises(ValueError, match="start"):
        Journal(tmp_path).metrics(0, {"a": 1.0})


def test_an_unwritable_place_is_a_disk_error(tmp_path):
    with pytest.raises(DiskError):
        Journal(tmp_path / "missing")


def test_appending_costs_less_than_a_fifth_of_a_millisecond(tmp_path):
    journal = Journal(tmp_path)
    journal.start(**START)
    values = {f"inner/metric_{i}": i / 7 for i in range(20)}
    start = time.perf_counter()
    for step in range(2000):
        journal.metrics(step, values)
    cost = (time.perf_counter() - start) / 2000
    print(f"append: {cost * 1e6:.0f} us")
    assert cost < 2e-4


CHILD = """
    import sys, time
    from pathlib import Path
    from runs.journal import Journal
    journal = Journal(Path(sys.argv[1]))
    journal.start(run="r", experiment="e", name="n", params={}, tags={})
    print("ready", flush=True)
    for step in range(100000):
        journal.metrics(step, {"a": step, "b": step / 3})
"""


def test_killed_while_appending_loses_at_most_the_line_being_written(tmp_path):
    program = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)]
    for delay in [0.01, 0.03, 0.05]:
        child = subprocess.Popen(program, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    torn = subprocess.run(program, env={**os.environ, "LEARNED_RL_CRASH_AT": "journal"}, check=False)
    assert torn.returncode == -signal.SIGKILL
    raw = (tmp_path / FILE).read_bytes()
    assert not raw.endswith(b"\n")
    journal = Journal(tmp_path)
    journal.metrics(journal.last_step + 1, {"a": 0.0, "b": 0.0})
    journal.close()
    steps = [event["step"] for event in events(tmp_path)[1:]]
    assert steps == list(range(len(steps)))
    assert len(steps) == raw.count(b"\n")


def test_a_line_that_does_not_fit_on_the_disk_is_taken_back(tmp_path):
    code = """
        import resource, sys
        from pathlib import Path
        from runs.errors import DiskError
        from runs.journal import Journal
        journal = Journal(Path(sys.argv[1]))
        journal.start(run="r", experiment="e", name="n", params={}, tags={})
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        try:
            for step in range(100):
                journal.metrics(step, {"a": step})
        except DiskError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        journal.metrics(journal.last_step + 1, {"a": 1})
    """
    program = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert "writing the journal failed" in done.stdout
    assert "bytes, " in done.stdout
    steps = [event["step"] for event in events(tmp_path)[1:]]
    assert steps == list(range(len(steps)))
    assert len((tmp_path / FILE).read_bytes().splitlines()) == len(steps) + 1
