"""`learned-rl similarity`."""

import argparse
from pathlib import Path
from typing import Any

from runs import catalogue
from runs.commands import options
from runs.errors import UsageError

NAME, HELP = "similarity", "measure how far apart tasks are, and whether that tells how well agents transfer"


def arguments(command: argparse.ArgumentParser) -> None:
    sets = catalogue.task_sets()
    command.epilog = "Sets of tasks: " + "; ".join(f"{name}: {text}" for name, text in sets.items())
    command.add_argument("--tasks", nargs="+", default=list(sets), metavar="SET", help=f"default: {' '.join(sets)}")
    command.add_argument("--seeds", type=int, default=4, metavar="N", help="agents per task and purpose; default: 4")
    command.add_argument("--out", type=Path, default=Path("out/similarity"), metavar="DIR", help="for CSV and figures")
    options.quiet(command)


def run(known: argparse.Namespace) -> dict[str, Any]:
    for name in known.tasks:
        catalogue.check_task_set(name)
    if known.seeds < 1:
        raise UsageError(f"--seeds must be at least 1, not {known.seeds}")
    from runs.similarity.study import similarity

    return similarity(known)
