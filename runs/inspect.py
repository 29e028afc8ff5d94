"""`learned-rl list` and `learned-rl verify`: looking at things without running them."""

import argparse
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runs import catalogue
from runs.errors import ArtifactRefused, UsageError


def show(known: argparse.Namespace) -> dict[str, Any]:
    """Prints one line per thing of a kind."""
    entries = _KINDS[known.kind]()
    width = max(map(len, entries), default=0)
    for name, text in entries.items():
        print(f"{name:<{width}}  {text}".rstrip())
    return {known.kind: dict(entries)}


def _rules() -> Mapping[str, str]:
    from learned_rl.zoo import BUILT_IN, LEARNABLE, PUBLISHED, description

    hand = {name: description(make) for name, make in BUILT_IN.items()}
    learnable = {name: f"(to be learned) {description(make)}" for name, make in LEARNABLE.items()}
    here = {name: _shipped(folder) for name, folder in catalogue.shipped().items()}
    published = {f"import {name}": description(make) for name, make in PUBLISHED.items()}
    return hand | here | learnable | published


def _shipped(folder: Path) -> str:
    record = json.loads((folder / "rule.json").read_bytes())["record"]
    return f"(discovered here) {record['about']}"


def _estimators() -> Mapping[str, str]:
    import truncation

    classes = (getattr(truncation, name) for name in truncation.__all__)
    return {c.__name__: _first_line(c) for c in classes if hasattr(c, "estimate") and not _is_protocol(c)}


def _objectives() -> Mapping[str, str]:
    import meta_objectives

    classes = (getattr(meta_objectives, name) for name in meta_objectives.__all__)
    return {c.__name__: _first_line(c) for c in classes if hasattr(c, "judge") and not _is_protocol(c)}


def _tasks() -> Mapping[str, str]:
    from learned_rl import families
    from learned_rl.gymnax_tasks import UNUSABLE, environment_ids

    made = {
        name: _first_line(function)
        for name, function in vars(families).items()
        if inspect.isfunction(function) and function.__module__ == families.__name__ and not name.startswith("_")
    }
    named = {name: "gymnax environment, default parameters: families.fixed(...)" for name in environment_ids()}
    return made | named | {name: f"not usable: {why}" for name, why in UNUSABLE.items()}


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _is_protocol(thing: Any) -> bool:
    return getattr(thing, "_is_protocol", False)


_KINDS: Mapping[str, Callable[[], Mapping[str, str]]] = {
    "recipes": catalogue.recipes,
    "rules": _rules,
    "estimators": _estimators,
    "objectives": _objectives,
    "tasks": _tasks,
    "suites": catalogue.suites,
    "problems": catalogue.problems,
}


def verify(known: argparse.Namespace) -> dict[str, Any]:
    """Checks a rule folder, or a run folder with its journal, its checkpoints and its rules.

    Raises:
      UsageError: neither is there.
      ArtifactRefused: something is damaged; the message names it.
    """
    path: Path = known.path
    if (path / "run.json").exists():
        checked = _verify_run(path)
    elif path.is_dir():
        checked = _verify_rule(path)
    else:
        raise UsageError(f"{path}: there is no rule folder and no run folder")
    for line in checked:
        print(f"ok  {line}")
    return {"path": str(path), "checked": checked}


def _verify_rule(path: Path) -> list[str]:
    from learned_rl.rule_file import RuleRefused, verify_rule

    try:
        return [f"{path.name}: {line}" for line in verify_rule(path)]
    except RuleRefused as refused:
        raise ArtifactRefused(f"{path}: {refused}") from refused


def _verify_run(path: Path) -> list[str]:
    from runs.checkpoints import Checkpoints, damage
    from runs.folder import RunFolder
    from runs.journal import read_events

    checked = [f"run.json: run {RunFolder.open(path).run}"]
    checked.append(f"journal.jsonl: {sum(1 for _ in read_events(path))} events")
    for step in Checkpoints(path / "checkpoints").steps():
        found = damage(path / "checkpoints" / f"{step:09d}")
        if found:
            raise ArtifactRefused(f"checkpoint {step}: {found}")
        checked.append(f"checkpoint {step}")
    for rule in ("rule-untrained", "rule"):
        if (path / rule).exists():
            checked += _verify_rule(path / rule)
    return checked
