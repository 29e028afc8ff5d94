"""A rule as one Python file with its weights beside it: no part of this project is needed to use it."""

import dataclasses
import hashlib
import inspect
import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from learned_rl.export.bundle import Bundle, bundle, home
from learned_rl.export.parts import Function, NotExportable, Part
from learned_rl.export.sources import Imported
from learned_rl.export.weights import read_weights
from learned_rl.rule_file import named

WIDTH = 120
ALWAYS = frozenset(
    Imported(package, name, name)
    for package, name in (("functools", "partial"), ("typing", "Any"), ("typing", "TYPE_CHECKING"))
)
ALLOWED = frozenset({"jax", "numpy", *sys.stdlib_module_names})


def write(name: str, title: str, parts: Sequence[Part], more: frozenset[str] = frozenset()) -> dict[str, bytes]:
    """The files of a standalone rule: `NAME.py`, and `NAME.npz` if it has weights.

    Args:
      name: of the files.
      title: what stands at the top of the file.
      parts: what the file offers.
      more: packages that it may import beside jax.

    Raises:
      NotExportable: it would need another package.
    """
    arrays = {f"{p.kind}/{path}": x for p in parts for path, x in named(p.theta).items()}
    weights = _npz(arrays) if arrays else b""
    roots = [home(f.call) for p in parts for f in p.functions.values()]
    values = [value for p in parts for value in (p.settings, p.theta)]
    offered = {name for p in parts for name in p.functions}
    found = bundle([*roots, home(read_weights)] if weights else roots, values, offered)
    if foreign := {_top(e.package) for e in found.externals} - ALLOWED - more:
        raise NotExportable(f"its code needs {', '.join(sorted(foreign))}")
    imports = _imports(found.externals | ALWAYS | ({Imported("pathlib", "Path", "Path")} if weights else set()))
    about = _about(name, title, {n: f for p in parts for n, f in p.functions.items()}, bool(weights))
    head = [f'"""{about}"""', "from __future__ import annotations", imports, _unevaluated(found)]
    end = [
        "# The rule itself.\n",
        *([_reading(name, weights, found)] if weights else []),
        *(_made(p, found) for p in parts),
    ]
    text = "\n\n".join(head) + f"\n\n\n{found.code}\n\n\n" + "\n".join(end) + "\n"
    return {f"{name}.py": text.encode()} | ({f"{name}.npz": weights} if weights else {})


def _made(part: Part, found: Bundle) -> str:
    """A part's settings, theta and functions as Python."""
    settings, theta = part.kind.upper(), f"{part.kind.upper()}_THETA"
    made = [f"{settings} = {_written(part.settings, found)}", f"{theta} = {_tree(part.theta, part.kind, '', found)}"]
    made += [
        f"{name} = partial({found.names[home(f.call)]}, {settings}, {theta})" for name, f in part.functions.items()
    ]
    return "\n".join(made)


def _about(name: str, title: str, functions: Mapping[str, Function], weights: bool) -> str:
    needs = f"It needs jax, and {name}.npz beside it." if weights else "It needs jax and nothing else."
    examples = [f"    {f.example}" for f in functions.values()]
    said = [f"{public}{_signature(f.call)}\n\n{_indented(f.call)}" for public, f in functions.items()]
    use = [f"    from {name} import {', '.join(functions)}", *examples]
    return "\n".join([title, "", needs, "", *use, "", *said])


def _signature(call: Callable[..., Any]) -> str:
    """Names only: shapes are in the code."""
    names = list(inspect.signature(call).parameters)[2:]
    text = f"({', '.join(names)})"
    return text if len(text) < WIDTH - 12 else "(" + ",\n    ".join(names) + ")"


def _indented(call: Callable[..., Any]) -> str:
    return "\n".join(f"    {line}".rstrip() for line in (inspect.getdoc(call) or "").splitlines()) + "\n"


def _imports(externals: Iterable[Imported]) -> str:
    """The standard library's first; names of one module together."""
    parts: dict[str, set[str]] = {}
    for e in externals:
        start, _, name = e.statement.partition(" import ")
        parts.setdefault(start, set()).add(name)
    lines = sorted(
        f"{start} import {', '.join(sorted(names))}" if "" not in names else start for start, names in parts.items()
    )
    own = [line for line in lines if _top(line.split()[1]) in sys.stdlib_module_names]
    return "\n".join(own) + "\n\n" + "\n".join(line for line in lines if line not in own)


def _top(package: str) -> str:
    return package.partition(".")[0]


def _unevaluated(found: Bundle) -> str:
    """Shapes in annotations are for readers: nothing evaluates them, and they need no package."""
    shapes = [name for name, by_jaxtyping in found.unevaluated.items() if by_jaxtyping]
    others = [name for name, by_jaxtyping in found.unevaluated.items() if not by_jaxtyping]
    lines = [f"    from jaxtyping import {', '.join(shapes)}", ""] if shapes else []
    lines += [f"    {name} = Any" for name in others]
    return "\n".join(
        ["if TYPE_CHECKING:  # annotations are for readers, nothing evaluates them", *(lines or ["    pass"])]
    )


def _written(value: Any, found: Bundle, indent: str = "") -> str:
    """A settings object as Python."""
    if not dataclasses.is_dataclass(value):
        return repr(value)
    definition = home(type(value))
    parts = {name: getattr(value, name) for name in found.fields[definition]}
    return _call(found.names[definition], parts, indent, lambda v, i: _written(v, found, i))


def _call(name: str, parts: Mapping[str, Any], indent: str, write: Callable[[Any, str], str]) -> str:
    line = f"{name}({', '.join(f'{k}={write(v, indent)}' for k, v in parts.items())})"
    if len(indent + line) <= WIDTH - 20 and "\n" not in line:
        return line
    inner = indent + "    "
    return f"{name}(\n" + "".join(f"{inner}{k}={write(v, inner)},\n" for k, v in parts.items()) + f"{indent})"


def _reading(name: str, weights: bytes, found: Bundle) -> str:
    sha256 = hashlib.sha256(weights).hexdigest()
    return f'_arrays = {found.names[home(read_weights)]}(\n    Path(__file__).with_name("{name}.npz"), "{sha256}"\n)'


def _tree(tree: Any, path: str, indent: str, found: Bundle) -> str:
    """A tree of arrays as Python, each array by its name in the file."""
    inner = indent + "    "

    def at(key: Any, child: Any) -> str:
        return _tree(child, f"{path}/{key}", inner, found)

    if isinstance(tree, dict):
        return "{\n" + "".join(f'{inner}"{k}": {at(k, v)},\n' for k, v in tree.items()) + indent + "}"
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        parts = "".join(f"{inner}{k}={at(k, v)},\n" for k, v in tree._asdict().items())  # type: ignore[attr-defined]
        return f"{found.names[home(type(tree))]}(\n{parts}{indent})"
    if isinstance(tree, tuple) and not tree:
        return "()"
    if isinstance(tree, list | tuple):
        opened, closed = "[]" if isinstance(tree, list) else "()"
        return f"{opened}\n" + "".join(f"{inner}{at(i, v)},\n" for i, v in enumerate(tree)) + f"{indent}{closed}"
    return f'_arrays["{path}"]'


def _npz(arrays: Mapping[str, jax.Array]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{name: np.asarray(x) for name, x in arrays.items()})  # type: ignore[arg-type]
    return file.getvalue()
