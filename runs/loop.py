"""The outer loop: the only Python loop over outer steps, where training meets disk, clock and user."""

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from learned_rl.rule_file import RuleRefused, save_rule
from learned_rl.types import Discrete
from runs.checkpoints import Checkpoints
from runs.durable import disk_errors
from runs.errors import DiskError, NumericalStop
from runs.experiment import Experiment
from runs.journal import Journal
from runs.leakage import RECORDED, describe_all
from runs.overrides import flatten
from runs.parts import loaded
from runs.programs import Programs
from runs.progress import Progress
from runs.signals import StopRequest

logger = logging.getLogger(__name__)


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
      step: outer steps done.
      theta: what would be deployed, on the host: what comes next may use other devices.
      seconds: of this process, compilation included.
      compile_seconds: of the two programs (birth of the state, and the outer step).
    """

    step: int
    theta: Any
    seconds: float
    compile_seconds: float


def train(
    experiment: Experiment,
    folder: Path,
    journal: Journal,
    stop: StopRequest,
    quiet: bool = False,
    tracking_uri: str | None = None,
) -> Outcome:
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
    if found:
        begun, state, extra = found
    else:
        given = loaded(experiment.sources, programs.theta_shape, tracking_uri) if experiment.loaded else {}
        begun, state, extra = 0, programs.birth(given), {"sick": 0, "metrics": {}}
    # On resuming too: the checkpoint may have been the last thing that the killed process wrote.
    _save_rule(experiment, state, folder / ("rule" if found else "rule-untrained"), begun, extra["metrics"])
    step, sick, total, failures = begun, extra["sick"], experiment.steps, 0
    _stop_if_sick(experiment, sick, step, folder)
    with Progress(total, start=step, quiet=quiet) as progress:
        while step < total and not stop.requested:
            state, metrics = programs.advance(state, step)
            step += experiment.report_every
            journal.metrics(step, metrics | {"sys/env_steps": step * experiment.env_steps_per_step})
            sick = sick + 1 if metrics["meta/dead"] > 0.25 else 0
            progress.update(
                step,
                env_steps=(step - begun) * experiment.env_steps_per_step,
                loss=metrics["meta/loss"],
                dead=metrics["meta/dead"],
            )
            last = step == total or stop.requested or sick >= experiment.patience
            if last or step % experiment.checkpoint_every == 0:
                try:
                    journal.flush()
                    record = {name: value for name, value in metrics.items() if math.isfinite(value)}
                    checkpoints.save(step, state, {"sick": sick, "metrics": record})
                    _save_rule(experiment, state, folder / "rule", step, record)
                    progress.saved()
                    failures = 0
                except DiskError as error:
                    failures += 1
                    if last or failures == 3:
                        raise
                    logger.warning("%s; training goes on, the last good checkpoint stays", error)
            _stop_if_sick(experiment, sick, step, folder)
    theta = jax.device_get(jax.jit(experiment.learner.theta)(state))
    return Outcome(step, theta, time.monotonic() - began, programs.compile_seconds)


def _stop_if_sick(experiment: Experiment, sick: int, step: int, folder: Path) -> None:
    if sick >= experiment.patience:
        raise NumericalStop(
            f"more than a quarter of the lives were not finite in {sick} reports in a row; the state at step {step} is "
            f"kept in {folder}. Lower the outer learning rate or std, or shorten the window."
        )


def _save_rule(experiment: Experiment, state: Any, folder: Path, step: int, metrics: dict[str, float]) -> None:
    """The rule as it would be deployed after `step`, with the record of how it came about."""
    record = {
        "experiment": experiment.name,
        "outer_step": step,
        "env_steps": step * experiment.env_steps_per_step,
        "families": [tasks.name for tasks in experiment.families],
        RECORDED: describe_all(experiment.families),
        "inner": flatten(experiment.inner),
        "network": flatten(experiment.network),
        "action_counts": sorted({t.actions.count for t in experiment.families if isinstance(t.actions, Discrete)}),
        "seed": experiment.seed,
        "frozen": list(experiment.frozen),
        "loaded": list(experiment.loaded),
        "metrics": metrics,
    }
    with disk_errors("saving the rule", folder):
        try:
            save_rule(experiment.rule, experiment.learner.theta(state), folder, record)
        except RuleRefused as refused:  # the checkpoint holds it nevertheless
            raise NumericalStop(f"theta after step {step} is no rule that could be used: {refused}") from refused
