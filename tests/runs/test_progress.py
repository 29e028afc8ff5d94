import io
import os
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

from runs.progress import Evaluations, Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_are_throttled_and_the_last_step_is_always_shown():
    stream = io.StringIO()
    with Progress(1000, stream=stream, every=60.0) as progress:
        for step in range(1, 1001):
            progress.update(step, env_steps=step * 5000, loss=1 / step, dead=0.125)
    first, last = stream.getvalue().splitlines()
    assert first.startswith("step 1/1000 - ")
    assert "step 1000/1000 - 0:00:00 left" in last
    assert "env steps/s - loss 0.001 - dead 12.5% - saved 0 s ago" in last


def test_a_terminal_shows_the_same_line_live():
    stream = Terminal()
    with Progress(10, start=5, stream=stream) as progress:
        progress.saved()
        progress.update(10, env_steps=2_000_000, loss=-0.5, dead=0.0)
    assert "step 10/10" in stream.getvalue()


def test_evaluations_say_what_is_trained_and_when_all_of_it_will_be(monkeypatch):
    """Time left by environment steps: those kept from an earlier process count as done, but not as trained."""
    now = 100.0
    monkeypatch.setattr("runs.progress.time", SimpleNamespace(monotonic=lambda: now))
    stream = io.StringIO()
    with Evaluations([1000, 1000, 3000, 5000], stream=stream) as line:
        line.begin(1, "ppo on Catch")  # the first one is kept
        now += 10
        line.begin(2, "a2c on Catch")
        now += 30
        line.begin(3, "ppo on Maze")
        now += 60
        line.begin(4, "done")
    assert stream.getvalue().splitlines() == [
        "transfer 1/4 - ppo on Catch",
        "transfer 2/4 - 0:01:20 left - 100 env steps/s - a2c on Catch",
        "transfer 3/4 - 0:00:50 left - 100 env steps/s - ppo on Maze",
        "transfer 4/4 - 0:00:00 left - 90 env steps/s - done",
    ]
    terminal = Terminal()
    with Evaluations([1, 2], stream=terminal) as line:
        line.begin(0, "ppo on Catch")
        line.begin(2, "done")
    assert "transfer 2/2" in terminal.getvalue()


def test_quiet_is_quiet():
    stream = Terminal()
    with Progress(1, quiet=True, stream=stream) as progress:
        progress.update(1, env_steps=1, loss=0.0, dead=0.0)
    assert stream.getvalue() == ""


def test_an_update_costs_less_than_a_fifth_of_a_millisecond():
    for stream in [io.StringIO(), Terminal()]:
        with Progress(10**9, stream=stream) as progress:
            start = time.perf_counter()
            count = 0
            while time.perf_counter() - start < 0.6:
                progress.update(count, env_steps=count, loss=0.0, dead=0.0)
                count += 1
            cost = 0.6 / count
        print(f"update: {cost * 1e6:.1f} us")
        assert cost < 2e-4


def test_a_closed_pipe_silences_it_without_harm():
    code = """
        import sys
        from runs.progress import Evaluations, Progress
        with Progress(10**6, stream=sys.stdout, every=0.0) as progress:
            for step in range(1000):
                progress.update(step, env_steps=step, loss=0.0, dead=0.0)
        print("trained", file=sys.stderr)
    """
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "trained\n")
