"""Experiments that a process finishes in seconds; `python -m tests.tiny FOLDER NAME...` runs them one after another."""

import os
import sys
import time
from pathlib import Path

import jax

from learned_rl import families
from learned_rl.networks import MLP, Network
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.schedule import Schedule
from meta_objectives.outer_critic import OuterCritic
from meta_objectives.returns import LifetimeReturn
from meta_objectives.validation import PolicyGradientSurrogate
from runs import loop
from runs.devices import lives_over, prepare
from runs.experiment import Experiment, Inner
from runs.journal import Journal
from runs.learners import Evolution, GradientDescent
from runs.signals import stop_on_signal
from truncation import PersistentES, TruncatedBackprop

NETWORK = Network(MLP((4,)))
# Children compile nearly everything that they run: less optimised code is there a third sooner, and as deterministic.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def environment(**more):
    """For a child process: the compilation cache of the suite, and no store but the one it is told."""
    usual = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    # Not with the suite's choice of emitters, which nobody else has: with it, some processors (AVX-512) round one life
    # of four differently in a program for four devices than in one for two, whose loops are the same to the letter.
    ours = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "fusion_emitters" not in flag]
    cache = {
        "XLA_FLAGS": " ".join([*ours, QUICK]),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
    return usual | cache | more


OUTER = {
    "backprop": GradientDescent(TruncatedBackprop(horizon=2, window=1, lives=4, stagger=False, microbatch=1)),
    "persistent": GradientDescent(PersistentES(horizon=2, window=1, lives=8, std=0.1, stagger=False, microbatch=2)),
    "evolution": Evolution("Open_ES", population=8, horizon=2, std=0.1, microbatch=2),
}


def experiment(name, inner_rate=0.01, **changes) -> Experiment:
    """A learned schedule on bandits, improved by the outer learner called `name`."""
    base = ActorCritic(coefficients=Coefficients(learning_rate=inner_rate))
    settings = {
        "name": name,
        "rule": Schedule(base, hidden=4, learned=("learning_rate", "entropy")),
        "families": (families.bernoulli_bandit(),),
        "outer": OUTER[name],
        "objective": PolicyGradientSurrogate(OuterCritic(NETWORK)) if name == "backprop" else LifetimeReturn(),
        "network": NETWORK,
        "inner": Inner(streams=2, steps=4, updates=4, segment=2),
        "steps": 40,
        "report_every": 1,
        "checkpoint_every": 2,
    }
    return Experiment(**(settings | changes))


class Announced(loop.Programs):
    """Says when the outer loop begins."""

    def __init__(self, experiment):
        super().__init__(experiment)
        print("ready", experiment.name, flush=True)


def main(folder: Path, names) -> int:
    prepare()
    loop.Programs = Announced
    for name in names:
        if (folder / name / "finished").exists():
            continue
        (folder / name).mkdir(parents=True, exist_ok=True)
        e = experiment(name)
        journal = Journal(folder / name)
        journal.start(run=name, experiment="tiny", name=name, params={}, tags={})
        with stop_on_signal() as stop, lives_over(e.outer.batches):
            began = time.monotonic()
            outcome = loop.train(e, folder / name, journal, stop, quiet=True)
            journal.close()
            if stop.requested:
                return stop.exit_code
            (folder / name / "finished").touch()
        print("finished", name, time.monotonic() - began - outcome.compile_seconds, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
