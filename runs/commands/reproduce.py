"""`learned-rl reproduce`."""

import argparse
from pathlib import Path
from typing import Any

from runs.commands import options

NAME, HELP = "reproduce", "repeat a run, and say whether the same came out, bit for bit"


def arguments(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "Prints the command, and what has changed since: versions, commit, device. Then runs it, and compares theta, "
        "the scores and every reported number; where they differ, the first step at which they do. A repetition that "
        "was interrupted goes on."
    )
    command.add_argument("run", type=Path, metavar="RUN", help="folder of a discover or transfer run")
    command.add_argument("--run-dir", type=Path, metavar="DIR", help="of the repetition; default: RUN-again")
    command.add_argument("--show", action="store_true", help="print the command and what has changed, and stop")
    options.store(command)
    options.quiet(command)


def run(known: argparse.Namespace) -> dict[str, Any]:
    from runs.reproduce import reproduce

    return reproduce(known)
