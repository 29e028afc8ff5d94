import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from runs.errors import DiskError, RunBusy
from runs.lock import RunLock

HOLDER = """
    import sys, time
    from pathlib import Path
    from runs.errors import RunBusy
    from runs.lock import RunLock
    try:
        with RunLock(Path(sys.argv[1])):
            print("holding", flush=True)
            time.sleep(float(sys.argv[2]))
    except RunBusy as error:
        print(error, flush=True)
        sys.exit(error.exit_code)
"""


def holder(folder, seconds=60.0):
    program = [sys.executable, "-c", textwrap.dedent(HOLDER), str(folder), str(seconds)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, text=True)


def test_the_second_process_is_told_who_holds_the_folder_and_a_killed_holder_is_replaced(tmp_path):
    with holder(tmp_path) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "holding\n"
        start = time.perf_counter()
        with pytest.raises(RunBusy) as caught, RunLock(tmp_path):
            pass
        assert time.perf_counter() - start < 0.5
        for said in (f"process {first.pid} on {os.uname().nodename}", "started 2"):
            assert said in str(caught.value)
        first.send_signal(signal.SIGKILL)
    stale = json.loads((tmp_path / "LOCK.info").read_bytes())
    assert stale["pid"] == first.pid
    with RunLock(tmp_path):
        assert json.loads((tmp_path / "LOCK.info").read_bytes())["pid"] == os.getpid()
    assert not (tmp_path / "LOCK.info").exists()


def test_of_processes_that_start_at_once_exactly_one_wins(tmp_path):
    processes = [holder(tmp_path, 1.5) for _ in range(4)]
    outputs = [process.communicate()[0] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 75, 75, 75]
    assert sum(output == "holding\n" for output in outputs) == 1


def test_the_lock_is_held_against_the_same_process_too(tmp_path):
    with RunLock(tmp_path), pytest.raises(RunBusy), RunLock(tmp_path):
        pass
    with RunLock(tmp_path):
        pass


def test_a_place_that_cannot_be_locked_is_a_disk_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError), RunLock(tmp_path / "file"):
        pass
