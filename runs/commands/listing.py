"""`learned-rl list`."""

import argparse
from typing import Any

NAME, HELP = "list", "what there is, one line each"
KINDS = ("recipes", "rules", "estimators", "objectives", "tasks", "suites", "problems")


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("kind", choices=KINDS)


def run(known: argparse.Namespace) -> dict[str, Any]:
    from runs.inspect import show

    return show(known)
