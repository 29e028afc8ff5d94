"""`learned-rl`: the command line. Parsing imports nothing heavy, so that help and mistakes are answered at once."""

import argparse
import importlib
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from runs.commands import COMMANDS
from runs.errors import DiskError, UsageError, UserError, nearest


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (see the README). Mistakes of a user never show a traceback."""
    summary_file: Path | None = None
    try:
        words = sys.argv[1:] if arguments is None else list(arguments)
        known, rest = _parser().parse_known_args(words)
        known.words = words
        summary_file = known.json
        summary = {"exit": 0} | _run(known, rest)
    except UserError as mistake:
        print(f"learned-rl: {mistake}", file=sys.stderr)
        summary = {"exit": mistake.exit_code, "error": str(mistake)}
    except KeyboardInterrupt:  # where no work was under way that had to be saved
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    try:
        if summary_file:
            _write_json(summary_file, summary)
    except DiskError as mistake:
        print(f"learned-rl: {mistake}", file=sys.stderr)
        return int(summary["exit"]) or mistake.exit_code
    return int(summary["exit"])


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one message with the nearest names, and leaves the usage text to `--help`."""

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        near = nearest(choice[1], re.findall(r"[\w-]+", choice[2])) if choice else ""
        raise UsageError(message + (f"; {near}" if near else f"; see {self.prog} --help"))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="learned-rl", description="Meta-learn RL update rules, carry them to tasks they never saw, track both."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        _add(commands, importlib.import_module(f"runs.commands.{name}"))
    return parser


def _add(commands: Any, module: ModuleType) -> None:
    description = module.HELP[0].upper() + module.HELP[1:] + "."
    # Abbreviations would swallow settings: `--show` is an option, `--s` might be a field.
    command = commands.add_parser(module.NAME, help=module.HELP, description=description, allow_abbrev=False)
    command.add_argument("--json", type=Path, metavar="PATH", help="write a machine-readable summary here")
    module.arguments(command)

    def suggest(option: str) -> str:
        return nearest(option, re.findall(r"--[\w-]+", command.format_help()))

    command.set_defaults(module=module, suggest=suggest)


def _run(known: argparse.Namespace, rest: Sequence[str]) -> dict[str, Any]:
    if rest and not hasattr(known.module, "SETTINGS"):
        near = known.suggest(rest[0])
        raise UsageError(f"unknown argument {rest[0]!r}{'; ' + near if near else ''}; see learned-rl --help")
    known.settings = rest
    return known.module.run(known)


def _write_json(path: Path, summary: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(summary | {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}, indent=1) + "\n")
    except OSError as error:
        raise DiskError(f"--json {path}: {error.strerror}") from error
