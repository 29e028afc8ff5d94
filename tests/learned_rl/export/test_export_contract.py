"""Every rule of the zoo exports, or says why not; what is written is code of ours, and nothing of a stranger's."""

import ast
import pickle

import jax
import numpy as np
import pytest

from learned_rl.export import NotExportable, formats, parts, standalone
from learned_rl.export.bundle import bundle
from learned_rl.export.sources import Definition, Module, bound
from learned_rl.export.weights import read_weights
from learned_rl.rules.drift import Drift, LearnedDrift
from learned_rl.zoo import BUILT_IN, LEARNABLE

ZOO = {**BUILT_IN, **LEARNABLE}


def zeros(rule):
    """A theta of the right shapes, that costs nothing."""
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(rule.init, jax.random.key(0)))


@pytest.mark.parametrize("name", ZOO)
def test_every_rule_is_written_or_says_why_not(name):
    rule = ZOO[name]()
    try:
        found = parts(rule, zeros(rule))
    except NotExportable:
        with pytest.raises(NotExportable, match=f"{type(rule).__name__} .{{30}}"):
            parts(rule, zeros(rule))
        return
    if any(part.kind == "agent" for part in found):  # whose networks are flax modules: compiled code it is, or nothing
        with pytest.raises(NotExportable, match="its code needs flax"):
            standalone.write("it", "A rule.", found)
        return
    files = standalone.write("it", "A rule.", found)
    tree = ast.parse(files["it.py"])
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name.partition(".")[0] for name in imported} <= standalone.ALLOWED
    top = {name for node in tree.body if isinstance(node, ast.Assign) for name in bound(node)}
    assert {function for part in found for function in part.functions} <= top
    assert ("it.npz" in files) == bool(jax.tree.leaves([part.theta for part in found]))


def test_nothing_of_a_record_or_a_name_gets_into_code():
    rule = Drift(LearnedDrift(hidden=2))
    hostile = '"""\nimport os\nos.system("echo bad")\n"""'
    files = formats.write(rule, zeros(rule), f"../x{hostile}", {"origin": {"attribution": hostile}}, "loss")
    assert {name for name in files if "/" in name or ".." in name} == set()
    (code,) = (content.decode() for name, content in files.items() if name.endswith(".py"))
    assert "echo bad" not in code
    assert "echo bad" in files["README.md"].decode()
    ast.parse(code)


def test_the_origin_of_weights_and_the_licence_go_with_them():
    rule = Drift(LearnedDrift(hidden=2))
    origin = {"attribution": "Somebody 2025", "licence": "CC-BY-4.0"}
    files = formats.write(rule, zeros(rule), "some-rule", {"origin": origin, "secret": "x"}, "standalone")
    assert set(files) == {"some_rule_rule.py", "some_rule_rule.npz", "README.md", "LICENSE"}
    assert "Somebody 2025" in files["README.md"].decode()
    assert "CC-BY-4.0" in files["README.md"].decode()
    assert b"Apache License" in files["LICENSE"]


def test_other_weights_than_the_file_was_written_with_are_refused_unread(tmp_path):
    file = tmp_path / "it.npz"
    for content in (b"", pickle.dumps(print), b"PK\x03\x04"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="SHA-256"):
            read_weights(file, "0" * 64)


def test_code_that_needs_another_package_is_not_exported():
    # The network of LPG is the one definition that is replaced; without that, flax would be needed.
    found = bundle([Definition("learned_rl.rules.lpg", "LPG")])
    assert {e.package.partition(".")[0] for e in found.externals} <= standalone.ALLOWED | {"learned_rl"}
    (kept,) = [d for d in found.names if "etwork" in d.name] or [None]
    assert kept is None or kept.module == "learned_rl.export.lpg_network"


TEXT = """\
import jax
from learned_rl import returns
from learned_rl.losses import gae

SIZE = 3

def f(x, gae, *, y=SIZE):
    SIZE = 4
    jax = [returns.advantages(x) for x in y]
    def g():
        return SIZE, sum(jax)
    return lambda SIZE: (SIZE, gae, g)

ALL = tuple(SIZE + each for each in range(SIZE))
"""


def test_names_are_resolved_as_python_does():
    source = Module("m", TEXT)
    uses = {(use.span[0], use.what) for use in source.uses(source.definitions["f"])}
    assert uses == {(7, Definition("m", "SIZE")), (9, Definition("learned_rl.returns", "advantages"))}
    assert {use.what for use in source.uses(source.definitions["ALL"])} == {Definition("m", "SIZE")}


def test_a_name_from_nowhere_is_told():
    source = Module("m", "def f():\n    return nowhere\n")
    with pytest.raises(ValueError, match="line 2: where does nowhere come from"):
        list(source.uses(source.definitions["f"]))


def test_two_definitions_of_one_name_are_kept_apart():
    roots = [Definition("learned_rl.rules.lpg", "Targets"), Definition("learned_rl.rules.actor_critic", "Targets")]
    found = bundle(roots, taken=["prepare"])
    assert sorted(found.names[root] for root in roots) == ["Targets", "Targets_of_lpg"]
    assert "class Targets_of_lpg(NamedTuple)" in found.code
