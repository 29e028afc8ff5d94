"""`learned-rl explain`: what each part of a rule does, drawn and said; with PySR, its formula."""

import argparse
from pathlib import Path
from typing import Any

from runs import catalogue
from runs.durable import replace_file
from runs.errors import DiskError, UsageError
from runs.explain import explanations
from runs.explain.explanation import Explanation
from runs.explain.searched import Formula, search
from runs.tables import csv_text


def command(known: argparse.Namespace) -> dict[str, Any]:
    """Writes a picture a part, prints its sentence, and searches for formulas where that is asked for.

    Raises:
      UsageError: there is no such rule, nothing to be said of it, or no PySR.
      ArtifactRefused: the rule file must not be loaded.
      DiskError: the folder cannot be written.
    """
    name, loaded = catalogue.loaded(known.rule, known.tracking_uri)
    folder = (known.out or Path("out") / "explain" / name).absolute()
    said: dict[str, Any] = {}
    try:
        for explanation in explanations(loaded.rule, loaded.theta):
            file = explanation.save(folder)
            print(f"{explanation.says}\n  {file}", flush=True)
            said[explanation.name] = {"says": explanation.says, "figure": str(file)}
            if known.search and explanation.relation is not None:
                said[explanation.name]["formulas"] = _searched(explanation, known.search, folder)
    except OSError as error:
        raise DiskError(f"{folder}: {error.strerror}") from error
    if not said:
        raise UsageError(f"{known.rule}: a {type(loaded.rule).__name__} has no part that can be explained")
    return {"folder": str(folder), "explanations": said}


def _searched(explanation: Explanation, seconds: float, folder: Path) -> list[dict[str, Any]]:
    """Prints the chosen formula and writes `NAME-formulas.csv`, all that are the best of their size."""
    assert explanation.relation is not None
    try:
        found = search(explanation.relation, seconds)
    except ValueError as missing:
        raise UsageError(f"--search: {missing}") from missing
    file = folder / f"{explanation.name}-formulas.csv"
    replace_file(file, csv_text(Formula._fields, found).encode())
    for formula in found:
        if formula.chosen:
            print(f"  {formula.text}  (R² {formula.r2:.3f} on held-out points)\n  {file}", flush=True)
    return [formula._asdict() for formula in found]
