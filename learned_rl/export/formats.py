"""The formats that a rule can be written in, by name: `learned-rl export RULE --to FORMAT`."""

import dataclasses
import importlib.metadata
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from learned_rl.export import stablehlo, standalone
from learned_rl.export.parts import Function, NotExportable, Part, part, parts
from learned_rl.export.transform import transform
from learned_rl.learned_optimizers.borrowed import Borrowed
from learned_rl.types import Params, Rule, Theta

README, LICENCE = "README.md", "LICENSE"


class Format(NamedTuple):
    """One way to write a rule.

    Attributes:
      kinds: of parts that it writes; none for all that the rule has.
      write: `(name, parts, like)` -> files.
    """

    kinds: tuple[str, ...]
    write: Callable[[str, tuple[Part, ...], Params | None], dict[str, bytes]]


def _self_contained(found: Iterable[Part]) -> None:
    """Raises NotExportable if a part runs code of another library, which a file of its own cannot hold."""
    for p in found:
        if any(isinstance(settings, Borrowed) for settings in _nested(p.settings)):
            raise NotExportable(
                f"its {p.kind} runs code of learned_optimization; --to stablehlo has it compiled, and "
                "learned_rl.export.as_optax where both are installed"
            )


def _nested(settings: Any) -> Iterator[Any]:
    """A settings object and all that are inside it."""
    yield settings
    if dataclasses.is_dataclass(settings):
        for field in dataclasses.fields(settings):
            yield from _nested(getattr(settings, field.name))


def _file(name: str, found: tuple[Part, ...], like: Params | None) -> dict[str, bytes]:
    _self_contained(found)
    title = f"{' and '.join(p.kind for p in found).capitalize()} of a rule of learned-rl {_version()}, see {README}."
    return standalone.write(name, title, found)


def _optax(name: str, found: tuple[Part, ...], like: Params | None) -> dict[str, bytes]:
    _self_contained(found)
    (optimizer,) = found
    example = "tx = optimizer()  # for optax.chain, TrainState, ...; tx.update(gradient, state, params)"
    made = {"optimizer": Function(transform, {}, example)}
    title = f"Optimizer of a rule of learned-rl {_version()} for optax, which it needs too, see {README}."
    return standalone.write(name, title, [optimizer._replace(functions=made)], frozenset({"optax"}))


FORMATS: Mapping[str, Format] = {
    "loss": Format(("objective",), _file),
    "optax": Format(("optimizer",), _optax),
    "standalone": Format((), _file),
    "stablehlo": Format((), lambda name, found, like: stablehlo.write(found, like)),
}


def write(
    rule: Rule, theta: Theta, name: str, record: Mapping[str, Any], form: str, like: Params | None = None
) -> dict[str, bytes]:
    """The files of a rule in the format `form`.

    Args:
      name: of the rule; files are named after it.
      record: of the rule file; where it came from is copied.
      like: parameters that an optimizer is to move; `stablehlo` needs to know.

    Raises:
      NotExportable: the rule has no such form; the message says why.
    """
    kinds, writer = FORMATS[form]
    found = tuple(part(rule, theta, kind) for kind in kinds) or parts(rule, theta)
    stem = re.sub(r"\W", "_", name, flags=re.ASCII) + "_rule"  # never that of a module: a rule may be called random
    files = writer(stem, found, like)
    return files | {README: _readme(name, found, record, files).encode(), LICENCE: _licence()}


def _readme(name: str, found: tuple[Part, ...], record: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """What the folder is, how it is called, and where it came from, in the words of the rule's record."""
    kinds = ", ".join(f"{p.kind} ({type(p.settings).__name__})" for p in found)
    calls = [f"    {f.example}" for p in found for f in p.functions.values()]
    origin = json.dumps(record.get("origin", "made with learned-rl"), indent=2)
    return "\n".join(
        [
            f"# {_plain(name)}",
            "",
            f"{kinds} of a rule of learned-rl {_version()}, written by `learned-rl export`, as {', '.join(files)}.",
            "",
            *calls,
            "",
            "Code: Apache-2.0, see LICENSE. The weights' origin, as the rule file has it:",
            "",
            *(f"    {line}" for line in origin.splitlines()),
            "",
            f"Written with jax {importlib.metadata.version('jax')}. The rule file is what is kept: export it again.",
            "",
        ]
    )


def _plain(text: str) -> str:
    return re.sub(r"[^\w .@/-]", "", text)


def _licence() -> bytes:
    for file in importlib.metadata.files("learned-rl") or ():
        if file.name == "LICENSE":
            return file.read_binary()
    return b"Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0\n"


def _version() -> str:
    return importlib.metadata.version("learned-rl")
