"""What a person sees while a run works: one live line on a terminal, a plain line now and then elsewhere."""

import os
import sys
import time
from typing import Any, TextIO


class Progress:
    """Context manager that shows step, time left, environment steps per second, loss, dead lives and checkpoint age.

    Writes to standard error by default, so that results can be piped. A closed pipe silences it; it never raises into
    training. `update` costs microseconds except when something is due to be shown.

    Args:
      total: outer steps of the whole run.
      start: the step it resumes from.
      quiet: show nothing.
      stream: where to write.
      every: seconds between plain lines; a terminal is refreshed four times a second.
    """

    def __init__(
        self, total: int, *, start: int = 0, quiet: bool = False, stream: TextIO | None = None, every: float = 5.0
    ):
        self.total = total
        self._start = start
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._terminal = not quiet and self._stream.isatty()
        self._period = 0.25 if self._terminal else every
        self._bar: Any = None
        self._begun = self._saved = time.monotonic()
        self._shown = -self._period

    def __enter__(self) -> "Progress":
        self._begun = self._saved = time.monotonic()
        if self._terminal:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as RichProgress

            columns = (BarColumn(bar_width=20), TextColumn("{task.description}", markup=False))
            self._bar = RichProgress(*columns, console=Console(file=self._stream), auto_refresh=False)
            self._bar.add_task("starting", total=self.total, completed=self._start)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            try:
                self._bar.stop()
            except (OSError, ValueError):
                self._silence()

    def saved(self) -> None:
        """Says that a checkpoint was saved now."""
        self._saved = time.monotonic()

    def update(self, step: int, *, env_steps: int, loss: float, dead: float) -> None:
        """Reports the state after outer step `step`.

        Args:
          step: outer steps done, over all processes that worked on this run.
          env_steps: environment steps since this process began.
          loss: mean loss of the lives.
          dead: fraction of lives that were masked.
        """
        now = time.monotonic()
        if self._quiet or (now - self._shown < self._period and step < self.total):
            return
        self._shown = now
        elapsed = max(now - self._begun, 1e-9)
        left = elapsed / max(step - self._start, 1) * (self.total - step)
        line = (
            f"step {step}/{self.total} - {_clock(left)} left - {_short(env_steps / elapsed)} env steps/s"
            f" - loss {loss:.4g} - dead {dead:.1%} - saved {now - self._saved:.0f} s ago"
        )
        try:
            if self._bar:
                self._bar.update(self._bar.task_ids[0], completed=step, description=line, refresh=True)
            else:
                print(line, file=self._stream, flush=True)
        except (OSError, ValueError):  # the reader has gone, as in `2>&1 | head`
            self._silence()

    def _silence(self) -> None:
        self._quiet, self._bar = True, None
        try:  # or the interpreter fails on its way out, flushing what nobody reads
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        except (OSError, ValueError):
            pass  # not a file, or closed already


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def _short(number: float) -> str:
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:.3g} {letter}"
    return f"{number:.3g}"
