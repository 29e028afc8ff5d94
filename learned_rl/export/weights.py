"""Arrays in a file beside the code that needs them."""

import hashlib
import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np


def read_weights(file: Path, sha256: str) -> dict[str, jax.Array]:
    """The arrays of an .npz file, by name; nothing in it is unpickled.

    Raises:
      ValueError: it is not the file that the code was written with.
    """
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{file}: its SHA-256 is {found}, not {sha256}: damaged, or of another rule; export it again")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: jnp.asarray(x) for name, x in arrays.items()}
