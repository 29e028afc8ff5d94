"""What a person sees while a run works: one live line on a terminal, a plain line now and then elsewhere."""

import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Self, TextIO


class Line:
    """Context manager that shows how far something is.

    Writes to standard error by default, so that results can be piped. A closed pipe silences it; it never raises into
    the work. Costs microseconds except when something is due to be shown.

    Args:
      total: what `completed` will be at the end.
      start: what it is now.
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
        self._begun = time.monotonic()
        self._shown = -self._period

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
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

    def due(self, completed: int) -> bool:
        """Whether it is time to show something again; at the end it always is."""
        return not self._quiet and (time.monotonic() - self._shown >= self._period or completed >= self.total)

    def show(self, completed: int, line: str) -> None:
        """Shows a line, and on a terminal the bar."""
        self._shown = time.monotonic()
        try:
            if self._bar:
                self._bar.update(self._bar.task_ids[0], completed=completed, description=line, refresh=True)
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


class Progress(Line):
    """Of a meta-training: step, time left, environment steps per second, loss, dead lives and checkpoint age."""

    def __enter__(self) -> Self:
        super().__enter__()
        self._saved = self._begun
        return self

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
        if not self.due(step):
            return
        now = time.monotonic()
        elapsed = max(now - self._begun, 1e-9)
        left = elapsed / max(step - self._start, 1) * (self.total - step)
        self.show(
            step,
            f"step {step}/{self.total} - {_clock(left)} left - {_short(env_steps / elapsed)} env steps/s"
            f" - loss {loss:.4g} - dead {dead:.1%} - saved {now - self._saved:.0f} s ago",
        )


class Evaluations(Line):
    """Of a comparison: which evaluation is under way, and the time left, by the environment steps of those to come.

    Args:
      sizes: environment steps of every evaluation, in order.
      command: what they are made for.
    """

    def __init__(
        self, sizes: Sequence[int], *, command: str = "transfer", quiet: bool = False, stream: TextIO | None = None
    ):
        super().__init__(sum(sizes), quiet=quiet, stream=stream, every=0.0)
        self._sizes, self._command = sizes, command
        self._under_way = 0
        self._trained = 0

    def begin(self, done: int, what: str) -> None:
        """Reports that evaluation `done` begins, or that all are done. Those that are skipped were kept from before."""
        self._trained += self._under_way
        self._under_way = self._sizes[done] if done < len(self._sizes) else 0
        before = sum(self._sizes[:done])
        if not self.due(before):
            return
        speed = self._trained / max(time.monotonic() - self._begun, 1e-9)
        known = f"{_clock((self.total - before) / speed)} left - {_short(speed)} env steps/s - " if speed else ""
        self.show(before, f"{self._command} {done}/{len(self._sizes)} - {known}{what}")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def _short(number: float) -> str:
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:.3g} {letter}"
    return f"{number:.3g}"
