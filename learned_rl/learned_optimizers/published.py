"""The published weights of OPEN as a rule: the PPO they were trained in, optimised by them.

A file is data from a stranger: it is read without unpickling, by its header, and must be a vector of one of the two
published sizes, in float32, with finite numbers. Anything else is refused, with the reason.
"""

import hashlib
import io
from typing import Any

import numpy as np

from learned_rl.learned_optimizers.open import from_vector
from learned_rl.rule_settings import RuleRefused
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift
from learned_rl.rules.optimised import Optimised
from learned_rl.types import Theta

MAX_WEIGHT = 1e6

ORIGIN = {
    "name": "OPEN",
    "attribution": "Goldie, Lu, Jackson, Whiteson, Foerster: Can Learned Optimization Make Reinforcement Learning Less "
    "Difficult? NeurIPS, 2024.",
    "source": "https://github.com/AlexGoldie/rl-learned-optimization, rl_optimizer/pretrained, "
    "commit b65037bd89c09f31e80c5d49f1d78cc9c6dc43e0",
    "licence": "Apache-2.0 (https://www.apache.org/licenses/LICENSE-2.0)",
    "changes": "format only: one vector as named arrays; no number was changed",
}
SHA256 = {
    "e1901cafe323d1c5619b84e5178b3075c95a7cde920777e2c15e58c812c3e725": "ant",
    "55d96c80dca70e4a308352798daec00fc962d7a3faacc24f612e1b437c1893aa": "asterix",
    "d7f0876c78736a0e354f8837e2a549dc7f45ff4d01f952ba9d547d8afc6f7926": "breakout",
    "97ea3f8f9a6e34523dd50c138a1538b33fbd2b1c3a5ee05a31014460825ea9f0": "freeway",
    "16ebb93a79adbcbfdb3e6019986109ee374764cb9cc8b0ad65f69bdcaedd9bb5": "gridworld",
    "9ba2dea70b0b308a365516dab092808b7b9211c70072bca934d83affaee5f60c": "multi",
    "42845f4c0b6b460789afffb1788f806e676b27acafa0febf34e86bd63d3e362f": "spaceinvaders",
}
"""Of the files as published -> the task that their weights were trained on."""


def published_open(content: bytes) -> tuple[Optimised, Theta, dict[str, Any]]:
    """`(rule, theta, record)` from the bytes of one of the published `*_OPEN.npy`.

    Weights of another file of that architecture are put into the PPO that the four MinAtar games were trained in.

    Raises:
      RuleRefused: the bytes are no such vector; the message says why.
    """
    try:
        optimizer, weights = from_vector(_vector(content))
    except ValueError as error:
        raise RuleRefused(f"weights: {str(error).removeprefix('weights: ')}") from None
    found = hashlib.sha256(content).hexdigest()
    task = SHA256.get(found, "")
    origin = ORIGIN | {"sha256": found, "as_published": bool(task), "task": task}
    return Optimised(ppo(task), optimizer), {"base": (), "optimizer": weights}, {"origin": origin}


def ppo(task: str) -> Drift:
    """The PPO in which OPEN was trained on a task (rl_optimizer/configs.py of the source)."""
    # No learning rate is read: OPEN's steps have a size of their own.
    coefficients = Coefficients(discount=0.99, trace=0.95, entropy=0.01, value_cost=0.5, clip=0.2)
    if task == "ant":
        return Drift(coefficients=Coefficients(entropy=0.0), epochs=4, minibatches=32)
    if task == "gridworld":
        return Drift(coefficients=coefficients, epochs=2, minibatches=16)
    return Drift(coefficients=coefficients, epochs=4, minibatches=8)


def _vector(content: bytes) -> np.ndarray:
    """The array in an npy file; nothing in it is executed, and nothing is allocated that is not there."""
    if content.startswith(b"PK"):
        raise RuleRefused("weights: an npz archive, as Disco's are; OPEN's are one npy file")
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except (ValueError, EOFError) as error:
        raise RuleRefused(f"weights: not an npy file ({str(error)[:200]})") from None
    if dtype.hasobject:
        raise RuleRefused("weights: an array of Python objects (pickled), which is never loaded")
    numbers = content[file.tell() :]
    if dtype != np.float32 or len(shape) != 1 or len(numbers) != 4 * shape[0]:
        raise RuleRefused(f"weights: {dtype}{list(shape)} in {len(numbers)} bytes, expected a vector of float32")
    vector = np.frombuffer(numbers, np.float32)
    if not np.all(np.abs(vector) <= MAX_WEIGHT):  # a NaN is not <= anything
        raise RuleRefused(f"weights: a number that is not finite or beyond +-{MAX_WEIGHT:g}")
    return vector
