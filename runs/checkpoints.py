"""Checkpoints that are either right or refused.

A step is a folder `<step>/` with `state.safetensors` (every leaf of the state), `meta.json` (its structure and the
caller's `extra`) and `manifest.json` (size and SHA-256 of both), written last. The folder gets its name in one rename,
so a step exists only when it is complete, and it counts only when its manifest agrees with the bytes on the disk.

Safetensors rather than Orbax: the state of a meta-training run is small and has many leaves, where Orbax took 20 to 60
times as long to save (measured: 400 leaves, 0.5 MB: 12 ms against 1 s) and seconds to import. And neither format has a
checksum of its own: Orbax restored 59 of 60 single flipped bits without a word. Hence the manifest.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from runs.durable import crash_point, disk_errors, sync_folder, write_synced
from runs.errors import ArtifactRefused

STATE, META, MANIFEST = "state.safetensors", "meta.json", "manifest.json"
SCHEMA = 1

logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run; the newest `keep` are kept (at least 2, so that a damaged one has a predecessor)."""

    def __init__(self, folder: Path, keep: int = 3):
        if keep < 2:
            raise ValueError(f"keep must be at least 2, got {keep}")
        self.folder = folder
        self.keep = keep

    def steps(self) -> list[int]:
        """The steps on the disk, oldest first, whether or not they verify."""
        names = (path.name for path in self.folder.iterdir()) if self.folder.exists() else ()
        return sorted(int(name) for name in names if name.isdigit())

    def save(self, step: int, tree: Any, extra: dict[str, Any]) -> None:
        """Saves a pytree of arrays (typed keys, numpy and Python scalars too) and a JSON-able dict under `step`.

        A step that is there already and verifies is left alone: runs are deterministic.

        Raises:
          DiskError: the disk is full or not permitted. Nothing is left behind and older checkpoints are untouched.
        """
        if step in self.steps() and damage(self._path(step)) is None:
            return
        state, structure = _to_bytes(tree)
        meta = json.dumps({"schema": SCHEMA, "step": step, **structure, "extra": extra}).encode()
        files = {STATE: state, META: meta}
        temporary = self.folder / f".saving-{step}"
        with disk_errors(f"saving checkpoint {step}", self.folder, needed=len(state) + len(meta)):
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(".saving-*"):  # of a process that was killed
                shutil.rmtree(leftover)
            try:
                self._write(temporary, files)
                if self._path(step).exists():  # damaged, or `save` would have returned above
                    self._set_aside(step)
                os.replace(temporary, self._path(step))
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            sync_folder(self.folder)
            crash_point("checkpoint renamed")
            for old in self.steps()[: -self.keep]:
                doomed = self.folder / f".saving-{old}"  # out of sight first: deleting a folder is not one step
                os.replace(self._path(old), doomed)
                shutil.rmtree(doomed)

    def latest(self, like: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """Restores the newest checkpoint that verifies, as (step, tree, extra); None where nothing was ever saved.

        `like` is a tree of arrays or of `jax.ShapeDtypeStruct` (`jax.eval_shape`): the restored tree has its structure,
        and its shardings where it has any. Damaged newer checkpoints are moved to `bad/` with a warning that names the
        damaged file.

        Raises:
          ArtifactRefused: only damaged checkpoints are left (they stay where they are), the newest one that verifies
            was written by a newer version, or its leaves differ from `like` in name, shape or dtype.
        """
        damaged = {}
        for step in reversed(self.steps()):
            with disk_errors("reading a checkpoint", self.folder):
                damaged[step] = damage(self._path(step))
            if damaged[step] is None:
                restored = _restore(self._path(step), like)
                for newer in damaged.keys() - {step}:
                    logger.warning("checkpoint %d is damaged (%s); moved to bad/", newer, damaged[newer])
                    self._set_aside(newer)
                return restored
        if damaged:
            reasons = "; ".join(f"{step}: {reason}" for step, reason in damaged.items())
            raise ArtifactRefused(f"no checkpoint in {self.folder} can be trusted ({reasons})")
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"{step:09d}"

    def _write(self, temporary: Path, files: dict[str, bytes]) -> None:
        temporary.mkdir()
        for name, data in files.items():
            write_synced(temporary / name, data)
            crash_point(f"checkpoint {name}")
        write_synced(temporary / MANIFEST, _manifest(files))
        sync_folder(temporary)
        crash_point(f"checkpoint {MANIFEST}")

    def _set_aside(self, step: int) -> None:
        bad = self.folder / "bad"
        bad.mkdir(exist_ok=True)
        count = sum(path.name.startswith(f"{step:09d}") for path in bad.iterdir())
        os.replace(self._path(step), bad / f"{step:09d}.{count}")


def damage(folder: Path) -> str | None:
    """Says what is wrong with the bytes of a checkpoint folder, or None when every one of them is as it was written."""
    files = {path.name: path.read_bytes() if path.is_file() else b"" for path in folder.iterdir()}
    manifest = files.pop(MANIFEST, None)
    if manifest is None:
        return f"{MANIFEST} is missing"
    if manifest == _manifest(files) and files.keys() == {STATE, META}:
        return None
    try:
        recorded = json.loads(manifest)["files"]
        wrong = [name for name in (STATE, META) if recorded[name] != _fingerprint(files.get(name))]
    except (ValueError, KeyError, TypeError):
        wrong = []
    extra = sorted(files.keys() - {STATE, META})
    return ", ".join(
        [f"{name} differs from its SHA-256" for name in wrong] + [f"{name} is unexpected" for name in extra]
    ) or (f"{MANIFEST} is unreadable")


def _manifest(files: dict[str, bytes]) -> bytes:
    entries = {name: _fingerprint(files[name]) for name in sorted(files)}
    return json.dumps({"files": entries}, indent=1).encode()


def _fingerprint(data: bytes | None) -> dict[str, Any] | None:
    return None if data is None else {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _named_leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    import jax

    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield jax.tree_util.keystr(path) or "state", leaf


def _describe(leaf: Any) -> dict[str, Any]:
    """What must agree between a saved leaf and the leaf it is restored to."""
    import jax

    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return {"dtype": str(leaf.dtype), "shape": list(leaf.shape)}
    return {"dtype": np.dtype(leaf.dtype).name, "shape": list(leaf.shape)}


def _to_bytes(tree: Any) -> tuple[bytes, dict[str, Any]]:
    """The leaves as a safetensors file, and what `_restore` must know about them."""
    import jax
    from safetensors.numpy import save

    leaves = dict(_named_leaves(tree))
    described = {name: _describe(leaf) for name, leaf in leaves.items()}
    keys = [name for name, about in described.items() if about["dtype"].startswith("key<")]
    generators = {name: str(jax.random.key_impl(leaves[name])) for name in keys}
    numbers = leaves | {name: jax.random.key_data(leaves[name]) for name in keys}
    # As plain bytes: numpy's bfloat16 and float8 are foreign to the format, and dtype and shape stand in meta.json.
    arrays = {name: np.ascontiguousarray(array) for name, array in jax.device_get(numbers).items()}
    data = save({name: array.reshape(-1).view(np.uint8) for name, array in arrays.items()})
    return data, {"leaves": described, "generators": generators}


def _restore(folder: Path, like: Any) -> tuple[int, Any, dict[str, Any]]:
    import jax
    from safetensors.numpy import load

    meta = json.loads((folder / META).read_bytes())
    if meta["schema"] != SCHEMA:
        raise ArtifactRefused(f"{folder}: schema {meta['schema']}, this version reads {SCHEMA}; upgrade learned-rl")
    wanted = dict(_named_leaves(like))
    _compare(folder, meta["leaves"], {name: _describe(leaf) for name, leaf in wanted.items()})
    raw = load((folder / STATE).read_bytes())
    leaves = [_leaf(raw[name], model, meta["generators"].get(name)) for name, model in wanted.items()]
    return meta["step"], jax.tree.unflatten(jax.tree.structure(like), leaves), meta["extra"]


def _compare(folder: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    def text(leaf: dict[str, Any] | None) -> str:
        return f"{leaf['dtype']}{leaf['shape']}" if leaf else "nothing"

    different = [name for name in {**wanted, **saved} if saved.get(name) != wanted.get(name)]
    if different:
        lines = [f"{name}: saved {text(saved.get(name))}, expected {text(wanted.get(name))}" for name in different[:8]]
        more = [f"and {len(different) - 8} more"] if len(different) > 8 else []
        raise ArtifactRefused(f"{folder} does not fit this experiment:\n  " + "\n  ".join(lines + more))


def _leaf(raw: np.ndarray, model: Any, generator: str | None) -> Any:
    """Rebuilds a leaf of the kind of `model`: a JAX array or key, a numpy array or scalar, or a Python number."""
    import jax

    if not hasattr(model, "dtype"):
        return type(model)(raw.view(np.asarray(model).dtype).item())
    if generator:
        data = jax.eval_shape(jax.random.key_data, model)
        bits = jax.numpy.asarray(raw.copy().view(data.dtype).reshape(data.shape))
        array = jax.random.wrap_key_data(bits, impl=generator)
        return jax.device_put(array, getattr(model, "sharding", None))
    array = raw.copy().view(model.dtype).reshape(model.shape)  # a copy: what the file gave is read-only and unaligned
    if isinstance(model, np.generic):
        return array[()]
    if isinstance(model, np.ndarray):
        return array
    if getattr(model, "weak_type", False):  # must stay so, or the step is compiled again and may promote differently
        array = jax.numpy.full(model.shape, array.dtype.type(0).item()).at[...].set(array)
    return jax.device_put(array, getattr(model, "sharding", None))
