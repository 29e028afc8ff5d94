import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from runs.signals import stop_on_signal

LOOP = """
    import hashlib, sys, time
    from runs.signals import stop_on_signal
    with stop_on_signal() as stop:
        print("ready", flush=True)
        while not stop.requested:
            time.sleep(0.01)
        if sys.argv[1] == "stuck":  # C code that never lets the main thread run a handler
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)
        print("saved", flush=True)
    sys.exit(stop.exit_code)
"""


def loop(how):
    program = [sys.executable, "-c", textwrap.dedent(LOOP), how]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_lets_the_loop_save(number, code):
    with loop("well") as process:
        process.send_signal(number)
        assert process.communicate(timeout=10)[0] == "saved\n"
    assert process.returncode == code


def test_the_second_signal_ends_at_once_even_inside_foreign_code():
    with loop("stuck") as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert time.perf_counter() - start < 1.0
    assert (out, process.returncode) == ("", 130)
    assert err == "\nstopped at once\n"


def test_handlers_are_put_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with stop_on_signal() as stop:
        assert (stop.requested, stop.exit_code) == (False, 0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        assert stop.exit_code == 143
    assert before == {number: signal.getsignal(number) for number in before}
