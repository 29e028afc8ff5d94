import subprocess
import sys
import time

import pytest

from runs import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("UsageError", 2),
        ("ConfigurationError", 2),
        ("ArtifactRefused", 65),
        ("DiskError", 74),
        ("RunBusy", 75),
        ("NumericalStop", 76),
    ],
)
def test_exit_codes_are_the_promised_ones(kind, code):
    assert getattr(errors, kind)("why").exit_code == code


def test_nearest_names_what_was_meant_and_is_silent_otherwise():
    assert errors.nearest("stdd", ["horizon", "std"]) == "perhaps you meant std"
    assert errors.nearest("xyz", ["horizon", "std"]) == ""


def test_modules_the_command_line_needs_at_once_import_neither_jax_nor_mlflow():
    modules = "runs.errors, runs.overrides, runs.journal, runs.checkpoints, runs.folder, runs.lock, runs.mlflow_sink"
    code = (
        f"import sys, {modules}, runs.progress, runs.signals; print([m for m in ('jax', 'mlflow') if m in sys.modules])"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert time.perf_counter() - start < 2.0
