"""`learned-rl import`: rules that others trained and published, as rule files."""

import argparse
from pathlib import Path
from typing import Any

from runs.errors import ArtifactRefused, DiskError, UsageError

MAX_BYTES = 256 * 2**20


def bring_in(known: argparse.Namespace) -> dict[str, Any]:
    """Reads a published file, and writes the rule folder that `transfer` and `verify` take.

    Raises:
      UsageError: there is no such file, or the folder is something else than a rule.
      ArtifactRefused: the file is not what was published under that name; nothing in it was executed.
      DiskError: the folder cannot be written.
    """
    content = _content(known.file)
    from learned_rl.rule_file import RuleRefused, save_rule
    from learned_rl.zoo import PUBLISHED

    try:
        rule, theta, record = PUBLISHED[known.origin](content)
    except RuleRefused as refused:
        raise ArtifactRefused(f"{known.file}: {refused}") from refused
    folder = known.to or Path("out") / "rules" / known.origin
    try:
        save_rule(rule, theta, folder, record)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise DiskError(f"{folder}: {error.strerror}") from error
    origin = record["origin"]
    if not origin["as_published"]:
        print(f"note: the file's SHA-256, {origin['sha256']}, is not that of the published one")
    print(f"{folder}\n{origin['attribution']}\nLicence: {origin['licence']}\nSource: {origin['source']}")
    return {"rule": str(folder), "origin": origin}


def _content(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ArtifactRefused(f"{file}: {file.stat().st_size} bytes, more than the {MAX_BYTES} allowed")
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
