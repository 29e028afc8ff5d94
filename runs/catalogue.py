"""What there is, by name. Cheap: recipes and suites are listed from their files, and unknown names are refused, without
importing JAX."""

import ast
import importlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runs.errors import ArtifactRefused, UsageError, nearest

if TYPE_CHECKING:
    from learned_rl.rule_file import LoadedRule
    from learned_rl.types import Rule, Theta
    from runs.experiment import Experiment
    from runs.suites import Suite

_HERE = Path(__file__).parent
_SHIPPED = _HERE.parent / "learned_rl" / "shipped"
_REMOTE = ("models:/", "runs:/")


def recipes() -> dict[str, str]:
    """Name -> first line of its docstring."""
    found = {}
    for file in sorted((_HERE / "recipes").glob("[a-z]*.py")):
        found[file.stem.replace("_", "-")] = _first_line(ast.parse(file.read_text()))
    return found


def suites() -> dict[str, str]:
    """Name -> first line of its docstring."""
    return _functions("suites.py")


def knobs() -> dict[str, str]:
    """What a sweep turns: name -> first line of its docstring."""
    return {name.replace("_", "-"): text for name, text in _functions("knobs.py").items()}


def problems() -> dict[str, str]:
    """Oracle problems: name -> first line of its docstring."""
    return {name.replace("_", "-"): text for name, text in _functions("oracles.py").items()}


def shipped() -> dict[str, Path]:
    """Rules that were discovered here and come with the package: name -> folder with the rule file."""
    return {file.parent.name: file.parent for file in sorted(_SHIPPED.glob("*/rule.json"))}


def check_recipe(name: str) -> None:
    """Raises a UsageError with the nearest names if there is no such recipe."""
    _known(name, recipes(), "recipe")


def check_suite(name: str) -> None:
    """Raises a UsageError with the nearest names if there is no such suite."""
    _known(name, suites(), "suite")


def check_knob(name: str) -> None:
    """Raises a UsageError with the nearest names if there is no such knob."""
    _known(name, knobs(), "knob")


def check_problem(name: str) -> None:
    """Raises a UsageError with the nearest names if there is neither such an oracle problem nor such a recipe."""
    _known(name, problems() | recipes(), "oracle problem or recipe")


def check_estimator(name: str) -> None:
    """Raises a UsageError with the nearest names if estimators of that name cannot be made from sizes alone."""
    from runs.menu import ESTIMATORS

    _known(name, ESTIMATORS, "estimator")


def check_rule(address: str) -> None:
    """Raises a UsageError if `address` is neither a rule of the package nor a folder with one nor MLflow's."""
    from learned_rl.zoo import BUILT_IN

    path, known = Path(address), [*BUILT_IN, *shipped()]
    if address in known or address.startswith(_REMOTE):
        return
    if (path / "run.json").exists():
        raise UsageError(f"{address} is a run folder; the rule that it learned is {path / 'rule'}")
    if not path.is_dir():
        more = "; a rule is also a folder with a rule.json, or models:/NAME/VERSION"
        _known(address, dict.fromkeys(known), "built-in rule", more)


def recipe(name: str) -> "Experiment":
    """Builds a recipe.

    Raises:
      UsageError: there is no such recipe; the message has the nearest names.
    """
    check_recipe(name)
    return importlib.import_module(f"runs.recipes.{name.replace('-', '_')}").experiment()


def suite(name: str) -> "Suite":
    """A suite, with its splits.

    Raises:
      UsageError: there is no such suite.
    """
    check_suite(name)
    return getattr(importlib.import_module("runs.suites"), name)()


def built_in(name: str) -> "tuple[Rule, Theta]":
    """A hand-designed rule by name.

    Raises:
      UsageError: there is no such rule.
    """
    from learned_rl.zoo import BUILT_IN

    _known(name, BUILT_IN, "built-in rule")
    return BUILT_IN[name](), ()


def rule(address: str, tracking_uri: str | None) -> "tuple[str, Rule, Theta]":
    """`(short name, rule, theta)` of a built-in name, a folder with a rule file or an MLflow address.

    Raises:
      UsageError: there is nothing there.
      ArtifactRefused: there is something that must not be loaded.
    """
    name, (rule, theta, _) = loaded(address, tracking_uri)
    return name, rule, theta


def loaded(address: str, tracking_uri: str | None) -> "tuple[str, LoadedRule]":
    """The same with the record of how the rule was made, which is empty for a built-in one.

    The short name is never that of a built-in rule that this one is not. `ppo` is the built-in one, `./ppo` a folder.

    Raises:
      UsageError: there is nothing there.
      ArtifactRefused: there is something that must not be loaded.
    """
    from learned_rl.rule_file import LoadedRule, RuleRefused, load_rule
    from learned_rl.zoo import BUILT_IN

    check_rule(address)
    if address in BUILT_IN:
        return address, LoadedRule(*built_in(address), {})
    remote = address.startswith(_REMOTE)
    if remote:
        from runs.mlflow_sink import fetch_rule

        folder, name = fetch_rule(address, tracking_uri), address.split("/")[1].partition("@")[0]
    else:
        folder = shipped().get(address, Path(address)).absolute()
        name = folder.parent.name if folder.name == "rule" else folder.name  # `out/smoke/rule` is called smoke
    try:
        found = load_rule(folder)
    except RuleRefused as refused:
        raise ArtifactRefused(f"{address}: {refused}") from refused
    finally:
        if remote:
            shutil.rmtree(next(p for p in (folder, *folder.parents) if p.name.startswith("learned-rl-rule-")))
    return f"{name}-2" if name in BUILT_IN else name, found


def _functions(file: str) -> dict[str, str]:
    """Public functions of a file -> first line of the docstring."""
    body = ast.parse((_HERE / file).read_text()).body
    functions = [node for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    return {function.name: _first_line(function) for function in functions}


def _first_line(node: ast.Module | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _known(name: str, known: Mapping[str, object], kind: str, more: str = "") -> None:
    if name not in known:
        hint = nearest(name, known)
        raise UsageError(
            f"there is no {kind} {name!r}; {hint + '; ' if hint else ''}there are: {', '.join(known)}{more}"
        )
