"""One file out of many: what a function of ours needs of our modules, and nothing else of them.

From a few definitions on, everything that they use is collected, and of classes only the methods and settings that
somebody names. What is left stands in the order in which the modules import one another, as it was written, so that it
computes the same numbers; only names that two modules share get an addition.
"""

import ast
import dataclasses
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from learned_rl.export.sources import (
    Definition,
    Imported,
    Module,
    Use,
    annotations,
    attributes,
    bound,
    extent,
    is_ours,
    module,
)

# What is written with a library that the file must do without -> the same without it.
WITHOUT = {
    Definition("learned_rl.rules.lpg", "_TargetNetwork"): Definition("learned_rl.export.lpg_network", "TargetNetwork"),
}


class Bundle(NamedTuple):
    """Everything that some definitions need.

    Attributes:
      code: definitions, module by module.
      externals: what it needs of other packages.
      unevaluated: names in annotations that neither defines, and whether jaxtyping does.
      names: definition -> its name in `code`.
      fields: of the settings classes among them, those that `code` reads.
    """

    code: str
    externals: frozenset[Imported]
    unevaluated: Mapping[str, bool]
    names: Mapping[Definition, str]
    fields: Mapping[Definition, tuple[str, ...]]


class _Collected:
    """The definitions reached so far, and every attribute that their living parts name."""

    def __init__(self, roots: Iterable[Definition], values: Iterable[Any]):
        self.kept: dict[Definition, ast.stmt] = {}
        self.attributes: set[str] = set()
        self.called: set[str] = set()
        self._keep(roots)
        for value in values:
            self._keep(map(home, _made_by_name(value)))
        self._values = [v for v in values if dataclasses.is_dataclass(v)]
        while self._grow():
            pass

    def _keep(self, wanted: Iterable[Definition]) -> None:
        self.kept |= {d: module(d.module).definitions[d.name] for d in wanted if d not in self.kept}

    def _grow(self) -> bool:
        before = self._size()
        for definition in list(self.kept):
            for node in self.living(definition):
                self.attributes |= attributes(node)
                self.called |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            self._keep(use.what for use in self.uses(definition) if isinstance(use.what, Definition))
        for value in self._values:
            self._settings(value)
        return before != self._size()

    def _size(self) -> tuple[int, ...]:
        return len(self.kept), len(self.attributes), len(self.called)

    def _settings(self, value: Any) -> None:
        self._keep([home(type(value))])
        for name in self.fields(home(type(value))):
            if dataclasses.is_dataclass(inside := getattr(value, name)):
                self._settings(inside)

    def fields(self, definition: Definition) -> tuple[str, ...]:
        """Of a settings class, those that somebody reads."""
        node, dead = self.kept[definition], self.dead(definition)
        members = node.body if isinstance(node, ast.ClassDef) else []
        return tuple(name for n in members if isinstance(n, ast.AnnAssign) and n not in dead for name in bound(n))

    def uses(self, definition: Definition) -> Iterator[Use]:
        for node in self.living(definition):
            for use in module(definition.module).uses(node):
                yield use._replace(
                    what=WITHOUT.get(use.what, use.what) if isinstance(use.what, Definition) else use.what
                )

    def living(self, definition: Definition) -> list[ast.AST]:
        """The parts of a definition that somebody may read: all of it, but for members of classes."""
        node = self.kept[definition]
        if not isinstance(node, ast.ClassDef):
            return [node]
        return [*node.decorator_list, *node.bases, *(n for n in node.body if self._lives(n, node))]

    def dead(self, definition: Definition) -> list[ast.stmt]:
        node = self.kept[definition]
        return [n for n in node.body if not self._lives(n, node)] if isinstance(node, ast.ClassDef) else []

    def _lives(self, member: ast.stmt, owner: ast.ClassDef) -> bool:
        names = bound(member)
        if not names or all(name.startswith("__") for name in names):
            return True
        if isinstance(member, ast.AnnAssign) and ("NamedTuple" in {ast.unparse(b) for b in owner.bases}):
            return True  # made by position
        by_name = isinstance(member, ast.AnnAssign) and "getattr" in self.called  # any field may be meant
        return by_name or bool(self.attributes & {*names})


def home(thing: Any) -> Definition:
    """Where a function or class of ours is defined."""
    return Definition(thing.__module__, thing.__qualname__)


