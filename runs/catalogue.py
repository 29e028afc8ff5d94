"""What there is, by name. Cheap to import: recipes are listed from their files, not by running them."""

import ast
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runs.errors import ArtifactRefused, UsageError, nearest

if TYPE_CHECKING:
    from learned_rl.types import Rule, Theta
    from runs.experiment import Experiment
    from runs.suites import Trial

_RECIPES = Path(__file__).parent / "recipes"


def recipes() -> dict[str, str]:
    """Name -> first line of its docstring."""
    found = {}
    for file in sorted(_RECIPES.glob("[a-z]*.py")):
        doc = ast.get_docstring(ast.parse(file.read_text())) or ""
        found[file.stem.replace("_", "-")] = doc.partition("\n")[0]
    return found


def recipe(name: str) -> "Experiment":
    """Builds a recipe.

    Raises:
      UsageError: there is no such recipe; the message has the nearest names.
    """
    _known(name, recipes(), "recipe")
    return importlib.import_module(f"runs.recipes.{name.replace('-', '_')}").experiment()


def suite(name: str) -> "tuple[Trial, ...]":
    """The trials of a suite.

    Raises:
      UsageError: there is no such suite.
    """
    from runs.suites import SUITES

    _known(name, SUITES, "suite")
    return SUITES[name]()


def built_in(name: str) -> "tuple[Rule, Theta]":
    """A hand-designed rule by name.

    Raises:
      UsageError: there is no such rule.
    """
    from learned_rl.zoo import BUILT_IN

    _known(name, BUILT_IN, "built-in rule", "; a rule is also a folder with a rule.json, or models:/NAME/VERSION")
    return BUILT_IN[name](), ()


def rule(address: str, tracking_uri: str | None) -> "tuple[str, Rule, Theta]":
    """`(short name, rule, theta)` of a folder with a rule file, a built-in name or an MLflow address.

    Raises:
      UsageError: there is nothing there.
      ArtifactRefused: there is something that must not be loaded.
    """
    from learned_rl.rule_file import RuleRefused, load_rule

    if address.startswith(("models:/", "runs:/")):
        from runs.mlflow_sink import fetch_rule

        folder, name = fetch_rule(address, tracking_uri), address.split("/")[1].partition("@")[0]
    elif (Path(address) / "rule.json").exists() or Path(address).is_dir():
        folder, name = Path(address), Path(address).absolute().name
    else:
        return (address, *built_in(address))
    try:
        loaded = load_rule(folder)
    except RuleRefused as refused:
        raise ArtifactRefused(f"{address}: {refused}") from refused
    return name, loaded.rule, loaded.theta


def _known(name: str, known: Mapping[str, object], kind: str, more: str = "") -> None:
    if name not in known:
        hint = nearest(name, known)
        raise UsageError(
            f"there is no {kind} {name!r}; {hint + '; ' if hint else ''}there are: {', '.join(known)}{more}"
        )
