"""What every command that works on a run folder does around its work: lock, journal, MLflow, signals, the page."""

import argparse
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from runs.commands import options
from runs.folder import RunFolder
from runs.journal import Journal
from runs.lock import RunLock
from runs.mlflow_sink import MlflowSink
from runs.report import page
from runs.signals import StopRequest, stop_on_signal


@contextlib.contextmanager
def recording(
    path: Path, settings: Mapping[str, Any], known: argparse.Namespace, experiment: str, tags: Mapping[str, str]
) -> Iterator[tuple[RunFolder, Journal, StopRequest]]:
    """A locked run folder with its journal, drained into MLflow in the background, until done or told to stop."""
    command = options.that_matter(known.words)
    folder = RunFolder.create_or_resume(path, settings, jax.devices()[0].device_kind, command)
    with RunLock(folder.path), stop_on_signal() as stop:
        journal = Journal(folder.path)
        journal.start(run=folder.run, experiment=experiment, name=folder.path.name, params=settings, tags=tags)
        sink = MlflowSink(folder.path, known.tracking_uri)
        try:
            yield folder, journal, stop
            if not stop.requested:
                journal.artifact(page.write(folder.path).name)
            journal.finish("KILLED" if stop.requested else "FINISHED")
        except BaseException:
            journal.finish("FAILED")
            raise
        finally:
            journal.close()
            waiting = sink.close(timeout=3.0 if stop.requested else 60.0)  # who stops us may not wait for long
            if waiting:
                print(
                    f"MLflow at {sink.uri} does not take {waiting} records; they wait in {folder.path}, "
                    "and go out when the same command is run again",
                    flush=True,
                )


def stopped(folder: RunFolder, stop: StopRequest, where: str) -> dict[str, Any]:
    print(f"stopped {where}, saved; the same command goes on", flush=True)
    return {"run": folder.run, "path": str(folder.path), "exit": stop.exit_code}
