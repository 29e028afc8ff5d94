"""`learned-rl tune`."""

import argparse
from pathlib import Path
from typing import Any

from runs import catalogue
from runs.commands import options
from runs.errors import UsageError

NAME, HELP = "tune", "tune a built-in rule on the validation tasks of a suite, for a counted number of steps"


def arguments(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "The rule file that comes out is a baseline for `learned-rl transfer --against`; `learned-rl transfer --tune` "
        "does both, with as many environment steps as the learned rule was meta-trained for."
    )
    command.add_argument("rule", metavar="RULE", help="built-in rule with a declared grid: a2c or ppo")
    command.add_argument("--suite", default="small", metavar="NAME", help="see `learned-rl list suites`")
    command.add_argument("--env-steps", type=int, required=True, metavar="N", help="allowance, all tasks together")
    command.add_argument("--run-dir", type=Path, metavar="DIR", help="default: out/tuned/SUITE/RULE-tuned")
    options.store(command)
    options.quiet(command)


def run(known: argparse.Namespace) -> dict[str, Any]:
    catalogue.check_suite(known.suite)
    if known.env_steps < 1:
        raise UsageError(f"--env-steps must be at least 1, not {known.env_steps}")
    from runs.grids import check_grid

    check_grid(known.rule)
    from runs.tuned import tuned

    return tuned(known)
