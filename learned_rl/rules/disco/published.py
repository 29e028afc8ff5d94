"""The published weights, Disco103, as this rule's theta.

A file is data from a stranger: it is read without unpickling, and every array must have the name, shape and dtype of
the published architecture, and finite numbers. Anything else is refused, with the reason.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_rl.rule_settings import RuleRefused, same_names
from learned_rl.rules.disco.rule import Disco
from learned_rl.types import Theta

SHA256 = "dac840a15b81e8805326363458c33979626172618f620d9e6e170315388530aa"
MAX_BYTES, MAX_WEIGHT = 64 * 2**20, 1e6

ORIGIN = {
    "name": "Disco103",
    "attribution": "Oh, Farquhar, Kemaev, Calian, Hessel, Zintgraf, Singh, van Hasselt, Silver: Discovering "
    "state-of-the-art reinforcement learning algorithms. Nature, 2025. doi:10.1038/s41586-025-09761-x",
    "source": "https://github.com/google-deepmind/disco_rl, disco_rl/update_rules/weights/disco_103.npz, "
    "commit 9059a29f7121d60948f25ef165e08e050e9399c8",
    "copyright": "2025 Google LLC",
    "licence": "software Apache-2.0 (https://www.apache.org/licenses/LICENSE-2.0), all other materials CC-BY-4.0 "
    "(https://creativecommons.org/licenses/by/4.0/); the source does not say which of the two the weights are: "
    "satisfy both",
    "changes": "format only: array names and axes of length 1; no number was changed",
}

_READER = {
    "y/0": "mlp/~/linear_0",
    "y/1": "mlp/~/linear_1",
    "z/0": "mlp_1/~/linear_0",
    "z/1": "mlp_1/~/linear_1",
    "actions/0": "sequential/conv1_d",
    "actions/1": "sequential/conv1_d_1",
}
_TRAJECTORY = {
    "lstm": "lstm/linear",
    "gate": "linear",
    "summary": "linear_1",
    "y": "linear_2",
    "z": "linear_3",
    "actions": "sequential_1/conv1_d",
    "policy": "linear_4",
} | {f"reader/{ours}": theirs for ours, theirs in _READER.items()}
_LIFETIME = {"inward": "mlp_2/~/linear_0", "lstm": "lstm/linear"} | {
    f"reader/{ours}": theirs for ours, theirs in _READER.items()
}
LAYERS = {f"trajectory/{ours}": f"lstm/{theirs}" for ours, theirs in _TRAJECTORY.items()} | {
    f"lifetime/{ours}": f"lstm/~/meta_lstm/~unroll/{theirs}" for ours, theirs in _LIFETIME.items()
}
"""Path of a layer in our theta -> its name in the published file."""


def disco103(content: bytes) -> tuple[Disco, Theta, dict[str, Any]]:
    """`(rule, theta, record)` from the bytes of the published `disco_103.npz`.

    Raises:
      RuleRefused: the bytes are not that architecture's weights; the message says why.
    """
    rule = Disco()
    theta = theta_of(_arrays(content), rule)
    found = hashlib.sha256(content).hexdigest()
    return rule, theta, {"origin": ORIGIN | {"sha256": found, "as_published": found == SHA256}}


def theta_of(arrays: Mapping[str, np.ndarray], rule: Disco) -> Theta:
    """The published arrays in the structure of `rule.init`.

    Raises:
      RuleRefused: an array is missing, unknown, or not what the rule's settings imply.
    """
    expected = jax.eval_shape(rule.init, jax.eval_shape(jax.random.key, 0))
    paths, structure = jax.tree_util.tree_flatten_with_path(expected)
    names = [published_name(jax.tree_util.keystr(path, simple=True, separator="/")) for path, _ in paths]
    same_names(set(arrays), set(names), "weights")
    leaves = [_checked(arrays[name], leaf.shape, name) for name, (_, leaf) in zip(names, paths, strict=True)]
    return jax.tree.unflatten(structure, leaves)


def published_name(path: str) -> str:
    """The published file's name of an array, from its path in theta."""
    layer, _, kind = path.rpartition("/")
    return f"{LAYERS[layer]}/{kind}"


def _checked(x: np.ndarray, shape: tuple[int, ...], name: str) -> jax.Array:
    # The layers that are shared by all actions are stored as convolutions of width 1.
    published = (1, *shape) if "conv1_d" in name and len(shape) == 2 else shape
    if x.shape != published or x.dtype != np.float32:
        raise RuleRefused(f"weights: {name} is {x.dtype}{list(x.shape)}, expected float32{list(published)}")
    if not np.all(np.abs(x) <= MAX_WEIGHT):  # a NaN is not <= anything
        raise RuleRefused(f"weights: {name} holds a number that is not finite or beyond +-{MAX_WEIGHT:g}")
    return jnp.asarray(x.reshape(shape))


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an npz archive; nothing in it is executed, and it is not unpacked if it is too large."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            raise RuleRefused(f"weights: {size} bytes unpacked, more than the {MAX_BYTES} allowed")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except RuleRefused:
        raise
    except zipfile.BadZipFile:
        raise RuleRefused("weights: not an npz archive (or a damaged one)") from None
    except ValueError as error:
        pickled = "pickle" in str(error)
        reason = "an array of Python objects (pickled), which is never loaded" if pickled else str(error)[:200]
        raise RuleRefused(f"weights: {reason}") from None
    except (OSError, EOFError, KeyError, NotImplementedError, RuntimeError, MemoryError) as error:
        raise RuleRefused(f"weights: not readable as an npz archive ({str(error)[:200]})") from None
