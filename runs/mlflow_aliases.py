"""Aliases of registered rules: `candidate` is the newest version, `champion` the one that nothing has yet beaten.

Both are decided from what the store holds now, and a version is judged once. So repeating an event, or sending an old
journal again, takes nothing from a rule that came later.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from runs.comparison import Comparison, Curves
from runs.journal import Event

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CANDIDATE, CHAMPION = "candidate", "champion"
SCORES_TAG, VERDICT_TAG = "learned_rl.scores", "learned_rl.verdict"


def newest_is_candidate(client: "MlflowClient", name: str) -> None:
    """Points the alias `candidate` at the newest version of a registered rule."""
    versions = client.search_model_versions(f"name = '{name}'")
    newest = max(versions, key=lambda version: int(version.version))
    client.set_registered_model_alias(name, CANDIDATE, str(newest.version))


def challenge(client: "MlflowClient", version: "ModelVersion", event: Event) -> None:
    """Makes `version` the champion if it won, and writes down why, or why not.

    The first champion has to beat every rule that it was compared with; a later one has to beat the champion on the
    same tasks, both normalised on the scale of the newer comparison. To beat: the interval of the normalised IQM lies
    above the other's.
    """
    if VERDICT_TAG in version.tags:
        return
    number = str(version.version)
    holder = _holder(client, version.name)
    if holder is not None and str(holder.version) == number:  # crowned, and then interrupted
        won, why = True, "champion"
    else:
        won, why = _judged(event, holder)
    client.set_model_version_tag(version.name, number, SCORES_TAG, json.dumps(_exam(event)))
    if won:
        client.set_registered_model_alias(version.name, CHAMPION, number)
    client.set_model_version_tag(version.name, number, VERDICT_TAG, why)


def _holder(client: "MlflowClient", name: str) -> "ModelVersion | None":
    # Not `get_model_version_by_alias`: that it finds none and that the store fails look alike.
    number = client.get_registered_model(name).aliases.get(CHAMPION)
    return client.get_model_version(name, str(number)) if number is not None else None


def _judged(event: Event, holder: "ModelVersion | None") -> tuple[bool, str]:
    """Whether the event's rule is to be champion, and the reason."""
    ours, scores = event["ours"], dict(event["scores"])
    exam = json.loads(holder.tags.get(SCORES_TAG, "{}")) if holder else {}
    if holder and any(exam.get(name) != event[name] for name in ("tasks", "env_steps")):
        return False, f"version {holder.version}, the champion, was not measured on these tasks"
    if holder:
        scores[CHAMPION] = exam["scores"]
    comparison = _comparison(event, scores)
    mine = comparison.aggregate(ours)
    theirs = {name: comparison.aggregate(name) for name in ([CHAMPION] if holder else scores) if name != ours}
    unbeaten = [f"{name} {interval}" for name, interval in theirs.items() if not mine.low > interval.high]
    why = f"not above {', '.join(unbeaten)}" if unbeaten else f"above {', '.join(theirs)}"
    return not unbeaten, f"normalised IQM {mine}, {why}"


def _comparison(event: Event, scores: Mapping[str, Any]) -> Comparison:
    """What was recorded as a comparison again; of the learning curves, nothing was."""

    def by_task(runs: Any) -> dict[str, Curves]:
        columns = np.asarray(runs, float).T
        return {task: Curves(column[:, None], column) for task, column in zip(event["tasks"], columns, strict=True)}

    results = {name: by_task(runs) for name, runs in scores.items()}
    return Comparison(tuple(event["tasks"]), tuple(event["env_steps"]), results, tuple(event["references"]))


def _exam(event: Event) -> dict[str, Any]:
    """What a later challenger is measured against."""
    return {"tasks": event["tasks"], "env_steps": event["env_steps"], "scores": event["scores"][event["ours"]]}
