"""`learned-rl`: the command line. Parsing imports nothing heavy, so that help and mistakes are answered at once."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runs.errors import DiskError, UsageError, UserError, nearest

LISTS = ("recipes", "rules", "estimators", "objectives", "tasks", "suites")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (see the README). Mistakes of a user never show a traceback."""
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    if rest and known.command != "discover":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        overrides = _dotted(rest)
        summary = _command(known)(known, overrides) if known.command == "discover" else _command(known)(known)
        if known.json:
            _write_json(known.json, summary)
        return int(summary.get("exit", 0))
    except UserError as mistake:
        print(f"learned-rl: {mistake}", file=sys.stderr)
        if known.json:
            _write_json(known.json, {"error": str(mistake), "exit": mistake.exit_code})
        return mistake.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="learned-rl", description="Meta-learn RL update rules, carry them to tasks they never saw, track both."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    discover = _add(commands, "discover", "meta-train a rule and carry it to held-out tasks; the same command resumes")
    discover.epilog = (
        "Any field of the recipe can be set by its dotted path, e.g. --steps 400 --rule.hidden 64 "
        "--outer.estimator.lives 32. `learned-rl discover RECIPE --show` prints them all."
    )
    discover.add_argument(
        "recipe", nargs="?", default="default", metavar="RECIPE", help="see `learned-rl list recipes`"
    )
    discover.add_argument("--run-dir", type=Path, metavar="DIR", help="default: out/RECIPE")
    discover.add_argument("--show", action="store_true", help="print the resolved configuration and stop")
    discover.add_argument("--devices", type=int, default=0, metavar="N", help="shard lives over N devices (0: all)")
    _tracking(discover)

    transfer = _add(commands, "transfer", "train agents with a frozen rule on held-out tasks, beside baselines")
    transfer.add_argument(
        "rule", metavar="RULE", help="folder with a rule file, built-in name, or models:/NAME/VERSION"
    )
    transfer.add_argument("--suite", default="small", metavar="NAME", help="see `learned-rl list suites`")
    transfer.add_argument("--against", nargs="+", default=["a2c", "ppo"], metavar="RULE", help="default: a2c ppo")
    transfer.add_argument("--seeds", type=int, default=10, metavar="N", help="agents per rule and task")
    transfer.add_argument("--run-dir", type=Path, metavar="DIR", help="default: out/transfer/RULE-SUITE")
    _tracking(transfer)

    listing = _add(commands, "list", "what there is, one line each")
    listing.add_argument("kind", choices=LISTS)

    verify = _add(commands, "verify", "check hashes, shapes and schema of a rule or a run, executing nothing")
    verify.add_argument("path", type=Path, metavar="RULE_OR_RUN")
    return parser


def _add(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.add_argument("--json", type=Path, metavar="PATH", help="write a machine-readable summary here")
    return command


def _tracking(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tracking-uri", metavar="URI", help="MLflow store (default: sqlite:///mlflow.db, here)")
    command.add_argument("--quiet", action="store_true", help="no progress display")


def _command(known: argparse.Namespace) -> Callable[..., dict[str, Any]]:
    # Imported on demand: `list` and `--help` must not wait for JAX.
    if known.command == "discover":
        from runs.discover import discover

        return discover
    if known.command == "transfer":
        from runs.discover import transfer

        return transfer
    from runs import inspect

    return inspect.show if known.command == "list" else inspect.verify


def _dotted(rest: Sequence[str]) -> dict[str, str]:
    """`--a.b value` and `--a.b=value` pairs."""
    overrides, words = {}, list(rest)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise UsageError(f"unexpected argument {word!r}; settings are given as --dotted.field value")
        name, equals, value = word[2:].partition("=")
        if not equals:
            if not words:
                raise UsageError(
                    f"--{name} needs a value; {nearest(name, ['run-dir', 'json', 'tracking-uri', 'quiet'])}"
                )
            value = words.pop(0)
        overrides[name] = value
    return overrides


def _write_json(path: Path, summary: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(summary | {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}, indent=1) + "\n")
    except OSError as error:
        raise DiskError(f"--json {path}: {error.strerror}") from error
