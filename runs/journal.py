"""The journal: an append-only record of everything a run reports. It is the source of truth; trackers drain it.

One JSON object a line, `{"seq": 7, "time": <ms>, "kind": "metrics", ..., "crc": <crc32 of what stands before>}`:

  start     run, experiment, name, params, tags
  metrics   step, values, nonfinite (names whose value was NaN or infinite)
  artifact  path (relative to the run folder), artifact_path, digest
  model     name, path (the journal's own copy of the folder), digest, tags
  challenge name, digest (of the model), ours, tasks, env_steps, references, scores ({contender: runs x tasks})
  child     id, name, tags, params, values, nonfinite: a nested run, complete when it is reported
  finish    status

A resumed run repeats the steps after its last checkpoint and, because runs are deterministic, reports the same again.
So an event whose identity is already in the journal is not written a second time, and whoever writes to the journal
need not know whether the run was ever interrupted.
"""

import json
import math
import os
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runs.durable import copy_folder, crash_point, digest, disk_errors, sync_folder
from runs.errors import ArtifactRefused

Event = dict[str, Any]
FILE = "journal.jsonl"


class Journal:
    """Appends events to `journal.jsonl` in a run folder.

    Every line is handed to the operating system at once, so `kill -9` loses at most the line being written; `flush`,
    and an append more than `sync_every` seconds after the last wait, wait for the disk too. Opening the journal cuts
    off a torn last line. There must be one writer at a time: hold the run folder's lock.

    Raises (on opening):
      ArtifactRefused: a line before the last one is damaged.
      DiskError: the file cannot be read or written; also from every method that appends. A line that did not fit is
        taken back, so the journal stays sound.
    """

    def __init__(self, folder: Path, sync_every: float = 5.0):
        self.folder = folder
        self.path = folder / FILE
        self.last_step = -1
        self._sync_every = sync_every
        self._steps: dict[tuple[str, ...], int] = {}  # metric names -> last step recorded for them
        self._seen: set[tuple[str, ...]] = set()
        self.registered: tuple[str, str] | None = None  # name and digest of the model that was recorded last
        self._latest: dict[tuple[str, str], str] = {}  # artifact -> digest of what was recorded last
        self._status: str | None = None
        self._started = False
        with disk_errors("opening the journal", folder):
            self._length, self._next = self._replay()
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.ftruncate(self._file, self._length)
            sync_folder(folder)
        self._synced = time.monotonic()

    def start(
        self, *, run: str, experiment: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """Says what this run is. Must come first; once is enough."""
        if not self._started:
            self._append("start", run=run, experiment=experiment, name=name, params=dict(params), tags=dict(tags))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Records scalars at an outer step. The same names must be reported at rising steps.

        Values that are not finite are left out, named in the event and counted in `sys/nonfinite`.
        """
        finite, nonfinite = _split(values)
        if step > self._steps.get(_names(finite, nonfinite), -1):
            self._append("metrics", step=step, values=finite, nonfinite=nonfinite)

    def artifact(self, path: str | Path, artifact_path: str = "") -> None:
        """Records a file or folder inside the run folder, again only when its content differs from the last record."""
        relative = (self.folder / path).resolve().relative_to(self.folder.resolve()).as_posix()
        content = digest(self.folder / relative)
        if self._latest.get((relative, artifact_path)) != content:
            self._append("artifact", path=relative, artifact_path=artifact_path, digest=content)

    def model(self, name: str, folder: str | Path, tags: Mapping[str, str] | None = None) -> None:
        """Records that `folder` is to become a version of the registered model `name`; the same content once only.

        The journal keeps its own copy in `models/`: by the time a tracker is reached, `folder` may hold another rule.
        """
        source = self.folder / folder
        content = digest(source)
        if ("model", name, content) in self._seen:
            return
        copy = self.folder / "models" / content[:16]
        with disk_errors("keeping a copy of the rule", self.folder):
            if not copy.exists():
                copy_folder(source, copy)
        path = copy.relative_to(self.folder).as_posix()
        self._append("model", name=name, path=path, digest=content, tags=dict(tags or {}))

    def challenge(
        self,
        ours: str,
        tasks: Sequence[str],
        env_steps: Sequence[int],
        scores: Mapping[str, Sequence[Sequence[float]]],
        references: Sequence[str] = (),
    ) -> None:
        """Records how the model that was recorded last, the contender `ours`, did beside others; once a model.

        A tracker decides by it whether that model is now the champion. Nothing is recorded in a run without a model.

        Args:
          scores: of every contender, runs x tasks; what is not finite is recorded as missing.
          references: the contenders of which the best is 1 on the normalised scale.
        """
        if not self.registered or ("challenge", *self.registered) in self._seen:
            return
        (name, content), found = self.registered, {}
        for contender, runs in scores.items():
            found[contender] = [[x if math.isfinite(x) else None for x in run] for run in runs]
        exam = {"tasks": list(tasks), "env_steps": list(env_steps), "references": list(references)}
        self._append("challenge", name=name, digest=content, ours=ours, **exam, scores=found)

    def child(
        self,
        identity: str,
        *,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
    ) -> None:
        """Records a whole nested run, such as one transfer evaluation; once per identity."""
        if ("child", identity) not in self._seen:
            finite, bad = _split(metrics)
            event = {"id": identity, "name": name, "tags": dict(tags), "params": dict(params)}
            self._append("child", **event, values=finite, nonfinite=bad)

    def finish(self, status: str) -> None:
        """Records how the run ended: FINISHED, FAILED or KILLED. A resumed run may end again, differently."""
        if self._status != status:
            self._append("finish", status=status)
        self.flush()

    def flush(self) -> None:
        """Waits until everything recorded so far is on the disk. Call it before saving a checkpoint."""
        with disk_errors("flushing the journal", self.folder):
            os.fsync(self._file)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Flushes and closes the file; the journal cannot be used afterwards."""
        self.flush()
        os.close(self._file)

    def _append(self, kind: str, **fields: Any) -> None:
        if not self._started and kind != "start":
            raise ValueError("the first event of a journal is `start`")
        event = {"seq": self._next, "time": time.time_ns() // 1_000_000, "kind": kind, **fields}
        line = _encode(event)
        with disk_errors("writing the journal", self.folder, needed=len(line)):
            try:
                self._write(line)
            except OSError:
                os.ftruncate(self._file, self._length)
                raise
        self._length += len(line)
        self._next += 1
        self._remember(event)
        if time.monotonic() - self._synced > self._sync_every:
            self.flush()

    def _write(self, line: bytes) -> None:
        if os.environ.get("LEARNED_RL_CRASH_AT") == "journal":
            os.write(self._file, line[: len(line) // 2])
            crash_point("journal")
        written = 0
        while written < len(line):  # a full disk writes a part first and raises on the rest
            written += os.write(self._file, line[written:])

    def _replay(self) -> tuple[int, int]:
        length = count = 0
        for event, end in read_events(self.folder):
            length, count = end, count + 1
            self._remember(event)
        return length, count

    def _remember(self, event: Event) -> None:
        kind = event["kind"]
        self._started = True
        self._status = event["status"] if kind == "finish" else None
        if kind == "metrics":
            self._steps[_names(event["values"], event["nonfinite"])] = event["step"]
            self.last_step = max(self.last_step, event["step"])
        elif kind == "artifact":
            self._latest[event["path"], event["artifact_path"]] = event["digest"]
        elif kind == "model":
            self._seen.add(("model", event["name"], event["digest"]))
            self.registered = event["name"], event["digest"]
        elif kind == "challenge":
            self._seen.add(("challenge", event["name"], event["digest"]))
        elif kind == "child":
            self._seen.add(("child", event["id"]))


def read_events(folder: Path, offset: int = 0, first: int = 0) -> Iterator[tuple[Event, int]]:
    """Reads whole events from byte `offset`, where event number `first` begins, each with the offset of the next one.

    Stops before a last line that is torn or still being written.

    Raises:
      ArtifactRefused: a line before the last one is damaged; the message names it.
    """
    path = folder / FILE
    if not path.exists():
        return
    damaged: int | None = None
    with open(path, "rb") as file:
        file.seek(offset)
        for seq, line in enumerate(file, start=first):
            if damaged is not None:
                raise ArtifactRefused(f"{path}, line {damaged + 1}: damaged (checksum or sequence number differs)")
            event = _decode(line)
            if event is None or event["seq"] != seq:
                damaged = seq
                continue
            offset += len(line)
            yield event, offset


def _split(values: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    numbers = {name: float(value) for name, value in values.items()}
    finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
    nonfinite = sorted(numbers.keys() - finite.keys())
    return (finite | {"sys/nonfinite": float(len(nonfinite))} if nonfinite else finite), nonfinite


def _names(values: Mapping[str, float], nonfinite: list[str]) -> tuple[str, ...]:
    return tuple(sorted({*values, *nonfinite} - {"sys/nonfinite"}))


def _encode(event: Event) -> bytes:
    body = json.dumps(event, separators=(",", ":"), allow_nan=False).encode()
    return b'%s,"crc":%d}\n' % (body[:-1], zlib.crc32(body))


def _decode(line: bytes) -> Event | None:
    body, mark, crc = line.rpartition(b',"crc":')
    if not mark or crc != b"%d}\n" % zlib.crc32(body + b"}"):
        return None
    return json.loads(body + b"}")
