"""What a run folder has to say, in the order of the page. Reads files; imports neither JAX nor MLflow."""

import csv
import json
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runs.folder import RunFolder
from runs.journal import read_events

ROWS = 200  # of a table that is shown; the rest stays in its file


@dataclass(frozen=True)
class Table:
    """A CSV file's head: `left_out` rows more are in the file."""

    file: str
    columns: list[str]
    rows: list[list[str]]
    left_out: int


@dataclass(frozen=True)
class Contents:
    """A run folder, read once.

    Attributes:
      record: its run.json.
      made: the record in the learned rule's own file: claims of who made it, shown as text; {} without a rule.
      curves: metric -> [(outer step, value)].
      report: report/table.md, or "".
      scores: (rule, task) -> scores of its agents.
      tables: sweeps.
      hashes: of the rule's files, `(file, sha256)`.
    """

    path: Path
    record: Mapping[str, Any]
    made: Mapping[str, Any]
    curves: Mapping[str, list[tuple[int, float]]]
    report: str
    scores: Mapping[tuple[str, str], list[float]]
    tables: list[Table]
    hashes: list[tuple[str, str]]

    @classmethod
    def of(cls, path: Path) -> "Contents":
        """Reads the folder of a run, finished or not.

        Raises:
          UsageError: there is no run.
          ArtifactRefused: its run.json or journal is damaged.
        """
        folder = RunFolder.open(path)
        rule = path / "rule"
        table = path / "report" / "table.md"
        return cls(
            path=folder.path,
            record=folder.record,
            made=_json(rule / "rule.json").get("record", {}),
            curves=_curves(path),
            report=table.read_text() if table.exists() else "",
            scores=_scores(path / "report" / "scores.csv"),
            tables=[_table(file, path) for file in sorted(path.glob("**/sweep*.csv"))],
            hashes=list(_hashes(rule / "MANIFEST.sha256")),
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.record["configuration"]

    @property
    def title(self) -> str:
        return str(self.settings.get("name") or self.settings.get("rule") or self.path.name)

    @property
    def verdicts(self) -> list[str]:
        """The sentences of the report that say who won."""
        return [line.removeprefix("- ") for line in self.report.splitlines() if line.startswith("- ")]

    @property
    def table(self) -> str:
        """The report without those, which the page begins with."""
        return "\n".join(line for line in self.report.splitlines() if not line.startswith("- "))

    @property
    def command(self) -> str:
        """The command line that the run came from; "" where an old run.json does not say."""
        words = self.record.get("command", [])
        return shlex.join(["learned-rl", *words]) if words else ""

    def what(self) -> str:
        """What was learned, or carried, and on what."""
        s, made = self.settings, self.made
        if "outer" in s:
            learner = s.get("outer.estimator") or s.get("outer.strategy") or s["outer"]
            families = ", ".join(made.get("families", ())) or "its task families"
            steps, total = made.get("outer_step", 0), s.get("steps", "?")
            return (
                f"{_rule(s)} was learned on {families} by {learner}: {steps} of {total} outer steps, "
                f"{made.get('env_steps', 0):,} environment steps."
            )
        if "rules" in s and "rule" not in s:
            return f"One of {s['rules']} was selected on the validation tasks of the suite {s.get('suite', '?')}."
        if "suite" in s:
            return (
                f"Agents were trained with the frozen rule {s.get('rule', '?')} on the suite {s['suite']}, "
                f"{s.get('seeds', '?')} a task, beside {', '.join(str(s.get('against', '')).split()) or 'nothing'}."
            )
        return f"A run of {self.title}."

    def groups(self) -> dict[str, list[tuple[str, Any]]]:
        """The configuration, by the first name of its paths."""
        found: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
        for name, value in self.settings.items():
            found[name.partition(".")[0]].append((name, value))
        return dict(found)


def _rule(settings: Mapping[str, Any]) -> str:
    """`Schedule around Optimised around Drift`."""
    chain, path = [], "rule"
    while path in settings:
        chain.append(str(settings[path]))
        path += ".base"
    return " around ".join(chain) or "A rule"


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    found: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for event, _ in read_events(path):
        if event["kind"] == "metrics":
            for name, value in event["values"].items():
                found[name].append((event["step"], value))
    return dict(found)


def _scores(file: Path) -> dict[tuple[str, str], list[float]]:
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    if file.exists():
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                found[row["rule"], row["task"]].append(float(row["score"]))
    return dict(found)


def _table(file: Path, run: Path) -> Table:
    with file.open(newline="") as lines:
        columns, *rows = list(csv.reader(lines)) or [[]]
    shown = [[_short(cell) for cell in row] for row in rows[:ROWS]]
    return Table(file.relative_to(run).as_posix(), columns, shown, max(len(rows) - ROWS, 0))


def _short(cell: str) -> str:
    """Numbers to four digits."""
    try:
        return cell if len(cell) < 7 else np.format_float_positional(float(cell), 4, fractional=False, trim="-")
    except ValueError:
        return cell


def _hashes(manifest: Path) -> Iterator[tuple[str, str]]:
    for line in manifest.read_text().splitlines() if manifest.exists() else ():
        sha, _, name = line.partition("  ")
        yield name, sha
