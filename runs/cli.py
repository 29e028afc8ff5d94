"""`learned-rl`: the command line. Parsing imports nothing heavy, so that help and mistakes are answered at once."""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from runs import catalogue
from runs.errors import DiskError, UsageError, UserError, nearest

DEFAULT_RECIPE = "default"
DEFAULT_PROBLEM = "influence-balancing"
LISTS = ("recipes", "rules", "estimators", "objectives", "tasks", "suites", "problems")
PUBLISHED = {
    "disco103": "disco_103.npz of google-deepmind/disco_rl",
    "open": "an *_OPEN.npy of AlexGoldie/rl-learned-optimization",
}

EXPORTS = {
    "loss": "its objective, one Python file that needs jax alone",
    "optax": "its learned optimizer, one Python file that needs jax and optax",
    "standalone": "all of it, one Python file that needs jax alone",
    "stablehlo": "all of it, compiled for cpu, cuda and tpu by jax.export, differentiable",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (see the README). Mistakes of a user never show a traceback."""
    summary_file: Path | None = None
    try:
        known, rest = _parser().parse_known_args(arguments)
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

    discover = _add(commands, "discover", "meta-train a rule and carry it to held-out tasks; the same command resumes")
    discover.epilog = (
        f"RECIPE: see `learned-rl list recipes`; {DEFAULT_RECIPE} if none is given. "
        "Any field of the recipe can be set by its dotted path, e.g. --steps 400 --rule.hidden 64 "
        "--outer.estimator.lives 32. `learned-rl discover RECIPE --show` prints them all."
    )
    discover.usage = "learned-rl discover [RECIPE] [--dotted.field value ...] [options]"
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

    bias = _add(commands, "bias", "measure bias and variance of gradient estimators against the truth")
    bias.epilog = (
        "Everything is in units of the squared gradient. Settings are compared at equal cost: what LIVES lives of one "
        "horizon cost. The plot shows the root mean squared error of an estimate over its cost in inner steps, "
        "and what it consists of."
    )
    bias.add_argument(
        "--problem",
        default=DEFAULT_PROBLEM,
        metavar="NAME",
        help=f"see `learned-rl list problems`, or a recipe; default: {DEFAULT_PROBLEM}",
    )
    bias.add_argument(
        "--estimator",
        nargs="+",
        metavar="NAME",
        help="default: what suits the problem; see `learned-rl list estimators`",
    )
    bias.add_argument(
        "--window", nargs="+", type=int, metavar="N", help="segments per estimate; default: 1, usual, all"
    )
    bias.add_argument("--std", nargs="+", type=float, metavar="X", help="of perturbations; default: the problem's")
    bias.add_argument("--lives", type=int, default=16, metavar="N", help="lives per estimate; default: 16")
    bias.add_argument("--repeats", type=int, default=32, metavar="N", help="independent repetitions; default: 32")
    bias.add_argument(
        "--lags", action="store_true", help="split a recipe's gradient by lag too (oracle problems: always)"
    )
    bias.add_argument("--seed", type=int, default=0, metavar="N", help="root of every random number; default: 0")
    bias.add_argument("--out", type=Path, metavar="DIR", help="for table and plot; default: out/bias/NAME")
    bias.add_argument("--quiet", action="store_true", help="no progress display")

    bring_in = _add(commands, "import", "turn published weights into a rule folder, with origin and licence")
    bring_in.add_argument("origin", choices=PUBLISHED, help="; ".join(f"{k}: {v}" for k, v in PUBLISHED.items()))
    bring_in.add_argument("file", type=Path, metavar="FILE")
    bring_in.add_argument("--to", type=Path, metavar="DIR", help="default: out/rules/NAME")

    hand_out = _add(commands, "export", "write a rule for other code: its objective, optimizer or schedule")
    hand_out.epilog = (
        "Writes a folder: the files, a README that says how they are called and whose the weights are, the licence. "
        "Weights stand beside the code. From Python: learned_rl.export."
    )
    hand_out.add_argument(
        "rule", metavar="RULE", help="folder with a rule file, built-in name, or models:/NAME/VERSION"
    )
    hand_out.add_argument(
        "--to", required=True, choices=EXPORTS, help="; ".join(f"{name}: {text}" for name, text in EXPORTS.items())
    )
    hand_out.add_argument(
        "--like", type=Path, metavar="NPZ", help="parameters of an agent: an optimizer's StableHLO is of one such tree"
    )
    hand_out.add_argument("--out", type=Path, metavar="DIR", help="default: out/exports/RULE-FORMAT")
    hand_out.add_argument("--tracking-uri", metavar="URI", help="MLflow store (default: sqlite:///mlflow.db, here)")

    listing = _add(commands, "list", "what there is, one line each")
    listing.add_argument("kind", choices=LISTS)

    verify = _add(commands, "verify", "check hashes, shapes and schema of a rule or a run, executing nothing")
    verify.add_argument("path", type=Path, metavar="RULE_OR_RUN")
    return parser


def _add(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    description = text[0].upper() + text[1:] + "."
    # Abbreviations would swallow settings: `--show` is an option, `--s` might be a field.
    command = commands.add_parser(name, help=text, description=description, allow_abbrev=False)
    command.set_defaults(help_text=command.format_help)
    command.add_argument("--json", type=Path, metavar="PATH", help="write a machine-readable summary here")
    return command


def _tracking(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tracking-uri", metavar="URI", help="MLflow store (default: sqlite:///mlflow.db, here)")
    command.add_argument("--quiet", action="store_true", help="no progress display")


def _run(known: argparse.Namespace, rest: Sequence[str]) -> dict[str, Any]:
    # Imported on demand, names first: `list`, `--help` and a mistyped name must not wait for JAX.
    if known.command == "discover":
        recipe, overrides = _dotted(known, rest)
        catalogue.check_recipe(recipe)
        from runs.discover import discover

        return discover(known, recipe, overrides)
    if rest:
        near = nearest(rest[0], _options(known))
        raise UsageError(f"unknown argument {rest[0]!r}{'; ' + near if near else ''}; see learned-rl --help")
    if known.command == "transfer":
        catalogue.check_suite(known.suite)
        for address in (known.rule, *known.against):
            catalogue.check_rule(address)
        if known.seeds < 1:
            raise UsageError(f"--seeds must be at least 1, not {known.seeds}")
        from runs.discover import transfer

        return transfer(known)
    if known.command == "bias":
        _check_bias(known)
        from runs.bias import measure

        return measure(known)
    if known.command == "import":
        from runs.imports import bring_in

        return bring_in(known)
    if known.command == "export":
        catalogue.check_rule(known.rule)
        from runs.exports import hand_out

        return hand_out(known)
    from runs import inspect

    return inspect.show(known) if known.command == "list" else inspect.verify(known)


def _check_bias(known: argparse.Namespace) -> None:
    catalogue.check_problem(known.problem)
    for name in known.estimator or ():
        catalogue.check_estimator(name)
    if known.lives < 1:
        raise UsageError(f"--lives must be at least 1, not {known.lives}")
    if known.repeats < 4:
        raise UsageError(f"--repeats must be at least 4, not {known.repeats}: fewer say nothing about noise")
    for option, values in (("--window", known.window), ("--std", known.std)):
        for value in values or ():
            if not value > 0:
                raise UsageError(f"{option} must be positive, not {value}")


def _options(known: argparse.Namespace) -> list[str]:
    return re.findall(r"--[\w-]+", known.help_text())


def _dotted(known: argparse.Namespace, rest: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The recipe, and the `--a.b value` and `--a.b=value` pairs. argparse cannot tell a recipe from a value."""
    recipe, overrides, words = "", {}, list(rest)
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            if recipe:
                raise UsageError(f"unexpected argument {word!r}; settings are given as --dotted.field value")
            recipe = word
        elif equals:
            overrides[name] = value
        elif words and not words[0].startswith("--"):
            overrides[name] = words.pop(0)
        else:
            near = nearest(word, _options(known))
            raise UsageError(f"{word} needs a value{'; ' + near if near else ''}")
    return recipe or DEFAULT_RECIPE, overrides


def _write_json(path: Path, summary: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(summary | {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}, indent=1) + "\n")
    except OSError as error:
        raise DiskError(f"--json {path}: {error.strerror}") from error
