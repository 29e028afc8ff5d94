"""`learned-rl select`."""

import argparse
from pathlib import Path
from typing import Any

from runs import catalogue
from runs.commands import options
from runs.errors import UsageError

NAME, HELP = "select", "choose among rules on the validation tasks of a suite, and see how much of its score was luck"


def arguments(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "Test tasks take no part: what comes out is a rule for `learned-rl transfer`. Candidates may be rules of runs "
        "that differ in seed or settings, or one run's rule and its untrained start."
    )
    command.add_argument("rules", nargs="+", metavar="RULE", help=f"two or more; each a {options.RULE}")
    command.add_argument("--suite", default="small", metavar="NAME", help="see `learned-rl list suites`")
    command.add_argument(
        "--against",
        nargs="+",
        default=["a2c", "ppo"],
        metavar="RULE",
        help="the best of them scores 1; default: a2c ppo",
    )
    command.add_argument(
        "--seeds", type=int, default=10, metavar="N", help="agents per rule and task, and as many again"
    )
    command.add_argument("--run-dir", type=Path, metavar="DIR", help="default: out/selected/SUITE")
    options.allow_overlap(command)
    options.store(command)
    options.quiet(command)


def run(known: argparse.Namespace) -> dict[str, Any]:
    catalogue.check_suite(known.suite)
    for address in (*known.rules, *known.against):
        catalogue.check_rule(address)
    if len(known.rules) < 2:
        raise UsageError(f"{known.rules[0]} alone leaves no choice: give two or more rules")
    if known.seeds < 2:
        raise UsageError(f"--seeds must be at least 2, not {known.seeds}: one agent says nothing about noise")
    from runs.selected import selected

    return selected(known)
