"""`learned-rl verify`."""

import argparse
from pathlib import Path
from typing import Any

NAME, HELP = "verify", "check hashes, shapes and schema of a rule or a run, executing nothing"


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", type=Path, metavar="RULE_OR_RUN")


def run(known: argparse.Namespace) -> dict[str, Any]:
    from runs.inspect import verify

    return verify(known)
