"""`learned-rl import`."""

import argparse
from pathlib import Path
from typing import Any

NAME, HELP = "import", "turn published weights into a rule folder, with origin and licence"
PUBLISHED = {
    "disco103": "disco_103.npz of google-deepmind/disco_rl",
    "open": "an *_OPEN.npy of AlexGoldie/rl-learned-optimization",
}


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("origin", choices=PUBLISHED, help="; ".join(f"{k}: {v}" for k, v in PUBLISHED.items()))
    command.add_argument("file", type=Path, metavar="FILE")
    command.add_argument("--to", type=Path, metavar="DIR", help="default: out/rules/NAME")


def run(known: argparse.Namespace) -> dict[str, Any]:
    from runs.imports import bring_in

    return bring_in(known)
