"""What is saved comes back equal; what is not exactly right is refused, with a reason a person can use."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import linen as nn

from learned_rl import rule_file
from learned_rl.action_network import ActionNetwork
from learned_rl.blueprint import Blueprint
from learned_rl.hypernetwork import Hypernetwork
from learned_rl.ledger_network import LedgerNetwork
from learned_rl.memories import Transformer
from learned_rl.networks import CNN, MLP, Network
from learned_rl.optimizers import Adam, Sgd
from learned_rl.rule_file import RuleRefused, load_rule, save_rule, verify_rule
from learned_rl.rule_settings import CLOSED_LIST, decode, encode
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import DiscoveredDrift, Drift, LearnedDrift
from learned_rl.rules.lpg import LPG
from learned_rl.rules.none import NoLearning
from learned_rl.rules.rl2 import RL2
from learned_rl.rules.schedule import Schedule
from learned_rl.types import Continuous
from learned_rl.zoo import BUILT_IN, LEARNABLE, description

DEEP = Schedule(
    base=Drift(
        drift=LearnedDrift(hidden=4, base=DiscoveredDrift(alpha=1.5)),
        coefficients=Coefficients(learning_rate=0.1, discount=0.5),
        optimizer=Sgd(max_norm=2.0),
        epochs=2,
        anneal=True,
    ),
    hidden=3,
    learned=("trace", "clip"),
)
RULES = [make() for make in {**BUILT_IN, **LEARNABLE}.values()] + [DEEP, LPG(hidden=4, optimizer=Adam(b1=0.5))]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    rule = LPG(predictions=3, hidden=4)
    folder = tmp_path_factory.mktemp("original") / "rule"
    return save_rule(rule, rule.init(jax.random.key(0)), folder, {"tasks": ["a"], "score": 1.5})


@pytest.fixture
def saved(original, tmp_path):
    return pathlib.Path(shutil.copytree(original, tmp_path / "rule"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_what_is_saved_comes_back_equal(rule, tmp_path):
    rng, shapes = np.random.default_rng(2), jax.eval_shape(rule.init, jax.random.key(1))
    theta = jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(x.dtype), shapes)
    record = {"tasks": ["CartPole-v1"], "score": {"mean": np.float32(0.5), "runs": 3}, "note": None}
    loaded = load_rule(save_rule(rule, theta, tmp_path / "r", record))
    assert loaded.rule == rule
    assert type(loaded.rule) is type(rule)
    assert jax.tree.structure(loaded.theta) == jax.tree.structure(theta)
    jax.tree.map(np.testing.assert_array_equal, loaded.theta, theta)
    assert loaded.record == {"tasks": ["CartPole-v1"], "score": {"mean": 0.5, "runs": 3}, "note": None}
    assert len(verify_rule(tmp_path / "r")) == 6


def test_every_class_of_the_closed_list_is_distinct_and_has_defaults():
    kinds = [kind for role in CLOSED_LIST.values() for kind in role.values()]
    assert len(set(kinds)) == len(kinds)
    for kind in kinds:
        assert encode(kind())["id"] in {name for role in CLOSED_LIST.values() for name in role}


def test_tensors_are_named_by_their_path_and_sha256sum_understands_the_manifest(saved):
    assert "lstm/ii/kernel" in safetensors.numpy.load_file(saved / "rule.safetensors")
    lines = (saved / "MANIFEST.sha256").read_text().splitlines()
    assert lines == [
        f"{hashlib.sha256((saved / n).read_bytes()).hexdigest()}  {n}" for n in ("rule.json", "rule.safetensors")
    ]


def test_settings_written_before_a_field_was_added_are_read_with_its_default():
    """Of the fields that were added; any other that is missing is still refused."""
    for rule in (LPG(hidden=4), Drift(drift=LearnedDrift(hidden=4))):
        old = json.loads(json.dumps(encode(rule)).replace(', "temporal": false', ""))
        assert "temporal" not in json.dumps(old)
        assert decode(old) == rule
    with pytest.raises(RuleRefused, match="rule: hidden missing"):
        decode({name: value for name, value in encode(LPG()).items() if name not in ("hidden", "temporal")})


def test_a_rule_file_is_replaced_whole_and_nothing_is_left_behind(saved):
    save_rule(NoLearning(), (), saved)
    assert load_rule(saved).rule == NoLearning()
    assert os.listdir(saved.parent) == ["rule"]


def test_a_failed_replacement_keeps_the_old_file(saved, monkeypatch):
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    real = os.replace

    def fails(source, target):
        if pathlib.Path(target) == saved and ".old" not in str(source):
            raise OSError("disk")
        real(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk"):
        save_rule(NoLearning(), (), saved)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
    assert os.listdir(saved.parent) == ["rule"]


def test_something_else_is_never_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="not overwritten"):
        save_rule(NoLearning(), (), tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("theta", "record", "reason"),
    [
        ({"extra": jnp.zeros(1)}, {}, "unknown 'extra'"),
        ((), {"x": float("nan")}, "not JSON compliant|not JSON"),
        ((), {"x": object()}, "not JSON"),
        ((), {"x": "y" * 2**20}, "more than"),
    ],
)
def test_what_could_not_be_loaded_is_not_written(theta, record, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        save_rule(NoLearning(), theta, tmp_path / "r", record)
    assert not (tmp_path / "r").exists()


def test_only_rules_of_the_closed_list_are_written(tmp_path):
    class Mine(NoLearning):
        pass

    with pytest.raises(ValueError, match="closed list"):
        save_rule(Mine(), (), tmp_path / "r")


# Refusals. `reseal` renews the hashes, so that what is refused is not just a wrong hash.


def reseal(folder):
    names = ("rule.json", "rule.safetensors")
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / "MANIFEST.sha256").write_text("".join(lines))


def edit_json(folder, change):
    spec = json.loads((folder / "rule.json").read_text())
    change(spec)
    (folder / "rule.json").write_text(json.dumps(spec))
    reseal(folder)


def edit_text(folder, change):
    (folder / "rule.json").write_text(change((folder / "rule.json").read_text()))
    reseal(folder)


def edit_tensors(folder, change):
    tensors = dict(safetensors.numpy.load_file(folder / "rule.safetensors"))
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / "rule.safetensors")
    reseal(folder)


def append(path, text):
    path.write_text(path.read_text() + text)


def raw_weights(folder, content):
    (folder / "rule.safetensors").write_bytes(content)
    reseal(folder)


def header(text):
    return len(text).to_bytes(8, "little") + text.encode()


def link(folder, name):
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)


def pipe(folder):
    (folder / "rule.json").unlink()
    os.mkfifo(folder / "rule.json")


BIAS = "policy/bias"
DAMAGES = {
    "missing weights": (lambda f: (f / "rule.safetensors").unlink(), "rule.safetensors missing"),
    "missing json": (lambda f: (f / "rule.json").unlink(), "rule.json missing"),
    "missing manifest": (lambda f: (f / "MANIFEST.sha256").unlink(), "MANIFEST.sha256 missing"),
    "no folder": (lambda f: f.rename(f.parent / "gone"), "no such folder"),
    "extra file": (lambda f: (f / "setup.py").write_text("raise SystemExit"), "'setup.py' does not belong"),
    "extra pickle": (lambda f: (f / "rule.pkl").write_bytes(b"\x80\x04K\x01."), "'rule.pkl' does not belong"),
    "extra folder": (lambda f: (f / "code").mkdir(), "'code' does not belong"),
    "linked json": (lambda f: link(f, "rule.json"), "rule.json: a link"),
    "linked weights": (lambda f: link(f, "rule.safetensors"), "rule.safetensors: a link"),
    "pipe": (pipe, "rule.json: not a plain file"),
    "manifest of more": (lambda f: append(f / "MANIFEST.sha256", "0" * 64 + "  ../x\n"), "lists something"),
    "pickle as weights": (lambda f: raw_weights(f, b"\x80\x04\x95cos\nsystem\n."), "not a safetensors file"),
    "empty weights": (lambda f: raw_weights(f, b""), "not a safetensors file"),
    "huge header": (lambda f: raw_weights(f, (2**63 - 1).to_bytes(8, "little") + b"{}"), "not a safetensors file"),
    "huge shape": (
        lambda f: raw_weights(f, header('{"x":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,4]}}')),
        "not a safetensors file",
    ),
    "missing tensor": (lambda f: edit_tensors(f, lambda t: t.pop(BIAS)), f"{BIAS} missing"),
    "extra tensor": (
        lambda f: edit_tensors(f, lambda t: t.update({"policy/bia": t[BIAS]})),
        "unknown 'policy/bia'; near",
    ),
    "shape": (
        lambda f: edit_tensors(f, lambda t: t.update({BIAS: np.zeros(2, np.float32)})),
        r"float32\[2\], the sett",
    ),
    "transposed": (
        lambda f: edit_tensors(f, lambda t: t.update({"policy/kernel": t["policy/kernel"].T.copy()})),
        "imply",
    ),
    "dtype": (lambda f: edit_tensors(f, lambda t: t.update({BIAS: np.zeros(1, np.float64)})), "float64"),
    "half": (lambda f: edit_tensors(f, lambda t: t.update({BIAS: np.zeros(1, np.float16)})), "float16"),
    "nan": (lambda f: edit_tensors(f, lambda t: t.update({BIAS: np.full(1, np.nan, np.float32)})), "not finite"),
    "infinite": (lambda f: edit_tensors(f, lambda t: t.update({BIAS: np.full(1, -np.inf, np.float32)})), "not finite"),
    "huge weight": (lambda f: edit_tensors(f, lambda t: t.update({BIAS: np.full(1, -2e6, np.float32)})), "beyond"),
    "newer minor": (lambda f: edit_json(f, lambda s: s.update(schema="1.1")), "made by learned-rl '0.*upgrade"),
    "newer major": (lambda f: edit_json(f, lambda s: s.update(schema="2.0", more=1)), "upgrade"),
    "no schema": (lambda f: edit_json(f, lambda s: s.pop("schema")), "no schema"),
    "odd schema": (lambda f: edit_json(f, lambda s: s.update(schema="one")), "MAJOR.MINOR"),
    "old schema": (lambda f: edit_json(f, lambda s: s.update(schema="0.9")), "never"),
    "unknown rule": (lambda f: edit_json(f, lambda s: s["rule"].update(id="lpgg")), r"unknown 'lpgg'; nearest: lpg"),
    "import path": (lambda f: edit_json(f, lambda s: s["rule"].update(id="os.system")), "unknown 'os.system'"),
    "dunder": (lambda f: edit_json(f, lambda s: s["rule"].update(__class__="x")), "unknown '__class__'"),
    "target": (lambda f: edit_json(f, lambda s: s["rule"].update(_target_="os.system")), "unknown '_target_'"),
    "unknown setting": (
        lambda f: edit_json(f, lambda s: s["rule"].update(hiden=3)),
        "unknown 'hiden'; nearest: hidden",
    ),
    "missing setting": (lambda f: edit_json(f, lambda s: s["rule"].pop("hidden")), "rule: hidden missing"),
    "word for number": (lambda f: edit_json(f, lambda s: s["rule"].update(hidden="4")), "expected int, found '4'"),
    "float for int": (lambda f: edit_json(f, lambda s: s["rule"].update(hidden=4.0)), "expected int"),
    "bool for int": (lambda f: edit_json(f, lambda s: s["rule"].update(hidden=True)), "expected int"),
    "other size": (lambda f: edit_json(f, lambda s: s["rule"].update(hidden=5)), "the settings imply"),
    "absurd size": (lambda f: edit_json(f, lambda s: s["rule"].update(hidden=10**9)), "the settings imply"),
    "beyond absurd": (lambda f: edit_json(f, lambda s: s["rule"].update(hidden=10**30)), "settings"),
    "negative size": (lambda f: edit_json(f, lambda s: s["rule"].update(hidden=-4)), "settings"),
    "other role": (
        lambda f: edit_json(f, lambda s: s["rule"].update(optimizer={"id": "clip_drift"})),
        "unknown 'clip_d",
    ),
    "number for object": (lambda f: edit_json(f, lambda s: s["rule"].update(optimizer=3)), "rule.optimizer: expected"),
    "list id": (lambda f: edit_json(f, lambda s: s["rule"].update(id=["lpg"])), "rule: expected"),
    "other heads": (lambda f: edit_json(f, lambda s: s["heads"]["flat"].update(prediction=9)), "heads differ"),
    "unknown key": (lambda f: edit_json(f, lambda s: s.update(loader_module="os")), "unknown 'loader_module'"),
    "record a list": (lambda f: edit_json(f, lambda s: s.update(record=[])), "are objects"),
    "duplicate key": (lambda f: edit_text(f, lambda t: t.replace('"score"', '"tasks"')), "stands twice"),
    "nan literal": (lambda f: edit_text(f, lambda t: t.replace("1.5", "NaN")), "NaN is not JSON"),
    "infinity literal": (lambda f: edit_text(f, lambda t: t.replace("1.5", "-Infinity")), "-Infinity is not JSON"),
    "overflow literal": (lambda f: edit_text(f, lambda t: t.replace("1.5", "1e999")), "not a finite number"),
    "long integer": (lambda f: edit_text(f, lambda t: t.replace("1.5", "1" * 9999)), "rule.json"),
    "deep": (lambda f: edit_text(f, lambda t: t.replace("1.5", "[" * 40 + "]" * 40)), "deeper than 32"),
    "deepest": (lambda f: edit_text(f, lambda t: "[" * 500_000), "rule.json"),
    "large json": (lambda f: edit_text(f, lambda t: t + " " * 2**20), "more than the 1048576"),
    "not utf-8": (lambda f: (f / "rule.json").write_bytes(b'{"\xff": 1}') and reseal(f), "rule.json"),
    "not an object": (lambda f: edit_text(f, lambda t: "[]"), "no schema"),
    "trailing": (lambda f: edit_text(f, lambda t: t + "{}"), "Extra data"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_with_its_reason(damage, saved):
    do, reason = DAMAGES[damage]
    do(saved)
    for read in (load_rule, verify_rule):
        with pytest.raises(RuleRefused) as refused:
            read(saved)
        assert re.search(reason, str(refused.value)), refused.value
        assert str(refused.value).startswith(str(saved))
        assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r["base"].update(id="no_such"), "rule.base.id: unknown 'no_such'"),
        (lambda r: r.update(base=encode(LPG(hidden=2))), "has no coefficients"),
        (lambda r: r.update(learned=["trace", "beta"]), "'beta' is not a coefficient"),
        (lambda r: r.update(learned="trace"), "learned: expected a list"),
        (lambda r: r.update(learned=["trace"] * 65), "at most 64"),
        (lambda r: r.update(learned=["trace", 1]), "learned: expected str, found 1"),
        (
            lambda r: r["base"]["drift"].update(base=encode(LearnedDrift())),
            "rule.base.drift.base.id: unknown 'learned_d",
        ),
        (lambda r: r["base"]["coefficients"].update(discount=None), "rule.base.coefficients.discount: expected float"),
    ],
)
def test_nested_settings_are_refused_by_their_dotted_path(change, reason, tmp_path):
    folder = save_rule(DEEP, DEEP.init(jax.random.key(0)), tmp_path / "r")
    edit_json(folder, lambda s: change(s["rule"]))
    with pytest.raises(RuleRefused, match=reason):
        load_rule(folder)


def test_a_whole_number_is_a_float(tmp_path):
    folder = save_rule(ActorCritic(), (), tmp_path / "r")
    edit_json(folder, lambda s: s["rule"]["coefficients"].update(discount=1))
    loaded = load_rule(folder).rule
    assert isinstance(loaded, ActorCritic)
    assert type(loaded.coefficients.discount) is float


def test_every_single_flipped_bit_is_refused(saved):
    rng = np.random.default_rng(0)
    for name in ("rule.json", "rule.safetensors", "MANIFEST.sha256"):
        content = (saved / name).read_bytes()
        for bit in rng.choice(8 * len(content), size=40, replace=False):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            (saved / name).write_bytes(bytes(flipped))
            with pytest.raises(RuleRefused):
                load_rule(saved)
        (saved / name).write_bytes(content)
    load_rule(saved)


def test_weights_that_are_too_large_are_refused_unread(saved, monkeypatch):
    monkeypatch.setitem(rule_file._LIMITS, "rule.safetensors", 100)
    with pytest.raises(RuleRefused, match="more than the 100 allowed"):
        load_rule(saved)


def test_reading_neither_imports_nor_writes_nor_runs_anything(saved):
    load_rule(saved)  # lazy imports of our own libraries happen here
    edit_json(saved, lambda s: s["rule"].update(id="os.system"))
    events = []
    watched = ("import", "exec", "compile", "subprocess.Popen", "os.system", "socket.connect", "pickle.find_class")
    listening = [True]

    def listen(event, arguments):
        written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if listening[0] and (event in watched or written):
            events.append((event, arguments))

    sys.addaudithook(listen)
    try:
        for read in (load_rule, verify_rule):
            with pytest.raises(RuleRefused):
                read(saved)
    finally:
        listening[0] = False
    assert events == []


def test_the_zoo_says_what_it_holds():
    for make in {**BUILT_IN, **LEARNABLE}.values():
        assert description(make).endswith(".")
        assert len(description(make)) < 120
    key = jax.random.key(0)
    assert all(not jax.tree.leaves(jax.eval_shape(make().init, key)) for make in BUILT_IN.values())
    assert all(jax.tree.leaves(jax.eval_shape(make().init, key)) for make in LEARNABLE.values())


AGENT = Network(CNN((2, 3), (4,), nn.relu), Transformer(8, 2, 1, 5), separate=False, readout=Hypernetwork((6, 7)))
REACHING = Continuous(2, (-1.0, -2.0), (1.0, 2.0))


@pytest.mark.parametrize(
    "blueprint",
    [
        Blueprint(AGENT, (4, 5, 1), REACHING),
        Blueprint(Network(MLP(())), (3,)),
        Blueprint(ActionNetwork()),
        Blueprint(LedgerNetwork(cells=3)),
    ],
)
def test_what_agents_are_comes_back_equal(blueprint):
    rule = RL2(blueprint)
    assert decode(json.loads(json.dumps(encode(rule)))) == rule


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda n: n["body"].update(activation="os.system"), "body.activation: unknown 'os.system'; nearest: "),
        (lambda n: n["body"].update(activation=None), "body.activation: unknown 'None'"),
        (lambda n: n["body"].update(hidden=[8, 2.5]), "body.hidden: expected int, found 2.5"),
        (lambda n: n["body"].update(hidden=[1] * 1000), "body.hidden: expected a list of at most 64"),
        (lambda n: n.update(memory={"id": "adam"}), "memory.id: unknown 'adam'"),
        (lambda n: n.update(memory=None, readout=None), r"readout: expected \{\"id\""),
        (lambda n: n["memory"].update(layers=10**6), "layers at most 32"),
        (lambda n: n.update(separate=True), "set separate=False"),
    ],
)
def test_networks_in_a_file_are_refused_by_their_dotted_path(change, reason):
    written = encode(RL2(Blueprint(Network(MLP((8,)), Transformer(8, 2), separate=False))))
    change(written["blueprint"]["network"])
    with pytest.raises(RuleRefused, match=f"rule.blueprint.network.*{reason}"):
        decode(written)


def test_a_function_without_a_name_is_not_written():
    with pytest.raises(ValueError, match="activation: '<lambda>' has no name"):
        encode(RL2(Blueprint(Network(MLP((4,), lambda x: x)))))
