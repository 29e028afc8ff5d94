"""The folder of one run: what it is, and where its parts are.

run.json       what was asked for: resolved configuration, run id, versions; written once, before anything else
journal.jsonl  what happened
checkpoints/   where to go on from
rule/          what came out
"""

import errno
import importlib.metadata
import json
import platform
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs.durable import disk_errors, replace_file
from runs.errors import ArtifactRefused, ConfigurationError, UsageError

SCHEMA = 1
LIBRARIES = ("learned-rl", "jax", "jaxlib", "flax", "optax", "evosax", "gymnax", "numpy", "mlflow", "safetensors")


@dataclass(frozen=True)
class RunFolder:
    """A run folder that exists and can be written. `record` is the content of `run.json`."""

    path: Path
    record: Mapping[str, Any]

    @classmethod
    def create_or_resume(
        cls, path: Path, configuration: Mapping[str, Any], device: str, command: Sequence[str] = ()
    ) -> "RunFolder":
        """Starts a run in `path`, or goes on with the one that is there.

        Args:
          path: created if missing, with its parents.
          configuration: flattened settings (`runs.overrides.flatten`).
          device: what computes, such as `jax.devices()[0].device_kind`.
          command: the words of the command line that matter to the outcome, for `learned-rl reproduce`.

        Raises:
          UsageError: `path` is or contains a file, or is too long.
          DiskError: the folder cannot be written. Both are found here, not at the first save.
          ConfigurationError: the run in `path` has other settings; the message lists them.
          ArtifactRefused: `run.json` is damaged, missing beside other parts of a run, or from a newer version.
        """
        path = path.absolute()
        _make(path)
        if not (path / "run.json").exists():
            if any((path / part).exists() for part in ("journal.jsonl", "checkpoints")):
                raise ArtifactRefused(f"{path} holds a run, but its run.json is missing")
            record = _describe(configuration, device) | {"command": list(command)}
            with disk_errors("creating the run folder", path):
                replace_file(path / "run.json", json.dumps(record, indent=1, allow_nan=False).encode())
            return cls(path, record)
        folder = cls.open(path)
        folder._check_writable()
        folder._check_same(configuration)
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Reads an existing run folder without changing it.

        Raises:
          UsageError: there is no run in `path`.
          ArtifactRefused: its `run.json` is damaged or from a newer version.
        """
        file = path / "run.json"
        if not file.is_file():
            raise UsageError(f"{path} is not a run directory (it has no run.json)")
        try:
            record = json.loads(file.read_bytes())
            schema, _, _ = record["schema"], record["run"], record["configuration"]
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactRefused(f"{file} is damaged: {error}") from error
        if schema != SCHEMA:
            raise ArtifactRefused(f"{file}: schema {schema}, this version reads {SCHEMA}; upgrade learned-rl")
        return cls(path.absolute(), record)

    @property
    def run(self) -> str:
        """The run's own identity, wherever it is tracked."""
        return self.record["run"]

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def rule(self) -> Path:
        return self.path / "rule"

    def _check_writable(self) -> None:
        with disk_errors("writing to the run folder", self.path):
            replace_file(self.path / ".writable", b"")
            (self.path / ".writable").unlink()

    def _check_same(self, configuration: Mapping[str, Any]) -> None:
        recorded = self.record["configuration"]
        different = [
            f"  {name}: this run has {recorded.get(name, 'no such setting')}, now {configuration.get(name, 'nothing')}"
            for name in sorted({*recorded, *configuration})
            if recorded.get(name) != configuration.get(name)
        ]
        if different:
            raise ConfigurationError(
                f"{self.path} was started with other settings; restore them or choose another run directory:\n"
                + "\n".join(different)
            )


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"the run directory {path} is a file, or lies inside one") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"the name of the run directory is too long: {path}") from None
        with disk_errors("creating the run folder", path):
            raise


def _describe(configuration: Mapping[str, Any], device: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "run": uuid.uuid4().hex,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "configuration": dict(configuration),
        "versions": versions(),
        "git": git_commit(),
        "device": device,
    }


def versions() -> dict[str, str]:
    """Of Python, and of the libraries that a result may depend on."""
    return {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}}


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def git_commit() -> str:
    """The commit of this source tree, with `+changes` where files differ from it; "unknown" outside a repository."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():  # installed: a repository further up is somebody else's
        return "unknown"
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
