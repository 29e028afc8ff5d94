"""`learned-rl sweep`."""

import argparse
from pathlib import Path
from typing import Any

from runs import catalogue
from runs.commands import options
from runs.errors import UsageError

NAME, HELP = "sweep", "how far a frozen rule generalises: agents trained with one setting after another changed"


def arguments(command: argparse.ArgumentParser) -> None:
    command.epilog = "Knobs: " + "; ".join(f"{name}: {text[:-1].lower()}" for name, text in catalogue.knobs().items())
    command.add_argument("rule", metavar="RULE", help=options.RULE)
    command.add_argument("--over", nargs="+", metavar="KNOB", help="default: all that the task and the rule allow")
    command.add_argument(
        "--suite", default="small", metavar="NAME", help="see `learned-rl list suites`; default: small"
    )
    command.add_argument("--task", metavar="NAME", help="of the suite; default: the first of its test tasks")
    command.add_argument("--against", nargs="+", default=["ppo"], metavar="RULE", help="default: ppo")
    command.add_argument("--seeds", type=int, default=10, metavar="N", help="agents per rule and value; default: 10")
    command.add_argument("--run-dir", type=Path, metavar="DIR", help="default: out/sweep/RULE-TASK")
    options.store(command)
    options.quiet(command)


def run(known: argparse.Namespace) -> dict[str, Any]:
    catalogue.check_suite(known.suite)
    for knob in known.over or ():
        catalogue.check_knob(knob)
    for address in (known.rule, *known.against):
        catalogue.check_rule(address)
    if known.seeds < 2:
        raise UsageError(f"--seeds must be at least 2, not {known.seeds}: one agent says nothing about noise")
    from runs.sweep import sweep

    return sweep(known)
