"""`learned-rl explain`."""

import argparse
from pathlib import Path
from typing import Any

from runs import catalogue
from runs.commands import options
from runs.errors import UsageError

NAME, HELP = "explain", "draw and say what each part of a rule does"


def arguments(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "One picture a part, with its sentence inside: a drift over ratio and advantage, what an objective asks for, "
        "an optimizer's step, a reward's map, a schedule's curves."
    )
    command.add_argument("rule", metavar="RULE", help=options.RULE)
    command.add_argument(
        "--search",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="look for formulas of drifts, objectives and optimizers, so long for each (extra `pysr`, with Julia)",
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="default: out/explain/RULE")
    options.store(command)


def run(known: argparse.Namespace) -> dict[str, Any]:
    catalogue.check_rule(known.rule)
    if not 0 <= known.search < float("inf"):
        raise UsageError(f"--search is a number of seconds, not {known.search}")
    from runs.explain.command import command

    return command(known)
