"""What the studies of `python -m runs.*_study` share: a recipe of another length, learned to its end, and played."""

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.trials import Trials
from learned_rl.types import Theta
from runs import catalogue
from runs.experiment import Experiment
from runs.learners import GradientDescent
from runs.programs import Programs

AT_ONCE = 10_000  # trials


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """Of `python -m runs.NAME`: which seeds, how long, and where to write; `about` is the module's docstring."""
    made = argparse.ArgumentParser(prog=f"python -m runs.{name}", description=(about or "").split("\n")[0])
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="which ones")
    made.add_argument("--steps", type=int, metavar="N", help="outer steps (the recipe's)")
    made.add_argument("--json", type=Path, metavar="PATH", help="write a machine-readable report here")
    return made


def lasting(recipe: str, seed: int, steps: int | None = None) -> Experiment:
    """The recipe with another seed and as many outer steps as are said, over which its rate falls as far."""
    usual = catalogue.recipe(recipe)
    steps = steps or usual.steps
    every = math.gcd(usual.report_every, steps)
    assert isinstance(usual.outer, GradientDescent)
    outer = replace(usual.outer, decay=usual.outer.decay ** (usual.steps / steps))
    return replace(usual, outer=outer, steps=steps, report_every=every, checkpoint_every=every, seed=seed)


def trained(e: Experiment) -> tuple[Theta, list[float]]:
    """theta of what an experiment learns, and the meta-loss along the way."""
    programs = Programs(e)
    state, losses, began = programs.birth(), [], time.monotonic()
    for first in range(0, e.steps, e.report_every):
        state, metrics = programs.advance(state, first)
        losses.append(metrics["meta/loss"])
        seconds = time.monotonic() - began
        print(f"  step {first + e.report_every}/{e.steps}: {losses[-1]:.4f} ({seconds:.0f} s)", file=sys.stderr)
    return e.outer.theta(state), losses


def returns(e: Experiment, theta: Theta, trials: int, key: PRNGKeyArray) -> Float[np.ndarray, "episodes trials"]:
    """What the episodes of fresh trials paid, at least as many trials as asked for; episodes are equally long."""
    tasks = e.families[0]
    assert isinstance(tasks, Trials)
    lifetime = replace(e.lifetime(replace(tasks, credited=False)), streams=min(AT_ONCE, trials))

    @jax.jit
    def play(theta: Theta, key: PRNGKeyArray) -> Float[Array, "episodes streams"]:
        key_start, key_act = jax.random.split(key)
        _, rollout = lifetime.act(lifetime.start(theta, key_start), key_act)
        return rollout.reward.reshape(tasks.episodes, -1, lifetime.streams).sum(axis=1)

    keys = jax.random.split(key, -(-trials // lifetime.streams))
    return np.concatenate([np.asarray(play(theta, k)) for k in keys], axis=1)
