"""The rule file: what a learned rule is carried around in.

A folder of three files, none of which can make a program do anything:

    rule.json          schema, settings (see `rule_settings`), heads, versions of what wrote it, a record of its making
    rule.safetensors   theta; its tensors are named by their path in the tree, `lstm/ii/kernel`
    MANIFEST.sha256    their hashes, because safetensors has none: two bit flips of three would load silently

Everything is refused that is not exactly what the settings imply: another tensor, shape or dtype, a number that is not
finite, a file too many.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from learned_rl import rule_json, sealed_folder
from learned_rl.rule_settings import RuleRefused, same_names
from learned_rl.types import Rule, Theta

__all__ = ["LoadedRule", "RuleRefused", "load_rule", "save_rule", "verify_rule"]

SPEC, WEIGHTS = "rule.json", "rule.safetensors"
MAX_WEIGHT = 1e6
_LIMITS = {SPEC: rule_json.MAX_BYTES, WEIGHTS: 256 * 2**20}
_DTYPES = frozenset(map(np.dtype, (jnp.float32, jnp.float16, jnp.bfloat16, jnp.int32, jnp.uint32, jnp.bool_)))


class LoadedRule(NamedTuple):
    """A rule out of a file.

    Attributes:
      rule: equal to the one that was saved.
      theta: its meta-parameters.
      record: what it was trained on and how it scored, as its maker wrote it; claims, not facts.
    """

    rule: Rule
    theta: Theta
    record: dict[str, Any]


def save_rule(
    rule: Rule, theta: Theta, folder: str | os.PathLike, record: Mapping[str, Any] = MappingProxyType({})
) -> Path:
    """Writes a rule file, whole or not at all; a rule file that is there already is replaced.

    Args:
      rule: of the closed list in `rule_settings`.
      theta: of the structure that `rule.init` gives.
      folder: where; missing parents are made.
      record: JSON values on how the rule came about.

    Raises:
      ValueError: what would be written could not be loaded again, or `folder` holds something else.
    """
    folder = Path(os.path.abspath(folder))
    tensors = {name: np.asarray(x) for name, x in named(theta).items()}
    _check_tensors(tensors, rule)
    files = {SPEC: rule_json.write(rule, record), WEIGHTS: safetensors.numpy.save(tensors)}
    sealed_folder.write(folder, files)
    return folder


def load_rule(folder: str | os.PathLike) -> LoadedRule:
    """Reads a rule file, trusting nothing in it.

    Raises:
      RuleRefused: with the reason.
    """
    spec, rule, tensors = _read(Path(folder))
    expected = _expected(rule)
    leaves = [jnp.asarray(tensors[name]) for name in _flat(expected)[0]]
    return LoadedRule(rule, jax.tree.unflatten(jax.tree.structure(expected), leaves), spec["record"])


def verify_rule(folder: str | os.PathLike) -> list[str]:
    """Checks a rule file as `load_rule` does, and says what was checked. Touches no device.

    Raises:
      RuleRefused: with the reason.
    """
    spec, rule, tensors = _read(Path(folder))
    return [
        f"files: {SPEC}, {WEIGHTS} and {sealed_folder.MANIFEST}, no more, no links",
        "hashes: SHA-256 of every file as in the manifest",
        f"schema: {spec['schema']}, written by learned-rl {spec['versions'].get('learned-rl', 'unknown')}",
        f"settings: {type(rule).__name__}, every id and field on the closed list; heads as it asks for",
        f"tensors: {len(tensors)}, with the names, shapes and dtypes that the settings imply",
        f"numbers: {sum(x.size for x in tensors.values())}, finite and within +-{MAX_WEIGHT:g}",
    ]


def _read(folder: Path) -> tuple[dict[str, Any], Rule, dict[str, np.ndarray]]:
    try:
        # The schema first: of a newer file, it is the only thing that this version may judge.
        rule_json.read(sealed_folder.peek(folder, SPEC, _LIMITS[SPEC]))
        files = sealed_folder.read(folder, _LIMITS)
        spec = rule_json.read(files[SPEC])
        rule = rule_json.rule_of(spec)
        return spec, rule, _tensors(files[WEIGHTS], rule)
    except (RuleRefused, sealed_folder.Broken) as error:
        raise RuleRefused(f"{folder}: {error}") from None


def _tensors(content: bytes, rule: Rule) -> dict[str, np.ndarray]:
    try:
        tensors = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError, OverflowError, MemoryError) as error:
        raise RuleRefused(f"{WEIGHTS}: not a safetensors file ({str(error)[:200]})") from None
    _check_tensors(tensors, rule)
    return tensors


def _check_tensors(tensors: Mapping[str, np.ndarray], rule: Rule) -> None:
    """Refuses all but the tensors that the rule's settings imply."""
    expected = named(_expected(rule))
    same_names(set(tensors), set(expected), WEIGHTS)
    for name, x in tensors.items():
        want = expected[name]
        if x.shape != want.shape or x.dtype != want.dtype:
            raise RuleRefused(
                f"{WEIGHTS}: {name} is {x.dtype}{list(x.shape)}, the settings imply {want.dtype}{list(want.shape)}"
            )
        if x.dtype not in _DTYPES:
            raise RuleRefused(f"{WEIGHTS}: {name} is {x.dtype}; allowed are {sorted(map(str, _DTYPES))}")
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.all(np.abs(x.astype(np.float32)) <= MAX_WEIGHT):  # a NaN is not <= anything
                raise RuleRefused(f"{WEIGHTS}: {name} holds a number that is not finite or beyond +-{MAX_WEIGHT:g}")


def _expected(rule: Rule) -> Theta:
    """The shapes of the rule's theta; abstract, so that settings of absurd size cost nothing."""
    try:
        return jax.eval_shape(rule.init, jax.eval_shape(jax.random.key, 0))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError, MemoryError) as error:
        raise RuleRefused(f"{SPEC}: no rule has such settings ({str(error)[:200]})") from None


def named(theta: Theta) -> dict[str, Any]:
    """The arrays of a theta, by the names that a rule file has for them."""
    return dict(zip(*_flat(theta), strict=True))


def _flat(theta: Theta) -> tuple[list[str], list[Any]]:
    """`(names, leaves)`, a name being the path in the tree."""
    pairs = jax.tree_util.tree_flatten_with_path(theta)[0]
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in pairs], [x for _, x in pairs]
