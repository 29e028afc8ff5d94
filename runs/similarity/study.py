"""`learned-rl similarity`: distances between tasks, transfer between the same tasks, and how the two go together."""

import argparse
import csv
import io
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from runs.devices import prepare
from runs.durable import replace_file
from runs.similarity import embedding, gains, policies, sets, values
from runs.similarity.correlation import Correlation, correlation

MEASURING, TRANSFERRING = 0, 1_000  # first seeds of the agents that measure distances, and of those that transfer
POLICIES = 64
STREAMS = 32


class Measured(NamedTuple):
    """Of one set of tasks; matrices are `[from, to]`.

    Attributes:
      names: of the tasks.
      distances: by name.
      gain: transfer of agents.
    """

    names: tuple[str, ...]
    distances: dict[str, Float[np.ndarray, "n n"]]
    gain: Float[np.ndarray, "n n"]


def measure(tasks: sets.TaskSet, seeds: int) -> Measured:
    """Distances and transfer, of different agents."""
    first, second = (range(start, start + seeds) for start in (MEASURING, TRANSFERRING))
    earned = policies.returns(tasks, policies.trained(tasks, first), first)
    shared = values.random_policies(tasks.lifetime(tasks.tasks).policy, POLICIES)
    v = values.values(tasks, shared, STREAMS)
    z = embedding.embeddings(embedding.transitions(tasks, shared, max(1, STREAMS // 16)))
    distances = {
        "policies": policies.distance(earned),
        "values": values.distance(v),
        "value distribution": values.quantiles(v),
        "embedding": embedding.distance(z),
    }
    agents = policies.trained(tasks, second)
    scale = policies.scale(policies.returns(tasks, agents, second))
    return Measured(tasks.names, distances, gains.gain(gains.areas(tasks, agents, second), scale))


def similarity(known: argparse.Namespace) -> dict[str, Any]:
    """Measures, prints, and writes `distances.csv`, `transfer.csv`, `summary.json` and figures."""
    prepare()
    measured = {}
    for name in known.tasks:
        began = time.monotonic()
        measured[name] = measure(getattr(sets, name.replace("-", "_"))(), known.seeds)
        if not known.quiet:
            print(f"similarity: {name} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    found = correlations(measured)
    known.out.mkdir(parents=True, exist_ok=True)
    write(measured, found, known.out)
    print(*lines(measured, found), "", known.out, sep="\n", flush=True)
    return {"path": str(known.out), "correlation": summary(found)}


def correlations(measured: Mapping[str, Measured]) -> dict[str, dict[str, Correlation]]:
    """By distance: over all sets of tasks together, called `all`, and in each."""
    found = {}
    for distance in next(iter(measured.values())).distances:
        pairs = {name: (m.distances[distance], m.gain) for name, m in measured.items()}
        found[distance] = {"all": correlation(list(pairs.values()))}
        found[distance] |= {name: correlation([pair]) for name, pair in pairs.items()}
    return found


def summary(found: Mapping[str, Mapping[str, Correlation]]) -> dict[str, Any]:
    """As JSON values."""
    return {
        distance: {name: {"rho": c.rho._asdict(), "p": c.p, "pairs": c.pairs} for name, c in by_set.items()}
        for distance, by_set in found.items()
    }


def lines(measured: Mapping[str, Measured], found: Mapping[str, Mapping[str, Correlation]]) -> Iterator[str]:
    """Matrices and correlations as text."""
    for name, m in measured.items():
        for title, matrix in {**m.distances, "gain": m.gain}.items():
            yield f"\n{name}: {title} (rows: from, columns: to)"
            width = max(map(len, m.names))
            for label, row in zip(m.names, matrix, strict=True):
                yield f"  {label:{width}} " + " ".join(f"{x:7.2f}" for x in row)
    yield ""
    columns = ["all", *measured]
    yield "| Spearman's rho of distance and gain, 95 % over tasks, p | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for distance, by_set in found.items():
        yield f"| {distance} | " + " | ".join(said(by_set[c]) for c in columns) + " |"


def said(c: Correlation) -> str:
    return f"{c.rho.point:.2f} [{c.rho.low:.2f}, {c.rho.high:.2f}], p {c.p:.3f}, {c.pairs} pairs"


def write(measured: Mapping[str, Measured], found: Mapping[str, Mapping[str, Correlation]], folder: Path) -> None:
    """Every number and figure."""
    from runs.similarity import figure  # matplotlib takes a second to import

    def table(header: list[str], rows: Iterator[list[Any]]) -> bytes:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        return out.getvalue().encode()

    def cells(name: str, m: Measured, matrix: np.ndarray) -> Iterator[list[Any]]:
        for i, source in enumerate(m.names):
            for j, target in enumerate(m.names):
                yield [name, source, target, repr(float(matrix[i, j]))]

    distances = (
        [title, *row] for name, m in measured.items() for title, d in m.distances.items() for row in cells(name, m, d)
    )
    transfers = (row for name, m in measured.items() for row in cells(name, m, m.gain))
    replace_file(folder / "distances.csv", table(["distance", "set", "from", "to", "value"], distances))
    replace_file(folder / "transfer.csv", table(["set", "from", "to", "gain"], transfers))
    replace_file(folder / "summary.json", json.dumps(summary(found), indent=1).encode())
    for name, m in measured.items():
        figure.heat(name, m, folder / f"heat-{name}.png")
    figure.scatter(measured, {d: said(by_set["all"]) for d, by_set in found.items()}, folder / "scatter.png")
