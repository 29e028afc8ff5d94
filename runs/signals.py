"""Stopping when asked: the first signal lets the step finish and the state be saved, the second one ends at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Polled by the loop: `requested` turns true at the first SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self._signal: int | None = None

    @property
    def requested(self) -> bool:
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        """What the process should exit with: 0 if nothing was requested, 143 for SIGTERM, 130 for SIGINT."""
        return 128 + self._signal if self._signal else 0


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Yields a `StopRequest`; must be entered in the main thread, and puts the former handlers back on leaving.

    Python runs handlers between two instructions of the main thread, which may sit in a compilation for minutes. The
    second signal must not wait for that, so it is a thread of its own that counts them, through the wake-up pipe.
    """
    stop = StopRequest()

    def handle(number: int, _: object) -> None:
        stop._signal = stop._signal or number

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    former_pipe = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    former = {number: signal.signal(number, handle) for number in SIGNALS}
    watcher = threading.Thread(target=_end_at_second, args=(reading,), daemon=True)
    watcher.start()
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(former_pipe)
        os.close(writing)
        watcher.join()
        os.close(reading)


def _end_at_second(reading: int) -> None:
    count = 0
    while number := os.read(reading, 1):  # empty when the pipe is closed
        count += number[0] in SIGNALS
        if count == 2:
            os.write(2, b"\nstopped at once\n")
            os._exit(128 + number[0])
