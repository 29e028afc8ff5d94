"""The reward of `intrinsic-places` for Random ABC alone. Ten minutes on a core."""

from dataclasses import replace

from learned_rl import families
from runs.experiment import Experiment
from runs.recipes import intrinsic_places


def experiment() -> Experiment:
    """As Zheng et al. 2020 learn one reward for each of their domains."""
    return replace(intrinsic_places.experiment(), name="intrinsic-abc", families=(families.random_abc(),))
