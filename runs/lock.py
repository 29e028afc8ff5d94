"""One process at a time in a run folder."""

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from runs.durable import disk_errors, replace_file
from runs.errors import RunBusy


class RunLock:
    """Context manager that holds a run folder.

    The operating system holds the lock (`LOCK`), so it is free again the moment its holder dies, however it dies.
    `LOCK.info` beside it says who the holder is; what a killed holder left there is overwritten by the next one.

    Raises (on entering, at once):
      RunBusy: another process holds the folder; the message names its host, pid and start time.
      DiskError: the folder cannot be written.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = FileLock(folder / "LOCK", timeout=0)

    def __enter__(self) -> "RunLock":
        with disk_errors("locking the run folder", self.folder):
            try:
                self._lock.acquire()
            except Timeout:
                raise RunBusy(self._busy()) from None
            holder = {"host": socket.gethostname(), "pid": os.getpid(), "start": time.strftime("%Y-%m-%d %H:%M:%S%z")}
            replace_file(self._info, json.dumps(holder).encode())
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # the next holder overwrites it
            self._info.unlink(missing_ok=True)
        self._lock.release()

    @property
    def _info(self) -> Path:
        return self.folder / "LOCK.info"

    def _busy(self) -> str:
        try:
            holder: dict[str, Any] = json.loads(self._info.read_bytes())
            who = f"process {holder['pid']} on {holder['host']}, started {holder['start']}"
        except (OSError, ValueError, KeyError):  # the holder is between taking the lock and saying so
            who = "another process"
        return f"{self.folder} is in use by {who}; wait for it, stop it, or choose another run directory"
