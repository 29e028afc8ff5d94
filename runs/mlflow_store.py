"""Reaching an MLflow store without the ways in which that is known to go wrong.

- A new SQLite store that several processes open at once, or whose making is cut short, is broken for good: it is made
  under a lock and under another name.
- An unreachable server holds a call for four minutes by default: it fails fast, and the caller tries again.
- A relative address means something else in every working directory: addresses and artifact folders are absolute.
- Loading a model through an MLflow flavour runs code from the model: rules are only ever downloaded as files.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from runs.errors import ArtifactRefused, UsageError

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
REQUIRED = {
    # The caller tries again, and looks first whether the attempt that seemed to fail had been carried out. A repetition
    # inside the HTTP client would create a second run.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}
PREFERRED = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}


def absolute_uri(uri: str | None = None) -> str:
    """The tracking address in a form that means the same in every folder.

    None stands for the environment variable MLFLOW_TRACKING_URI, or else for `mlflow.db` in the working directory.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    return SQLITE + str(Path(uri.removeprefix(SQLITE)).absolute()) if uri.startswith(SQLITE) else uri


def connect(uri: str) -> "MlflowClient":
    """Opens a store, creating or migrating a SQLite one; blocks until it answers or fails (up to about 20 s)."""
    os.environ.update(PREFERRED | dict(os.environ) | REQUIRED)
    if not uri.startswith(SQLITE):
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    database = Path(uri.removeprefix(SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock", timeout=120):
        if not database.exists():  # made elsewhere first: a store whose making was cut short cannot be opened again
            half_made = database.with_name(f".{database.name}.new")
            half_made.unlink(missing_ok=True)
            _open(f"{SQLITE}{half_made}")
            os.replace(half_made, database)
        return _open(uri)


def _open(uri: str) -> "MlflowClient":
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)
    client.search_registered_models(max_results=1)
    return client


def experiment_id(client: "MlflowClient", uri: str, name: str) -> str:
    """Finds or creates an experiment; the artifacts of a SQLite store lie in `mlartifacts/` beside the database."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    if not uri.startswith(SQLITE):
        return client.create_experiment(name)
    database = Path(uri.removeprefix(SQLITE))
    with FileLock(f"{database}.lock", timeout=120):  # against another process that creates the same one
        found = client.get_experiment_by_name(name)
        location = (database.parent / "mlartifacts").as_uri()
        return found.experiment_id if found else client.create_experiment(name, artifact_location=location)


def fetch_rule(address: str, uri: str | None = None) -> Path:
    """Downloads `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `runs:/ID/PATH` as plain files; nothing is executed.

    Returns:
      A path inside a new temporary folder that only this user can read.

    Raises:
      UsageError: there is no such thing in the store, or the store cannot be reached.
      ArtifactRefused: the download holds something other than plain files and folders.
    """
    if not re.fullmatch(r"models:/[^/@]+(@[^/@]+|/\d+)|runs:/\w+/.+", address):
        raise UsageError(f"{address}: expected models:/NAME/VERSION, models:/NAME@ALIAS or runs:/ID/PATH")
    uri = absolute_uri(uri)
    folder = Path(tempfile.mkdtemp(prefix="learned-rl-rule-"))  # mode 0700
    try:
        path = _download(connect(uri), address, folder)
        odd = [p for p in path.rglob("*") if p.is_symlink() or not (p.is_file() or p.is_dir())]
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UsageError(f"{address} could not be fetched from {uri}: {error}") from error
    if odd:
        shutil.rmtree(folder, ignore_errors=True)
        raise ArtifactRefused(f"{address} holds {odd[0].name}, which is neither a file nor a folder")
    return path


def _download(client: "MlflowClient", address: str, folder: Path) -> Path:
    # Not `mlflow.artifacts.download_artifacts(address, registry_uri=...)`: MLflow 3.17 looks models up in the *global*
    # registry whatever it is told.
    if address.startswith("models:/"):
        name, _, alias = address.removeprefix("models:/").partition("@")
        name, _, version = name.partition("/")
        version = version or client.get_model_version_by_alias(name, alias).version
        address = client.get_model_version_download_uri(name, version)
    if not address.startswith("runs:/"):
        from mlflow.artifacts import download_artifacts

        return Path(download_artifacts(address, dst_path=str(folder), tracking_uri=client.tracking_uri))
    run_id, _, path = address.removeprefix("runs:/").partition("/")
    return Path(client.download_artifacts(run_id, path, str(folder)))
