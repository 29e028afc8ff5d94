"""`learned-rl reproduce`: the command that a run came from, run again, and where the outcome differs."""

import argparse
import csv
import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file

from runs import catalogue
from runs.devices import prepare
from runs.errors import ConfigurationError, UsageError
from runs.folder import RunFolder, git_commit, versions
from runs.journal import read_events
from runs.overrides import apply_overrides, flatten

_CLOCK = "_seconds"  # metrics that end so are of the clock
_ABSENT = object()


class Finding(NamedTuple):
    """What comparing one kind of outcome found: `equal` is None where there is nothing to compare."""

    equal: bool | None
    says: str


def reproduce(known: argparse.Namespace) -> dict[str, Any]:
    """Prints the command of a run and what has changed since; runs it again, and compares.

    Raises:
      UsageError: there is no run, or no command that would repeat it.
    """
    prepare()  # before anything asks which devices there are
    run = RunFolder.open(known.run)
    again: Path = known.run_dir or run.path.with_name(f"{run.path.name}-again")
    words = command(run.record)
    print(f"learned-rl {shlex.join([*words, '--run-dir', str(again)])}", flush=True)
    summary: dict[str, Any] = {"command": words, "changed": changed(run.record)}
    for name, (then, now) in summary["changed"].items():
        print(f"  {name}: {then} then, {now} now")
    if not summary["changed"]:
        print("  versions, commit and device: as then", flush=True)
    if known.show:
        return summary
    code = _run([*words, "--run-dir", str(again)], known)
    if code:
        return summary | {"exit": code}
    findings = compared(run.path, again)
    for name, finding in findings.items():
        print(f"{name}: {finding.says}")
    equal = all(finding.equal is not False for finding in findings.values())
    return summary | {"path": str(again), "equal": equal, **{name: f._asdict() for name, f in findings.items()}}


def _run(words: list[str], known: argparse.Namespace) -> int:
    from runs.cli import main

    store = ["--tracking-uri", known.tracking_uri] if known.tracking_uri else []
    return main([*words, *store, *(["--quiet"] if known.quiet else [])])


def command(record: Mapping[str, Any]) -> list[str]:
    """The words after `learned-rl` that repeat the run that `record`, a run.json, describes.

    A discovery is told by its recipe and every setting in which the recipe, as it is now, differs from what was run.

    Raises:
      UsageError: no recipe can be set so, or the record is too old to say.
    """
    words, settings = record.get("command", []), record["configuration"]
    if "outer" in settings:
        return [*_discovery(settings, words), *_devices(words)]
    if words:
        return words
    if "suite" not in settings:
        raise UsageError(f"run {record['run']}: its run.json says neither a command nor a suite")
    against = settings["against"].split()
    suites = str(settings["suite"]).split()
    return ["transfer", settings["rule"], "--suite", *suites, "--against", *against, "--seeds", str(settings["seeds"])]


def _devices(words: Sequence[str]) -> list[str]:
    at = words.index("--devices") if "--devices" in words else len(words)
    return list(words[at : at + 2])


def _discovery(settings: Mapping[str, Any], words: Sequence[str]) -> list[str]:
    """From the recipe whose name was said, or that takes the fewest changes."""
    found: list[tuple[bool, int, list[str]]] = []
    for name in catalogue.recipes():
        recipe = catalogue.recipe(name)
        overrides = _differences(flatten(recipe), settings)
        try:
            same = flatten(apply_overrides(recipe, overrides)) == dict(settings)
        except ConfigurationError:  # of another recipe these are no settings
            continue
        if same:
            options = [word for path, value in overrides.items() for word in (f"--{path}", value)]
            found.append((name not in words, len(overrides), ["discover", name, *options]))
    if not found:
        raise UsageError("no recipe, as they are now, can be set to what was run; check out the commit it was run at")
    return min(found)[2]


def _differences(recipe: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    return {path: str(value) for path, value in settings.items() if recipe.get(path, _ABSENT) != value}


def changed(record: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What may make the outcome another one: name -> (then, now)."""
    import jax

    then = {**record["versions"], "commit": record["git"], "device": record["device"]}
    now = {**versions(), "commit": git_commit(), "device": jax.devices()[0].device_kind}
    return {name: (then[name], now.get(name, "none")) for name in then if then[name] != now.get(name)}


def compared(run: Path, again: Path) -> dict[str, Finding]:
    """Whether two run folders hold the same theta, scores and metrics, bit for bit."""
    return {"theta": _theta(run, again), "scores": _scores(run, again), "metrics": _metrics(run, again)}


def _theta(run: Path, again: Path) -> Finding:
    return _finding("tensor", *({n: _exact(x) for n, x in _tensors(folder)} for folder in (run, again)))


def _scores(run: Path, again: Path) -> Finding:
    return _finding("score", *(dict(_rows(folder)) for folder in (run, again)))


def _metrics(run: Path, again: Path) -> Finding:
    return _finding("metric", *(dict(_reported(folder)) for folder in (run, again)))


def _finding(what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Finding:
    """Of everything that the run has, in its own order; the repetition may have gone further."""
    if not ours:
        return Finding(None, f"there is no {what} to compare")
    different = [name for name in ours if theirs.get(name, _ABSENT) != ours[name]]
    if not different:
        return Finding(True, f"all {len(ours)} {what}s are equal, bit for bit")
    first = different[0]
    values = f"{ours[first]} then, {theirs.get(first, 'nothing')} now"
    return Finding(False, f"{len(different)} of {len(ours)} {what}s differ; the first is {first}: {values}")


def _tensors(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    file = folder / "rule" / "rule.safetensors"
    yield from load_file(file).items() if file.exists() else ()


def _exact(x: np.ndarray) -> str:
    """Equal for equal bits alone, and short."""
    return f"{x.dtype}{list(x.shape)} {hashlib.sha256(x.tobytes()).hexdigest()[:12]}"


def _rows(folder: Path) -> Iterator[tuple[str, str]]:
    file = folder / "report" / "scores.csv"
    if file.exists():
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                yield f"{row['rule']} on {row['task']}, seed {row['seed']}", row["score"]


def _reported(folder: Path) -> Iterator[tuple[str, float | str]]:
    """Every metric of every step, but for the clock's."""
    for event, _ in read_events(folder):
        if event["kind"] == "metrics":
            values = event["values"] | dict.fromkeys(event["nonfinite"], "not finite")
            for name, value in values.items():
                if not name.endswith(_CLOCK):
                    yield f"{name} at step {event['step']}", value
