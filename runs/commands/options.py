"""Options that several commands have."""

import argparse
from collections.abc import Sequence

_WHERE = {"--run-dir": 2, "--json": 2, "--tracking-uri": 2, "--quiet": 1}  # words that each takes, itself included
RULE = "folder with a rule file, built-in name, or models:/NAME/VERSION"


def store(command: argparse.ArgumentParser) -> None:
    """`--tracking-uri`."""
    command.add_argument("--tracking-uri", metavar="URI", help="MLflow store (default: sqlite:///mlflow.db, here)")


def quiet(command: argparse.ArgumentParser) -> None:
    """`--quiet`."""
    command.add_argument("--quiet", action="store_true", help="no progress display")


def allow_overlap(command: argparse.ArgumentParser) -> None:
    """`--allow-overlap`."""
    command.add_argument(
        "--allow-overlap",
        action="store_true",
        help="evaluate on tasks that a rule was trained on, too; the table says so",
    )


def that_matter(words: Sequence[str]) -> list[str]:
    """A command line without what only says where things go, and how much is said meanwhile."""
    kept, rest = [], list(words)
    while rest:
        name, equals, _ = rest[0].partition("=")
        count = 1 if equals else _WHERE.get(name, 1)
        kept += [] if name in _WHERE else rest[:1]
        rest = rest[count:]
    return kept
