"""Carrying the journal of a run over to MLflow, batch by batch.

How far it came stands in `mlflow.json` in the run folder, replaced in one step after each batch. Nothing is lost,
because the position moves only after the store has answered; nothing is doubled, because `runs.mlflow_events` can
repeat any event.
"""

import dataclasses
import itertools
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from runs import journal
from runs.durable import crash_point, replace_file
from runs.errors import RunBusy, UsageError, UserError
from runs.journal import Event
from runs.mlflow_events import METRICS_A_CALL, Impossible, Recorded, apply
from runs.mlflow_store import absolute_uri, connect

if TYPE_CHECKING:
    from mlflow import MlflowClient

CURSOR, LOCK = "mlflow.json", "mlflow.lock"

logger = logging.getLogger(__name__)


def drain(folder: Path, uri: str | None = None) -> int:
    """Sends everything that waits, now; returns how many events were sent.

    Without `uri`, the store that the run used before is meant.

    Raises:
      RunBusy: another process is draining this run.
      UsageError: the store cannot be reached or does not accept the events.
      ArtifactRefused: the journal is damaged.
    """
    uri = absolute_uri(uri or Position.load(folder).uri)
    try:
        with FileLock(folder / LOCK, timeout=0):
            drainer = Drainer(folder, uri)
            return sum(iter(drainer.send, 0))
    except Timeout:
        raise RunBusy(f"{folder} is being sent to MLflow by another process") from None
    except UserError:
        raise
    except Exception as error:
        raise UsageError(f"MLflow at {uri} fails: {brief(error)}") from error


def waiting(folder: Path, uri: str | None = None) -> int:
    """How many events of the journal in `folder` the store at `uri` (or the one used before) does not have yet."""
    position = Position.load(folder)
    known = position.next if uri is None or position.uri == absolute_uri(uri) else 0
    return sum(1 for _ in journal.read_events(folder)) - known


@dataclasses.dataclass
class Position:
    """The content of `mlflow.json`. Another `uri` starts from the beginning."""

    uri: str | None = None
    next: int = 0
    recorded: Recorded = dataclasses.field(default_factory=Recorded)
    refused: list[int] = dataclasses.field(default_factory=list)

    @classmethod
    def load(cls, folder: Path) -> "Position":
        try:
            fields: dict[str, Any] = json.loads((folder / CURSOR).read_bytes())
            recorded = Recorded(**fields.pop("recorded"))
            return cls(recorded=recorded, **fields)
        except (OSError, ValueError, KeyError, TypeError):
            return cls()  # sending everything again is harmless

    def save(self, folder: Path) -> None:
        replace_file(folder / CURSOR, json.dumps(dataclasses.asdict(self), indent=1).encode())


class Drainer:
    """Sends batches in order. Only the holder of the folder's `mlflow.lock` may have one."""

    def __init__(self, folder: Path, uri: str):
        self._folder = folder
        self._uri = uri
        position = Position.load(folder)
        self._position = position if position.uri == uri else Position(uri)
        self._offset = count = 0
        for _, end in itertools.islice(journal.read_events(folder), self._position.next):
            self._offset, count = end, count + 1
        if count < self._position.next:  # the journal is an older one, put back from a copy
            self._position, self._offset = Position(uri), 0
        self._client: MlflowClient | None = None

    def send(self) -> int:
        """Sends the next batch; returns how many events it held, 0 if none waits."""
        batch = self._next_batch()
        if not batch:
            return 0
        events = [event for event, _ in batch]
        self._client = self._client or connect(self._uri)
        # Deep enough a copy: should `apply` fail half-way, the position in memory must stay what the file says.
        recorded = dataclasses.replace(self._position.recorded, children=dict(self._position.recorded.children))
        refused = list(self._position.refused)
        try:
            apply(self._client, self._uri, self._folder, recorded, events)
        except Exception as error:
            if not _hopeless(error):
                raise
            logger.warning("MLflow will not have event %d of %s: %s", events[0]["seq"], self._folder, brief(error))
            refused += [event["seq"] for event in events]
        crash_point("mlflow applied")
        position = Position(self._uri, self._position.next + len(events), recorded, refused)
        position.save(self._folder)
        self._position, self._offset = position, batch[-1][1]
        return len(events)

    def _next_batch(self) -> list[tuple[Event, int]]:
        """As many `metrics` events as fit one call, or one event of another kind."""
        path = self._folder / journal.FILE
        if not path.exists() or path.stat().st_size <= self._offset:
            return []
        batch: list[tuple[Event, int]] = []
        size = 0
        for event, end in journal.read_events(self._folder, self._offset, self._position.next):
            size += len(event.get("values", ()))
            if batch and (event["kind"] != "metrics" or size > METRICS_A_CALL):
                break
            batch.append((event, end))
            if event["kind"] != "metrics":
                break
        if batch:  # what the store has, the journal must not lose in a power cut
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        return batch


def _hopeless(error: Exception) -> bool:
    return isinstance(error, Impossible) or getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE"


def brief(error: Exception) -> str:
    """One line about an error of a library."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
