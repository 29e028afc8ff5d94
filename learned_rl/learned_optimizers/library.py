"""Importing learned_optimization 0.0.1 of 2022 beside a jax of today, without tensorflow.

It looks up names that jax has since moved, and wants tensorflow for files and summaries. Nothing of it is imported, and
nothing is put in place for it, before `importable` is entered.
"""

import contextlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

import jax
import jax.lib

INSTALL = (
    "learned_optimization is needed: pip install --no-deps learned-optimization==0.0.1 && "
    "pip install dm-haiku gin-config chex tqdm"
)


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """Inside, learned_optimization can be imported without tensorflow.

    The names that jax has moved stay where it looks for them, also when it is called later; tensorflow's stand-in goes.

    Raises:
      ImportError: it is not installed; the message has the command.
    """
    _provide_what_jax_has_moved()
    stubs = {}
    with contextlib.suppress(ImportError):
        import flax.serialization  # (what looks for tensorflow must do so before there is a stand-in)
        import flax.training.checkpoints  # noqa: F401
        import haiku  # type: ignore[import-not-found]  # noqa: F401
    if not _installed("tensorflow"):
        stubs = _tensorflow()
    if not _installed("tensorboard"):
        stubs["flax.metrics.tensorboard"] = types.ModuleType("flax.metrics.tensorboard")
        stubs["flax.metrics.tensorboard"].SummaryWriter = object  # type: ignore[attr-defined]
    sys.modules.update(stubs)
    try:
        yield
    except ImportError as missing:
        raise ImportError(f"{INSTALL} ({missing})") from missing
    finally:
        for name in stubs:  # others must not take it for tensorflow
            sys.modules.pop(name, None)


def _provide_what_jax_has_moved() -> None:
    trees = {f"tree_{verb}": f"tree_{verb}" for verb in ("map", "leaves", "flatten", "unflatten", "structure")}
    names = {name: getattr(jax.tree_util, now) for name, now in (trees | {"tree_multimap": "tree_map"}).items()}
    wanted = [(jax, name, meaning) for name, meaning in names.items()]
    wanted += [(jax, "ShapedArray", jax.ShapeDtypeStruct)]
    wanted += [(jax.lib, "xla_client", types.SimpleNamespace(Device=jax.Device))]  # in annotations only
    for home, name, meaning in wanted:
        if not hasattr(home, name):
            setattr(home, name, meaning)


def _installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def _tensorflow() -> dict[str, types.ModuleType]:
    """Empty modules by the names that are imported from it."""
    names = ("tensorflow", "tensorflow.compat", "tensorflow.compat.v2", "tensorflow.io", "tensorflow_datasets")
    stubs: dict[str, Any] = {name: types.ModuleType(name) for name in names}
    for name, module in stubs.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    stubs["tensorflow"].compat = stubs["tensorflow.compat"]
    stubs["tensorflow.compat"].v2 = stubs["tensorflow.compat.v2"]
    stubs["tensorflow.compat.v2"].enable_v2_behavior = lambda: None
    return stubs