def _made_by_name(tree: Any) -> Iterator[type]:
    """The classes of all named tuples in a tree."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        yield type(tree)
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, tuple | list) else ()
    for child in children:
        yield from _made_by_name(child)


def bundle(roots: Iterable[Definition], values: Iterable[Any] = (), taken: Iterable[str] = ()) -> Bundle:
    """The definitions `roots` with all that they need, and all that it takes to write `values` down.

    Args:
      values: settings objects, and trees of arrays.
      taken: names that mean something else in the file.

    Raises:
      ValueError: two names cannot be told apart, or a name comes from nowhere.
    """
    found = _Collected(roots, list(values))
    names = _names(found.kept, taken)
    order = _in_order({d.module for d in found.kept})
    code = [section for name in order if (section := _section(module(name), found, names))]
    externals = {u.what for d in found.kept for u in found.uses(d) if isinstance(u.what, Imported)}
    mentioned = {(module(d.module), name) for d in found.kept for node in found.living(d) for name in annotations(node)}
    defined = {*names.values()} | {e.local for e in externals}
    unevaluated: dict[str, bool] = {}
    for where, name in sorted(mentioned, key=lambda pair: pair[1]):
        what = where.resolve(name)
        if isinstance(what, Imported) and what.package.partition(".")[0] in sys.stdlib_module_names:
            externals.add(what)
        elif what is not None and name not in defined:
            unevaluated[name] = isinstance(what, Imported) and what.package == "jaxtyping"
    fields = {d: found.fields(d) for d, node in found.kept.items() if isinstance(node, ast.ClassDef)}
    return Bundle("\n\n\n".join(code), frozenset(externals), unevaluated, names, fields)


def _names(kept: Iterable[Definition], taken: Iterable[str]) -> dict[Definition, str]:
    """Own names, but where another module has the same one, or the file."""
    names: dict[Definition, str] = {}
    used = {*taken}
    for definition in sorted(kept):
        name = definition.name
        if name in used:
            name = f"{name}_of_{definition.module.rpartition('.')[2]}"
        if name in used:
            raise ValueError(f"{definition}: {name} stands for something else too")
        names[definition] = name
        used.add(name)
    return names


def _in_order(modules: set[str]) -> list[str]:
    """Each after what it imports."""
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in done:
            return
        here = module(name)
        for local, imported in here.imports.items():
            if is_ours(imported.package):
                below = here.submodule(local)
                visit(below.name if below else imported.package)
        done[name] = None

    for name in sorted(modules):
        visit(name)
    return [name for name in done if name in modules]


def _section(source: Module, found: _Collected, names: Mapping[Definition, str]) -> str:
    """What is kept of one module, under its own words on what it is."""
    statements: dict[int, list[Definition]] = {}
    for definition in found.kept:
        if definition.module == source.name:
            statements.setdefault(found.kept[definition].lineno, []).append(definition)
    if not statements:
        return ""
    about = (ast.get_docstring(source.tree) or "").splitlines()
    head = "\n".join([f"# {source.name}", "#", *(f"# {line}".rstrip() for line in about)])
    return "\n\n\n".join([head, *(_text(source, found, d, names) for _, d in sorted(statements.items()))])


def _text(source: Module, found: _Collected, defined: list[Definition], names: Mapping[Definition, str]) -> str:
    """A statement as it was written, without its dead members, with names as `names` has them."""
    node = found.kept[defined[0]]
    edits = [(use.span, names[use.what]) for use in found.uses(defined[0]) if isinstance(use.what, Definition)]
    lines = {i: source.lines[i - 1].encode() for i in range(extent(node)[0], extent(node)[1] + 1)}
    for (first, start, last, end), text in sorted(edits, reverse=True):
        if first != last:
            raise ValueError(f"{source.name}: line {first}: a name over two lines")
        lines[first] = lines[first][:start] + text.encode() + lines[first][end:]
    for definition in defined:
        if names[definition] != definition.name:
            line = lines[node.lineno].decode()
            lines[node.lineno] = line.replace(definition.name, names[definition], 1).encode()
    for member in found.dead(defined[0]):
        first, last = extent(member)
        for i in range(first, last + 1):
            del lines[i]
        while last + 1 in lines and not lines[last + 1].strip():
            last += 1
            del lines[last]
    return b"\n".join(lines.values()).decode().rstrip()
