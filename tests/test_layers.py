"""The direction of dependence, read from the syntax trees."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
MAY_IMPORT = {
    "learned_rl": {"learned_rl"},
    "truncation": {"truncation"},
    "meta_objectives": {"meta_objectives", "learned_rl", "truncation"},
    "runs": {"runs", "meta_objectives", "learned_rl", "truncation"},
}
OURS = {*MAY_IMPORT, "tests"}
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in FILES}


def imports(tree):
    """Every module that is imported, at the top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where things live"
            yield node.module or ""
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "library":  # learned_rl.libraries
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant))


def names(tree):
    """Every name that is used: `x` and `y` of `x.y`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def test_there_is_something_to_check():
    assert {name.split("/")[0] for name in TREES} == set(MAY_IMPORT)
    assert "gymnax" in set(imports(TREES["learned_rl/gymnax_tasks.py"]))


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_downwards(package):
    for name, tree in TREES.items():
        if name.startswith(f"{package}/"):
            used = {module.split(".")[0] for module in imports(tree)} & OURS
            assert used <= MAY_IMPORT[package], name


def test_lazy_names_stay_in_their_package():
    """Lazy exports are strings, which the test above does not see."""
    for package in ("learned_rl", "meta_objectives"):
        (homes,) = (
            node.value
            for node in TREES[f"{package}/__init__.py"].body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_HOME"
        )
        assert all(home.startswith(f"{package}.") for home in ast.literal_eval(homes).values())


def test_one_file_imports_gymnax():
    # Benchmarks stand outside: they time other libraries' loops, which drive gymnax themselves.
    trees = {name: tree for name, tree in TREES.items() if not name.startswith("runs/benchmarks/")}
    users = [name for name, tree in trees.items() if "gymnax" in {m.split(".")[0] for m in imports(tree)}]
    assert users == ["learned_rl/gymnax_tasks.py"]


@pytest.mark.parametrize("name", TREES)
def test_nothing_unpickles_or_evaluates(name):
    modules = {module.split(".")[0] for module in imports(TREES[name])}
    assert not modules & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__"}, ast.unparse(node)
        if isinstance(node, ast.keyword):
            assert node.arg != "allow_pickle" or getattr(node.value, "value", True) is False


def test_strings_are_imported_from_constants_only():
    """`importlib.import_module` serves lazy exports and optional libraries: never a name that came from a file."""
    allowed = {f"{package}/__init__.py" for package in ("learned_rl", "meta_objectives", "truncation")}
    allowed.add("learned_rl/libraries.py")
    for name, tree in TREES.items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if getattr(call.func, "id", "") == "library":
                assert isinstance(call.args[0], ast.Constant), name
    users = {name for name, tree in TREES.items() if "import_module" in set(names(tree))}
    assert {name for name in users if not name.startswith("runs/")} <= allowed


def test_importing_the_packages_is_cheap():
    """Names are lazy: a help text must not wait for jax."""
    import subprocess
    import sys

    program = "import sys, learned_rl, learned_rl.zoo, meta_objectives; print({'jax', 'numpy'} & {*sys.modules})"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.split() == ["set()"]


def test_every_exported_name_exists():
    import learned_rl
    import meta_objectives

    for package in (learned_rl, meta_objectives):
        assert set(package.__all__) == set(package._HOME)
        for name in package.__all__:
            assert getattr(package, name).__name__ == name
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            _ = package.nonsense
