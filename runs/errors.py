"""What can go wrong through no fault of the program, each with the exit code the command line promises for it.

A `UserError` carries a message written for a person: what, where, what is allowed. The command line prints it without
a traceback. Anything else that escapes is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake or an obstacle that the person at the keyboard can remove."""

    exit_code = 2


class UsageError(UserError):
    """The command was asked for something that does not exist or cannot be done."""


class ConfigurationError(UserError):
    """A setting is unknown, has the wrong type, or contradicts another one."""


class ArtifactRefused(UserError):
    """A stored file is damaged, from a newer version, or not what it claims to be."""

    exit_code = 65


class DiskError(UserError):
    """The disk is full, read-only or not permitted."""

    exit_code = 74


class RunBusy(UserError):
    """Another process works in this run directory."""

    exit_code = 75


class NumericalStop(UserError):
    """Training stopped itself: too few lives stay finite."""

    exit_code = 76


def nearest(name: str, options: Iterable[str]) -> str:
    """Suggests what was meant: "perhaps you meant X or Y", or "" when nothing comes near."""
    matches = difflib.get_close_matches(name, list(options), n=3, cutoff=0.6)
    return f"perhaps you meant {' or '.join(matches)}" if matches else ""
