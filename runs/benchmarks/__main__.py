"""Runs benchmarks, prints a table and writes it as JSON."""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runs.benchmarks import NAMES


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for bad usage."""
    known = _parser().parse_args(arguments)
    # Imported here: `--help` must not wait for JAX.
    import jax

    from runs.benchmarks.timing import device_name
    from runs.devices import one_device_per_core

    one_device_per_core()  # and no compilation cache: compiling is timed
    report: dict[str, Any] = {"device": device_name(), "jax": jax.__version__, "rounds": known.rounds, "rows": []}
    print(f"{report['device']}, jax {report['jax']}, medians of {known.rounds} rounds\n", flush=True)
    print("| benchmark | case | value | ratio | target |\n|---|---|---|---|---|", flush=True)
    for name in known.only or NAMES:
        for row in importlib.import_module(f"runs.benchmarks.{name}").measure(known.rounds):
            ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
            print(f"| {name} | {row.case} | {row.value:,.4g} {row.unit} | {ratio} | {row.target} |", flush=True)
            if "note" in (row.details or {}):
                print(row.details["note"], file=sys.stderr)
            report["rows"].append({"benchmark": name, **asdict(row)})
            if known.json:  # after every row: what is long may be stopped
                known.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runs.benchmarks",
        description="Measures speed and memory, beside peers where there are any. Run it on a machine that is idle.",
    )
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"some of: {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="repetitions of what is timed (default: 7)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write a machine-readable report here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
