"""The published file as a rule file: faithful, or refused with the reason."""

import io
import json
import pickle
import zipfile

import jax
import numpy as np
import pytest

from learned_rl.rule_file import load_rule, verify_rule
from learned_rl.rule_settings import RuleRefused
from learned_rl.rules.disco.published import LAYERS, disco103
from learned_rl.rules.disco.rule import Disco
from learned_rl.zoo import PUBLISHED
from runs import cli
from runs.commands import bring_in
from tests.learned_rl.disco import recorded


def archive(**changes):
    """An npz of the published names and shapes, with some arrays replaced or (None) left out."""
    theta = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), jax.eval_shape(Disco().init, jax.random.key(0)))
    arrays = recorded.as_published(theta)
    arrays = {k: x[None] if "conv1_d" in k and x.ndim == 2 else x for k, x in arrays.items()} | changes
    file = io.BytesIO()
    np.savez(file, **{k: x for k, x in arrays.items() if x is not None})
    return file.getvalue()


BIG = np.zeros(256, np.float32)
BIG[7] = np.inf
REFUSED = {
    "pickled": (lambda: archive(**{"lstm/linear/b": np.array([{}], object)}), "pickled"),
    "pickle": (lambda: pickle.dumps({"lstm/linear/b": 1}), "not an npz archive"),
    "text": (lambda: b"weights", "not an npz archive"),
    "empty": (lambda: b"", "not an npz archive"),
    "cut short": (lambda: archive()[:-1000], "not an npz archive"),
    "missing": (lambda: archive(**{"lstm/linear/b": None}), "lstm/linear/b missing"),
    "unknown": (lambda: archive(**{"lstm/linear_9/b": np.zeros(1, np.float32)}), "unknown 'lstm/linear_9/b'"),
    "shape": (
        lambda: archive(**{"lstm/linear/b": np.zeros(128, np.float32)}),
        r"float32\[128\], expected float32\[256\]",
    ),
    "no axis": (
        lambda: archive(**{"lstm/sequential/conv1_d/w": np.zeros((18, 16), np.float32)}),
        r"expected float32\[1, 18, 16\]",
    ),
    "dtype": (lambda: archive(**{"lstm/linear/b": np.zeros(256)}), r"float64\[256\], expected"),
    "infinite": (lambda: archive(**{"lstm/linear/b": BIG}), "not finite"),
    "nan": (lambda: archive(**{"lstm/linear/b": np.full(256, np.nan, np.float32)}), "not finite"),
    "bomb": (lambda: archive(bomb=np.zeros(17 * 2**20, np.float32)), "more than the"),
    "not an array": (lambda: with_entry("note.txt", b"x"), "note.txt"),
}


def with_entry(name, content):
    file = io.BytesIO(archive())
    with zipfile.ZipFile(file, "a") as opened:
        opened.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_the_published_architecture_is_refused(what):
    content, why = REFUSED[what]
    with pytest.raises(RuleRefused, match=why):
        disco103(content())


def test_another_file_of_the_same_architecture_is_taken_and_said_to_be_another():
    _, theta, record = disco103(archive())
    assert not record["origin"]["as_published"]
    assert sum(x.size for x in jax.tree.leaves(theta)) == 754_778


def test_every_layer_has_one_published_name():
    assert len(set(LAYERS.values())) == len(LAYERS) == 21


def test_the_command_line_knows_every_published_rule():
    assert set(bring_in.PUBLISHED) == set(PUBLISHED)


@recorded.needs_weights
def test_the_published_weights_survive_the_rule_file(tmp_path, capsys):
    summary = tmp_path / "summary.json"
    command = ["import", "disco103", str(recorded.WEIGHTS), "--to", str(tmp_path / "rule"), "--json", str(summary)]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    for words in ("Nature, 2025", "CC-BY-4.0", "9059a29f"):
        assert words in said
    verify_rule(tmp_path / "rule")
    loaded = load_rule(tmp_path / "rule")
    assert loaded.rule == Disco()
    origin = loaded.record["origin"]
    assert origin["as_published"]
    assert {"attribution", "licence", "source", "copyright", "changes"} <= set(origin)
    assert json.loads(summary.read_text())["origin"] == origin
    with np.load(recorded.WEIGHTS) as file:
        for name, x in recorded.as_published(loaded.theta).items():
            np.testing.assert_array_equal(np.asarray(x).ravel(), file[name].ravel())


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ("import disco103 {bad} --to {to}", 65, "not an npz archive"),
        ("import disco103 {folder}/nowhere.npz", 2, "No such file"),
        ("import disco103 {folder}", 2, "Is a directory"),
        ("import disco104 {bad}", 2, "perhaps you meant disco103"),
        ("import disco103 {good} --to {folder}", 2, "is not overwritten"),
    ],
)
def test_mistakes_are_told_and_leave_nothing_behind(words, code, why, tmp_path, capsys):
    bad, good = tmp_path / "bad.npz", tmp_path / "good.npz"
    bad.write_bytes(b"no")
    good.write_bytes(archive())
    command = words.format(bad=bad, good=good, folder=tmp_path, to=tmp_path / "rule")
    assert cli.main(command.split()) == code
    assert why in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.npz", "good.npz"]
