"""What each event of the journal becomes in MLflow.

Applying an event twice is the same as applying it once, whatever happened in between: runs and model versions are found
again by a tag before they are created, parameters and metrics carry the journal's values and times, which the store
recognises as repetitions. So a crash, or an answer that was lost on the way, is met by simply trying again.
"""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runs.durable import digest
from runs.journal import Event
from runs.mlflow_aliases import challenge, newest_is_candidate
from runs.mlflow_store import experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

RUN_TAG = "learned_rl.run_id"
MODEL_TAG = "learned_rl.digest"
METRICS_A_CALL, PARAMS_A_CALL = 1000, 100


class Impossible(Exception):
    """This event can never be applied: what it refers to is gone or not what was recorded."""


@dataclass
class Recorded:
    """Where a run is in the store; `running` is false between a `finish` and the first metric after it."""

    experiment_id: str = ""
    run_id: str = ""
    journal_run: str = ""
    running: bool = True
    children: dict[str, str] = field(default_factory=dict)


def apply(client: "MlflowClient", uri: str, folder: Path, recorded: Recorded, events: Sequence[Event]) -> None:
    """Applies one event, or several `metrics` events in one call; updates `recorded`.

    Raises:
      Impossible: trying again would not help.
      Exception: whatever MLflow raises; try again later.
    """
    event = events[0]
    match event["kind"]:
        case "start":
            recorded.experiment_id = experiment_id(client, uri, event["experiment"])
            recorded.journal_run = event["run"]
            recorded.run_id = _run(client, recorded, event, event["run"], event["tags"])
            _params(client, recorded.run_id, event["params"])
        case "metrics":
            if not recorded.running:
                client.update_run(recorded.run_id, status="RUNNING")
                recorded.running = True
            _metrics(client, recorded.run_id, events)
        case "artifact":
            _upload(client, recorded.run_id, folder / event["path"], event["artifact_path"])
        case "model":
            _model(client, recorded, folder / event["path"], event)
            newest_is_candidate(client, event["name"])
        case "challenge":
            version = _version(client, recorded, event)
            if version is None:
                raise Impossible(f"{event['name']} {event['digest'][:16]} was never registered")
            challenge(client, version, event)
        case "child":
            tags = {"mlflow.parentRunId": recorded.run_id, **event["tags"]}
            run_id = _run(client, recorded, event, f"{recorded.journal_run}/{event['id']}", tags)
            _params(client, run_id, event["params"])
            _metrics(client, run_id, [{"step": 0, **event}])
            client.set_terminated(run_id, "FINISHED", end_time=event["time"])
            recorded.children[event["id"]] = run_id
        case "finish":
            client.set_terminated(recorded.run_id, event["status"], end_time=event["time"])
            recorded.running = False


def _run(client: "MlflowClient", recorded: Recorded, event: Event, identity: str, tags: Mapping[str, str]) -> str:
    found = client.search_runs([recorded.experiment_id], f"tags.`{RUN_TAG}` = '{identity}'", max_results=1)
    if found:
        return found[0].info.run_id
    tags = {RUN_TAG: identity, **tags}
    return client.create_run(recorded.experiment_id, event["time"], tags, event["name"]).info.run_id


def _params(client: "MlflowClient", run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    listed = [Param(_name(name), str(value)[:6000]) for name, value in params.items()]
    for at in range(0, len(listed), PARAMS_A_CALL):
        client.log_batch(run_id, params=listed[at : at + PARAMS_A_CALL])


def _metrics(client: "MlflowClient", run_id: str, events: Sequence[Event]) -> None:
    from mlflow.entities import Metric

    listed = [
        Metric(_name(name), value, event["time"], event["step"])
        for event in events
        for name, value in event["values"].items()
    ]
    for at in range(0, len(listed), METRICS_A_CALL):
        client.log_batch(run_id, metrics=listed[at : at + METRICS_A_CALL])


def _upload(client: "MlflowClient", run_id: str, path: Path, artifact_path: str) -> None:
    if not path.exists():
        raise Impossible(f"{path} is gone")
    log = client.log_artifacts if path.is_dir() else client.log_artifact
    log(run_id, str(path), artifact_path or None)


def _model(client: "MlflowClient", recorded: Recorded, path: Path, event: Event) -> None:
    if not path.is_dir() or digest(path) != event["digest"]:
        raise Impossible(f"{path} is not the rule that was recorded")
    name = event["name"]
    if not any(model.name == name for model in client.search_registered_models(f"name = '{name}'")):
        client.create_registered_model(name)
    if _version(client, recorded, event):
        return
    where = f"rule/{event['digest'][:16]}"  # versions of one run must not share a folder
    _upload(client, recorded.run_id, path, where)
    source = f"runs:/{recorded.run_id}/{where}"
    tags = {MODEL_TAG: event["digest"], **event["tags"]}
    client.create_model_version(name, source, run_id=recorded.run_id, tags=tags, await_creation_for=0)


def _version(client: "MlflowClient", recorded: Recorded, event: Event) -> "ModelVersion | None":
    """The version that this run registered with the event's content."""
    versions = client.search_model_versions(f"run_id = '{recorded.run_id}'")
    ours = (v for v in versions if v.name == event["name"] and v.tags.get(MODEL_TAG) == event["digest"])
    return next(ours, None)


def _name(name: str) -> str:
    """The nearest name that MLflow accepts; one bad name would make it refuse a whole batch."""
    return posixpath.normpath(re.sub(r"[^\w\-. :/]", "_", name)).strip("/.")[:250] or "_"
