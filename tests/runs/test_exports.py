"""`learned-rl export` and `import` on what they are given: folders that other programs can use, or a reason."""

import hashlib
import io
import json
import os
import pickle

import jax
import numpy as np
import pytest
import safetensors.numpy

from learned_rl.rule_file import save_rule
from learned_rl.rules.drift import Drift, LearnedDrift
from learned_rl.rules.lpg import LPG
from runs import cli
from runs.commands import hand_out

FORMATS = ("loss", "standalone", "stablehlo")
RULE = Drift(LearnedDrift(hidden=2))
THETA = {"inward": np.ones((8, 2), np.float32), "outward": np.ones(2, np.float32)}


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return save_rule(RULE, THETA, tmp_path / "mine", {"origin": {"licence": "CC-BY-4.0"}})


def test_the_formats_of_the_command_are_those_there_are():
    from learned_rl.export.formats import FORMATS as there

    assert set(hand_out.EXPORTS) == set(there)


@pytest.mark.parametrize("form", FORMATS)
def test_a_rule_file_becomes_a_sealed_folder_and_again(form, folder, tmp_path, capsys):
    for _ in range(2):
        assert cli.main(["export", "mine", "--to", form, "--json", "summary.json"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    out = tmp_path / "out" / "exports" / f"mine-{form}"
    assert summary["folder"] == str(out)
    assert sorted([*summary["files"], "MANIFEST.sha256"]) == sorted(p.name for p in out.iterdir())
    assert "CC-BY-4.0" in (out / "README.md").read_text()
    for line in (out / "MANIFEST.sha256").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert str(out / "README.md") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("export mine --to standalon", "perhaps you meant standalone"),
        ("export mine", "required: --to"),
        ("export minne --to loss", "there is no built-in rule 'minne'"),
        ("export random --to loss", "random cannot be exported to loss: NoLearning has neither"),
        ("export mine --to loss --out .", "is not overwritten"),
        ("export mine --to loss --outt x", "perhaps you meant --out"),
    ],
)
def test_what_cannot_be_exported_is_said_and_nothing_is_written(words, why, folder, tmp_path, capsys):
    assert cli.main(words.split()) == 2
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def reseal(folder):
    names = ("rule.json", "rule.safetensors")
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / "MANIFEST.sha256").write_text("".join(lines))


def tensors(folder, **arrays):
    (folder / "rule.safetensors").write_bytes(safetensors.numpy.save(arrays))
    reseal(folder)


def other_architecture(folder):
    other = LPG(predictions=2, hidden=2)
    save_rule(other, other.init(jax.random.key(0)), folder.parent / "other")
    content = (folder.parent / "other" / "rule.safetensors").read_bytes()
    (folder / "rule.safetensors").write_bytes(content)
    reseal(folder)


def pickled(folder):
    (folder / "rule.safetensors").write_bytes(pickle.dumps(Bomb(folder.parent / "bang")))
    reseal(folder)


REFUSED = {
    "pickle": (pickled, "not a safetensors file"),
    "a pickle beside": (lambda f: (f / "rule.pkl").write_bytes(pickle.dumps(Bomb(f.parent / "bang"))), "not belong"),
    "code beside": (lambda f: (f / "sitecustomize.py").write_text("import os; os.mkdir('bang')"), "not belong"),
    "shape": (lambda f: tensors(f, inward=np.ones((8, 3), np.float32), outward=THETA["outward"]), r"[8, 3]"),
    "not finite": (lambda f: tensors(f, **THETA | {"outward": np.array([1, np.nan], np.float32)}), "not finite"),
    "dtype": (lambda f: tensors(f, **THETA | {"outward": np.ones(2)}), "float64"),
    "another architecture": (other_architecture, "unknown 'embed_0/bias'"),
    "not its hash": (lambda f: (f / "rule.safetensors").write_bytes(b"x"), "SHA-256"),
}


@pytest.mark.parametrize("command", ["export mine --to loss", "verify mine"])
@pytest.mark.parametrize("damage", REFUSED)
def test_a_rule_file_that_is_not_what_it_says_is_refused(command, damage, folder, tmp_path, capsys):
    do, why = REFUSED[damage]
    do(folder)
    assert cli.main(command.split()) == 65
    assert why in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "bang").exists()


def archive(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def files(bang):
    bomb = np.array([Bomb(bang)], object)
    return {
        "pickled": (archive(**{"lstm/linear/b": bomb}), "pickled"),
        "pickle": (pickle.dumps(Bomb(bang)), "not an npz archive"),
        "another architecture": (archive(**THETA), "unknown 'inward'"),
        "an array alone": (_npy(np.zeros(5, np.float32)), "not an npz archive"),
    }


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("what", ["pickled", "pickle", "another architecture", "an array alone"])
def test_published_weights_that_are_something_else_are_refused(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content, why = files(tmp_path / "bang")[what]
    (tmp_path / "weights.npz").write_bytes(content)
    assert cli.main(["import", "disco103", "weights.npz"]) == 65
    assert why in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["weights.npz"]
