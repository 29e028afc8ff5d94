"""`learned-rl transfer`."""

import argparse
from pathlib import Path
from typing import Any

from runs import catalogue
from runs.commands import options
from runs.errors import UsageError

NAME, HELP = "transfer", "train agents with a frozen rule on held-out tasks, beside baselines"
SPLITS = ("train", "validation", "test")


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("rule", metavar="RULE", help=options.RULE)
    command.add_argument(
        "--suite", nargs="+", default=["small"], metavar="NAME", help="see `learned-rl list suites`; default: small"
    )
    command.add_argument("--split", default="test", choices=SPLITS, help="of each suite; default: test")
    command.add_argument("--against", nargs="+", default=["a2c", "ppo"], metavar="RULE", help="default: a2c ppo")
    command.add_argument(
        "--tune",
        nargs="?",
        type=int,
        const=0,
        metavar="ENV_STEPS",
        help="tune the baselines on the validation tasks, too; default: for as many steps as RULE was meta-trained",
    )
    command.add_argument(
        "--guard",
        nargs="?",
        const="ppo",
        metavar="RULE",
        help="evaluate the rule under guard as well: RULE (default: ppo) takes over where it misbehaves",
    )
    command.add_argument("--seeds", type=int, default=10, metavar="N", help="agents per rule and task")
    command.add_argument("--run-dir", type=Path, metavar="DIR", help="default: out/transfer/RULE-SUITE[-SPLIT]")
    options.allow_overlap(command)
    options.store(command)
    options.quiet(command)


def run(known: argparse.Namespace) -> dict[str, Any]:
    for name in known.suite:
        catalogue.check_suite(name)
    for address in (known.rule, *known.against, *([known.guard] if known.guard else [])):
        catalogue.check_rule(address)
    if known.seeds < 1:
        raise UsageError(f"--seeds must be at least 1, not {known.seeds}")
    if known.tune is not None and known.tune < 0:
        raise UsageError(f"--tune must be positive, not {known.tune}")
    from runs.evaluation import transfer

    return transfer(known)
