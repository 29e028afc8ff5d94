"""Our own modules as syntax: who defines a name, who uses it, and in which order they must be told.

Nothing is imported or run here. Annotations are no uses: in the files that are made of this they are never evaluated.
"""

import ast
import builtins
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

PACKAGES = Path(__file__).parents[2]
Span: TypeAlias = tuple[int, int, int, int]  # first line, column, last line, column; as `ast` counts


class Definition(NamedTuple):
    """Something defined at the top of one of our modules."""

    module: str
    name: str


class Imported(NamedTuple):
    """A name that comes from somebody else's package: `from package import name as local`, or `import package`."""

    package: str
    name: str
    local: str

    @property
    def statement(self) -> str:
        if not self.name:
            renamed = "" if self.local == self.package.partition(".")[0] else f" as {self.local}"
            return f"import {self.package}{renamed}"
        return f"from {self.package} import {self.name}" + ("" if self.local == self.name else f" as {self.local}")


class Use(NamedTuple):
    """A place where code names something: a definition, or somebody else's package."""

    span: Span
    what: Definition | Imported


@dataclass(frozen=True)
class Module:
    """The source of one module, by its dotted name."""

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def definitions(self) -> Mapping[str, ast.stmt]:
        """Every name bound at the top but by an import, and the statement that binds it."""
        return {name: node for node in self.tree.body for name in bound(node)}

    @cached_property
    def imports(self) -> Mapping[str, Imported]:
        """Every name bound at the top by an import, ours included."""
        found = {}
        for node in self.tree.body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    local = alias.asname or alias.name.partition(".")[0]
                    found[local] = Imported(alias.name if alias.asname else local, "", local)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    found[alias.asname or alias.name] = Imported(
                        node.module or "", alias.name, alias.asname or alias.name
                    )
        return found

    def submodule(self, name: str) -> "Module | None":
        """The one of our modules that `name` stands for here, if it does."""
        imported = self.imports.get(name)
        if imported is None or not is_ours(imported.package):
            return None
        path = f"{imported.package}.{imported.name}"
        return module(path) if _file(path) else None

    def resolve(self, name: str) -> Definition | Imported | None:
        """What `name` stands for at the top of this module; None for a builtin."""
        if name in self.definitions:
            return Definition(self.name, name)
        imported = self.imports.get(name)
        if imported is None or not is_ours(imported.package):
            return imported
        return module(imported.package).resolve(imported.name)

    def uses(self, node: ast.AST, local: frozenset[str] = frozenset()) -> Iterator[Use]:
        """What the code under `node` names of the top of this module, or of another one; `local` names are its own.

        Raises:
          ValueError: it names something that is neither defined, nor imported, nor a builtin.
        """
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            # Decorators and defaults are evaluated outside.
            outside = [*getattr(node, "decorator_list", []), *node.args.defaults, *filter(None, node.args.kw_defaults)]
            body = node.body if isinstance(node.body, list) else [node.body]
            inside = local | _locals(node)
            yield from (use for part in outside for use in self.uses(part, local))
            yield from (use for part in body for use in self.uses(part, inside))
            return
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            targets = [n for each in node.generators for n in ast.walk(each.target)]
            local = local | {n.id for n in targets if isinstance(n, ast.Name)}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id not in local:
            if there := self.submodule(node.value.id):
                if node.attr in local:
                    raise ValueError(f"{self.name}: line {node.lineno}: {node.attr} is also a local name")
                yield Use(_span(node), there.resolve(node.attr) or _missing(node.attr, there.name, node))
                return
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in local:
            if what := self.resolve(node.id):
                yield Use(_span(node), what)
            elif not hasattr(builtins, node.id):
                _missing(node.id, self.name, node)
        for child in _children(node):
            yield from self.uses(child, local)


@cache
def module(name: str) -> Module:
    """One of our modules.

    Raises:
      ValueError: there is no such module.
    """
    file = _file(name)
    if file is None:
        raise ValueError(f"there is no module {name}")
    return Module(name, file.read_text())


def is_ours(package: str) -> bool:
    return package.partition(".")[0] == "learned_rl"


def attributes(node: ast.AST) -> set[str]:
    """Every `x` in `something.x` under `node`, and every keyword of `replace(something, x=...)`."""
    found = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    return found | {n.arg for n in ast.walk(node) if isinstance(n, ast.keyword) and n.arg}


def annotations(node: ast.AST) -> set[str]:
    """Every name in an annotation under `node`."""
    found: set[str] = set()
    for n in ast.walk(node):
        for annotation in (getattr(n, "annotation", None), getattr(n, "returns", None)):
            if annotation is not None:
                found |= {m.id for m in ast.walk(annotation) if isinstance(m, ast.Name)}
    return found


def extent(node: ast.stmt) -> tuple[int, int]:
    """First and last line of a statement, decorators included; counted from 1."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)]), node.end_lineno or node.lineno


def bound(node: ast.stmt) -> list[str]:
    """The names that a statement binds, imports aside."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def _file(name: str) -> Path | None:
    path = PACKAGES.joinpath(*name.split("."))
    found = [p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()]
    return found[0] if found else None


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """All but annotations."""
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield child


def _locals(function: ast.FunctionDef | ast.Lambda) -> frozenset[str]:
    """Names bound in a function; of functions inside it, their names only."""
    a = function.args
    arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    found = {argument.arg for argument in arguments}
    waiting: list[ast.AST] = list(function.body) if isinstance(function.body, list) else [function.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        waiting += ast.iter_child_nodes(node)
    return frozenset(found)


def _span(node: ast.expr) -> Span:
    return node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0


def _missing(name: str, module: str, node: ast.expr) -> Any:
    raise ValueError(f"{module}: line {node.lineno}: where does {name} come from?")
