import json
import os
import subprocess

import pytest

from runs.errors import ArtifactRefused, ConfigurationError, DiskError, UsageError
from runs.folder import RunFolder, git_commit

SETTINGS = {"outer.estimator": "Persistent", "outer.estimator.std": 0.03, "seed": 0}


def test_a_run_is_described_once_and_found_again(tmp_path):
    created = RunFolder.create_or_resume(tmp_path / "a b" / "é", SETTINGS, "cpu")
    record = json.loads((created.path / "run.json").read_bytes())
    assert record["configuration"] == SETTINGS
    assert record["device"] == "cpu"
    assert record["versions"]["jax"][0].isdigit()
    resumed = RunFolder.create_or_resume(tmp_path / "a b" / "é", SETTINGS, "another device")
    assert resumed == created
    assert RunFolder.open(created.path).run == created.run
    assert os.listdir(created.path) == ["run.json"]


def test_other_settings_are_refused_with_both_values(tmp_path):
    RunFolder.create_or_resume(tmp_path, SETTINGS, "cpu")
    other = SETTINGS | {"outer.estimator.std": 0.1, "new": 1}
    with pytest.raises(ConfigurationError) as caught:
        RunFolder.create_or_resume(tmp_path, other, "cpu")
    assert "outer.estimator.std: this run has 0.03, now 0.1" in str(caught.value)
    assert "new: this run has no such setting, now 1" in str(caught.value)
    assert "seed" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff"])
def test_a_damaged_description_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ArtifactRefused, match=r"run\.json is damaged"):
        RunFolder.create_or_resume(tmp_path, SETTINGS, "cpu")
    assert (tmp_path / "run.json").read_bytes() == content


def test_a_newer_schema_and_a_lost_description_are_refused(tmp_path):
    RunFolder.create_or_resume(tmp_path, SETTINGS, "cpu")
    record = json.loads((tmp_path / "run.json").read_bytes())
    (tmp_path / "run.json").write_text(json.dumps(record | {"schema": 2}))
    with pytest.raises(ArtifactRefused, match="schema 2, this version reads 1; upgrade"):
        RunFolder.open(tmp_path)
    (tmp_path / "run.json").unlink()
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ArtifactRefused, match=r"run\.json is missing"):
        RunFolder.create_or_resume(tmp_path, SETTINGS, "cpu")


def test_places_that_cannot_be_a_run_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for path in [tmp_path / "file", tmp_path / "file" / "run"]:
        with pytest.raises(UsageError, match="is a file, or lies inside one"):
            RunFolder.create_or_resume(path, SETTINGS, "cpu")
    with pytest.raises(UsageError, match="too long"):
        RunFolder.create_or_resume(tmp_path / ("x" * 300), SETTINGS, "cpu")
    with pytest.raises(UsageError, match="not a run directory"):
        RunFolder.open(tmp_path)


def test_an_unwritable_folder_is_found_at_the_start(tmp_path, monkeypatch):
    RunFolder.create_or_resume(tmp_path / "run", SETTINGS, "cpu")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("runs.durable.write_synced", refuse)
    for path in [tmp_path / "run", tmp_path / "new"]:
        with pytest.raises(DiskError, match="Permission denied"):
            RunFolder.create_or_resume(path, SETTINGS, "cpu")


def test_the_commit_is_unknown_when_git_cannot_say(monkeypatch):
    assert git_commit() == "unknown" or len(git_commit().removesuffix("+changes")) == 40

    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert git_commit() == "unknown"
