"""The outer loop: the only Python loop over outer steps, where training meets disk, clock and user."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from learned_rl.rule_file import save_rule
from runs.checkpoints import Checkpoints
from runs.errors import NumericalStop
from runs.experiment import Experiment
from runs.journal import Journal
from runs.programs import Programs
from runs.progress import Progress
from runs.signals import StopRequest


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
      step: outer steps done.
      theta: what would be deployed.
      seconds: of this process, compilation included.
      compile_seconds: of the two programs (birth of the state, and the outer step).
      stopped: it was asked to stop before it was done.
    """

    step: int
    theta: Any
    seconds: float
    compile_seconds: float
    stopped: bool = False


def train(experiment: Experiment, folder: Path, journal: Journal, stop: StopRequest, quiet: bool = False) -> Outcome:
    """Runs an experiment to its last step, resuming from the newest checkpoint in `folder` if there is one.

    A checkpoint holds everything (theta, moments or strategy, all live lives), so that a resumed run is bitwise the run
    that was never interrupted.

    Raises:
      NumericalStop: more than a quarter of the lives were dead for `patience` reports in a row; a checkpoint was kept.
      DiskError: checkpoints could not be saved three times in a row.
    """
    began = time.monotonic()
    checkpoints = Checkpoints(folder / "checkpoints")
    programs = Programs(experiment)
    found = checkpoints.latest(programs.state_shape)
    step, state, extra = found if found else (0, programs.birth(), {"sick": 0})
    if found is None:
        _save_rule(experiment, state, folder / "rule-untrained", 0, {})
    sick, metrics = extra["sick"], {}
    total = experiment.steps
    with Progress(total, start=step, quiet=quiet) as progress:
        while step < total and not stop.requested:
            state, metrics = programs.advance(state, step)
            step += experiment.report_every
            journal.metrics(step, metrics | {"sys/env_steps": step * experiment.env_steps_per_step})
            sick = sick + 1 if metrics["meta/dead"] > 0.25 else 0
            progress.update(
                step,
                env_steps=step * experiment.env_steps_per_step,
                loss=metrics["meta/loss"],
                dead=metrics["meta/dead"],
            )
            due = step % experiment.checkpoint_every == 0 or step == total
            if due or stop.requested or sick >= experiment.patience:
                journal.flush()
                checkpoints.save(step, state, {"sick": sick})
                _save_rule(experiment, state, folder / "rule", step, metrics)
                progress.saved()
            if sick >= experiment.patience:
                raise NumericalStop(
                    f"more than a quarter of the lives were not finite in {sick} reports in a row; the state at step "
                    f"{step} is kept in {folder}. Lower the outer learning rate or std, or shorten the window."
                )
    theta = jax.jit(experiment.outer.theta)(state)
    return Outcome(step, theta, time.monotonic() - began, programs.compile_seconds, stopped=step < total)


def _save_rule(experiment: Experiment, state: Any, folder: Path, step: int, metrics: dict[str, float]) -> None:
    """The rule as it would be deployed after `step`, with the record of how it came about."""
    record = {
        "experiment": experiment.name,
        "outer_step": step,
        "env_steps": step * experiment.env_steps_per_step,
        "families": [tasks.name for tasks in experiment.families],
        "seed": experiment.seed,
        "metrics": {k: v for k, v in metrics.items() if np.isfinite(v)},
    }
    save_rule(experiment.rule, experiment.outer.theta(state), folder, record)
