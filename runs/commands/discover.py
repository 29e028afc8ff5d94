"""`learned-rl discover`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs import catalogue
from runs.commands import options
from runs.errors import UsageError

NAME, HELP = "discover", "meta-train a rule and carry it to held-out tasks; the same command resumes"
SETTINGS = True  # takes --dotted.field value
DEFAULT = "default"


def arguments(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        f"RECIPE: see `learned-rl list recipes`; {DEFAULT} if none is given. "
        "Any field of the recipe can be set by its dotted path, e.g. --steps 400 --rule.hidden 64 "
        "--outer.estimator.lives 32. `learned-rl discover RECIPE --show` prints them all."
    )
    command.usage = "learned-rl discover [RECIPE] [--dotted.field value ...] [options]"
    command.add_argument("--run-dir", type=Path, metavar="DIR", help="default: out/RECIPE")
    command.add_argument("--show", action="store_true", help="print the resolved configuration and stop")
    command.add_argument("--devices", type=int, default=0, metavar="N", help="shard lives over N devices (0: all)")
    options.store(command)
    options.quiet(command)


def run(known: argparse.Namespace) -> dict[str, Any]:
    recipe, overrides = _dotted(known.settings, known.suggest)
    catalogue.check_recipe(recipe)
    from runs.discover import discover

    return discover(known, recipe, overrides)


def _dotted(words: Sequence[str], suggest: Any) -> tuple[str, dict[str, str]]:
    """The recipe, and the `--a.b value` and `--a.b=value` pairs. argparse cannot tell a recipe from a value."""
    recipe, overrides, words = "", {}, list(words)
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
            near = suggest(word)
            raise UsageError(f"{word} needs a value{'; ' + near if near else ''}")
    return recipe or DEFAULT, overrides
