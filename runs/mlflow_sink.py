"""Draining the journal into MLflow in the background, so that no server can slow or stop training.

Training never talks to the sink: it appends to the journal, and a process beside it (`python -m runs.mlflow_sink`)
reads that file. A thread would not do: importing MLflow, and the garbage collections that follow, hold the interpreter
lock for up to 0.18 s at a time (measured), and MLflow would stay in the training process for good.
"""

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

from filelock import FileLock

from runs.mlflow_drain import LOCK, Drainer, brief, drain, waiting
from runs.mlflow_store import absolute_uri, fetch_rule

__all__ = ["MlflowSink", "drain", "fetch_rule", "waiting"]

AFTER_DEATH = "30"

logger = logging.getLogger(__name__)


class MlflowSink:
    """Drains the journal in `folder` into the store at `uri` until it is closed. Never raises, never blocks training.

    While the store does not answer it warns once on standard error, waits 1, 2, 4 ... seconds between attempts and
    goes on from where it was. If the training process dies, it sends what is there (for at most 30 s) and ends. What is
    left is sent by the next process that works on this run, or by `drain`.

    Args:
      folder: the run folder.
      uri: any MLflow tracking address; see `runs.mlflow_store.absolute_uri`.
      poll: seconds between looks at the journal.
      longest_pause: seconds between attempts at most.
    """

    def __init__(self, folder: Path, uri: str | None = None, poll: float = 1.0, longest_pause: float = 60.0):
        self.folder = folder.absolute()
        self.uri = absolute_uri(uri)
        command = [sys.executable, "-m", "runs.mlflow_sink", str(self.folder), self.uri, str(poll), str(longest_pause)]
        # A session of its own: Ctrl-C is for the training process, which then closes the sink in good order.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, text=True
        )

    def close(self, timeout: float = 10.0) -> int:
        """Sends what it can within `timeout` seconds; returns how many events still wait."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # it is gone already, or hangs
            self._process.communicate(f"{timeout}\n", timeout=timeout)
        self._process.kill()  # at any moment is fine: every event can be repeated
        self._process.communicate()
        return waiting(self.folder, self.uri)


class _End:
    """Knows when to stop: `closing` once the training process said so or died, and the time to be gone by."""

    def __init__(self) -> None:
        self.closing = threading.Event()
        self.deadline = float("inf")
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        timeout = sys.stdin.readline() or AFTER_DEATH
        self.deadline = time.monotonic() + float(timeout)
        self.closing.set()


def _serve(folder: Path, uri: str, poll: float, longest_pause: float, end: _End) -> None:
    with contextlib.ExitStack() as held:
        drainer: Drainer | None = None
        failures = 0
        while time.monotonic() < end.deadline:
            closing = end.closing.is_set()
            try:
                if drainer is None:
                    held.enter_context(FileLock(folder / LOCK, timeout=0))
                    drainer = Drainer(folder, uri)
                sent = drainer.send()
            except Exception as error:  # whatever it is: the journal waits
                if failures == 0:
                    logger.warning("MLflow at %s fails (%s); the journal keeps everything", uri, brief(error))
                failures += 1
                pause = min(2.0 ** (failures - 1), longest_pause)
            else:
                if failures:
                    logger.warning("MLflow at %s answers again", uri)
                failures, pause = 0, 0.0 if sent else poll
            if closing and pause:  # nothing is left, or there is no hope within the time that is
                return
            end.closing.wait(pause)


if __name__ == "__main__":
    os.nice(10)  # training comes first
    warnings.simplefilter("ignore")  # of MLflow's dependencies; nobody asked for them
    logging.basicConfig(format="%(message)s")
    _serve(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), _End())
