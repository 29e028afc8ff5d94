"""`learned-rl compare`."""

import argparse
from pathlib import Path
from typing import Any

from runs.errors import UsageError

NAME, HELP = "compare", "set rules of several finished runs side by side, on the tasks that they share"


def arguments(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "Runs are folders of `discover` or `transfer` that finished. Compared is the rule that a run is about, or "
        "RUN#CONTENDER: any other one in its table. Nothing is trained: runs must have given each task the same "
        "environment steps, seeds and agents. Normalised by the hand-designed rules that all of them measured."
    )
    command.add_argument("runs", nargs="+", metavar="RUN[#CONTENDER]", help="two or more; the first against the others")
    command.add_argument("--out", type=Path, metavar="DIR", help="write table, CSV files and figures here")


def run(known: argparse.Namespace) -> dict[str, Any]:
    if len(known.runs) < 2:
        raise UsageError(f"{known.runs[0]} alone cannot be compared: give two or more runs, or RUN#CONTENDER twice")
    for address in known.runs:
        folder = Path(address.partition("#")[0])
        if not (folder / "run.json").is_file():
            raise UsageError(f"{folder} is not a run directory (it has no run.json)")
    from runs.compare import compare

    return compare(known)
