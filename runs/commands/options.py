"""Options that several commands have."""

import argparse

RULE = "folder with a rule file, built-in name, or models:/NAME/VERSION"


def store(command: argparse.ArgumentParser) -> None:
    """`--tracking-uri`."""
    command.add_argument("--tracking-uri", metavar="URI", help="MLflow store (default: sqlite:///mlflow.db, here)")


def quiet(command: argparse.ArgumentParser) -> None:
    """`--quiet`."""
    command.add_argument("--quiet", action="store_true", help="no progress display")
