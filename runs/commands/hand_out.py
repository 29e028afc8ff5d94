"""`learned-rl export`."""

import argparse
from pathlib import Path
from typing import Any

from runs import catalogue
from runs.commands import options

NAME, HELP = "export", "write a rule for other code: its objective, optimizer or schedule"
EXPORTS = {
    "loss": "its objective, one Python file that needs jax alone",
    "optax": "its learned optimizer, one Python file that needs jax and optax",
    "standalone": "all of it, one Python file that needs jax alone",
    "stablehlo": "all of it, compiled for cpu, cuda and tpu by jax.export, differentiable",
}


def arguments(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "Writes a folder: the files, a README that says how they are called and whose the weights are, the licence. "
        "Weights stand beside the code. From Python: learned_rl.export."
    )
    command.add_argument("rule", metavar="RULE", help=options.RULE)
    command.add_argument(
        "--to", required=True, choices=EXPORTS, help="; ".join(f"{name}: {text}" for name, text in EXPORTS.items())
    )
    command.add_argument(
        "--like", type=Path, metavar="NPZ", help="parameters of an agent: an optimizer's StableHLO is of one such tree"
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="default: out/exports/RULE-FORMAT")
    options.store(command)


def run(known: argparse.Namespace) -> dict[str, Any]:
    catalogue.check_rule(known.rule)
    from runs.exports import hand_out

    return hand_out(known)
