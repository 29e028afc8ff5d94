"""Published levels of PPO on MinAtar, measured again: 1e7 environment steps with the Adam that was tuned for each game.

    python -m runs.anchors [--games NAME ...] [--seeds N] [--steps N] [--out DIR]

The reference is "PPO with Adam" of OPEN (Goldie et al. 2024; numbers from its repository, means of 16 seeds): 64
environments x 128 steps, 4 epochs of 8 minibatches, separate networks of 64 x 64 ReLU units, a learning rate that falls
to 0. Beside it stand the PPO checkpoints of gymnax-blines, of other settings. A seed is a file in DIR: what is finished
is not trained again.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl import families
from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Adam
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift
from runs.devices import prepare
from runs.durable import replace_file
from runs.statistics import Interval, bootstrap, mean
from runs.transfer import POINTS, final

STEPS = 10_000_000


@dataclass(frozen=True)
class Anchor:
    """A published level.

    Attributes:
      learning_rate, b2: of Adam, tuned for the game in OPEN; b1 is 0.9.
      published: mean final return of PPO there.
      band: relative distance within which a measurement agrees.
      blines: what the checkpoint of gymnax-blines earns.
    """

    learning_rate: float
    b2: float
    published: float
    band: float
    blines: float


ANCHORS: Mapping[str, Anchor] = {
    "Asterix": Anchor(3e-3, 0.999, 15.0353, 0.10, 15.0),
    "Breakout": Anchor(1e-2, 0.99, 50.0822, 0.15, 28.0),
    "Freeway": Anchor(1e-3, 0.99, 61.8369, 0.10, 58.0),
    "SpaceInvaders": Anchor(7e-3, 0.99, 167.0913, 0.10, 131.0),
}


def lifetime(game: str, steps: int = STEPS) -> Lifetime:
    """The reference configuration."""
    anchor = ANCHORS[game]
    c = Coefficients(anchor.learning_rate, discount=0.99, trace=0.95, entropy=0.01, value_cost=0.5, clip=0.2)
    adam = Adam(b1=0.9, b2=anchor.b2, eps=1e-5, max_norm=0.5)
    rule = Drift(coefficients=c, optimizer=adam, epochs=4, minibatches=8, anneal=True)
    network = Network(MLP((64, 64), nn.relu), separate=True)
    return Lifetime(families.minatar(game), rule, network, 64, 128, max(1, steps // (64 * 128)))


@cache
def _program(life: Lifetime) -> jax.stages.Wrapped:
    def whole(key: PRNGKeyArray) -> Float[Array, " updates"]:
        key_birth, key_life = jax.random.split(key)
        return life.whole((), life.start((), key_birth), key_life)[1]

    return jax.jit(whole)


def trained(life: Lifetime, seed: int) -> Float[np.ndarray, " updates"]:
    """Mean return along the life of one agent. (Side by side, agents win nothing on a CPU.)"""
    return np.asarray(_program(life)(jax.random.fold_in(jax.random.key(0), seed)))


def measured(game: str, seeds: int, steps: int, folder: Path) -> Float[np.ndarray, " seeds"]:
    """Mean return of every seed over the last tenth of training."""
    life, scores = lifetime(game, steps), []
    for seed in range(seeds):
        file = folder / f"{game}-{life.updates * life.steps_per_update}-{seed}.json"
        if not file.exists():
            began = time.monotonic()
            returns = trained(life, seed)
            shown = np.unique(np.linspace(0, life.updates - 1, min(POINTS, life.updates)).astype(int))
            score, seconds = float(final(returns[None])[0]), time.monotonic() - began
            folder.mkdir(parents=True, exist_ok=True)
            kept = {"score": score, "seconds": seconds, "returns": returns[shown].tolist()}
            replace_file(file, json.dumps(kept).encode())
            print(f"{game}, seed {seed}: {score:.2f} ({seconds:.0f} s)", file=sys.stderr, flush=True)
        scores.append(json.loads(file.read_bytes())["score"])
    return np.array(scores)


def verdict(anchor: Anchor, interval: Interval) -> str:
    """Whether a mean with its interval agrees with the published one."""
    low, high = anchor.published * (1 - anchor.band), anchor.published * (1 + anchor.band)
    if low <= interval.point <= high:
        return "agrees"
    return "undecided" if interval.low <= high and interval.high >= low else "differs"


def table(scores: Mapping[str, Float[np.ndarray, " seeds"]], steps: int) -> Iterator[str]:
    """What was measured beside what was published, as lines of Markdown."""
    yield f"| game ({steps:,} steps) | PPO here, 95 % | seeds | published (OPEN) | band | gymnax-blines | |"
    yield "|---" * 7 + "|"
    for game, found in scores.items():
        anchor, earned = ANCHORS[game], bootstrap(mean, found[:, None])
        shown = f"{earned.point:.2f} [{earned.low:.2f}, {earned.high:.2f}]"
        yield (
            f"| {game} | {shown} | {len(found)} | {anchor.published:.2f} | {anchor.band:.0%} | {anchor.blines:g} | "
            f"{verdict(anchor, earned)} |"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for bad usage."""
    parser = argparse.ArgumentParser(prog="python -m runs.anchors", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--games", nargs="+", choices=[*ANCHORS], default=[*ANCHORS])
    parser.add_argument("--seeds", type=int, default=4, metavar="N", help="agents per game; default: 4")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"of each agent; default: {STEPS}")
    parser.add_argument("--out", type=Path, default=Path("out/anchors"), metavar="DIR", help="for finished seeds")
    known = parser.parse_args(arguments)
    if min(known.seeds, known.steps) < 1:
        parser.error("--seeds and --steps must be at least 1")
    prepare()
    scores = {game: measured(game, known.seeds, known.steps, known.out) for game in dict.fromkeys(known.games)}
    print(*table(scores, known.steps), sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
