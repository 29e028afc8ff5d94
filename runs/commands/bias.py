"""`learned-rl bias`."""

import argparse
from pathlib import Path
from typing import Any

from runs import catalogue
from runs.commands import options
from runs.errors import UsageError

NAME, HELP = "bias", "measure bias and variance of gradient estimators against the truth"
DEFAULT = "influence-balancing"


def arguments(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "Everything is in units of the squared gradient. Settings are compared at equal cost: what LIVES lives of one "
        "horizon cost. The plot shows the root mean squared error of an estimate over its cost in inner steps, "
        "and what it consists of."
    )
    command.add_argument(
        "--problem",
        default=DEFAULT,
        metavar="NAME",
        help=f"see `learned-rl list problems`, or a recipe; default: {DEFAULT}",
    )
    command.add_argument(
        "--estimator",
        nargs="+",
        metavar="NAME",
        help="default: what suits the problem; see `learned-rl list estimators`",
    )
    command.add_argument(
        "--window", nargs="+", type=int, metavar="N", help="segments per estimate; default: 1, usual, all"
    )
    command.add_argument("--std", nargs="+", type=float, metavar="X", help="of perturbations; default: the problem's")
    command.add_argument("--lives", type=int, default=16, metavar="N", help="lives per estimate; default: 16")
    command.add_argument("--repeats", type=int, default=32, metavar="N", help="independent repetitions; default: 32")
    command.add_argument(
        "--lags", action="store_true", help="split a recipe's gradient by lag too (oracle problems: always)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="root of every random number; default: 0")
    command.add_argument("--out", type=Path, metavar="DIR", help="for table and plot; default: out/bias/NAME")
    options.quiet(command)


def run(known: argparse.Namespace) -> dict[str, Any]:
    catalogue.check_problem(known.problem)
    for name in known.estimator or ():
        catalogue.check_estimator(name)
    if known.lives < 1:
        raise UsageError(f"--lives must be at least 1, not {known.lives}")
    if known.repeats < 4:
        raise UsageError(f"--repeats must be at least 4, not {known.repeats}: fewer say nothing about noise")
    for option, values in (("--window", known.window), ("--std", known.std)):
        for value in values or ():
            if not value > 0:
                raise UsageError(f"{option} must be positive, not {value}")
    from runs.bias import measure

    return measure(known)
