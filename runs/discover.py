"""`learned-rl discover`: from a recipe to a tracked rule and its table."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from learned_rl import rule_json
from learned_rl.rule_file import load_rule
from runs import catalogue, leakage
from runs.devices import lives_over, prepare
from runs.errors import ConfigurationError
from runs.evaluation import Plan, compared, explained
from runs.experiment import Experiment
from runs.folder import RunFolder, git_commit
from runs.journal import Journal, read_events
from runs.loop import Outcome, train
from runs.overrides import apply_overrides, flatten
from runs.parts import loaded
from runs.recording import recording, stopped
from runs.transfer import Contender
from runs.trials import Trial


def discover(known: argparse.Namespace, recipe: str, overrides: Mapping[str, str]) -> dict[str, Any]:
    """Meta-trains a recipe, then compares the rule on held-out tasks; goes on where an earlier process stopped."""
    prepare()
    experiment: Experiment = apply_overrides(catalogue.recipe(recipe), overrides)
    settings = flatten(experiment)
    if known.show:
        for name, value in settings.items():
            print(f"--{name} {value}")
        return {"configuration": settings}
    path: Path = known.run_dir or Path("out") / recipe
    sharded = lives_over(experiment.outer.batches, known.devices)
    _check(experiment)
    held_out, notes = _held_out(experiment)
    if not (path / "checkpoints").exists():  # a run that goes on has them already
        loaded(experiment.sources, jax.eval_shape(experiment.rule.init, jax.random.key(0)), known.tracking_uri)
    with recording(path, settings, known, experiment.name, _tags(experiment)) as (folder, journal, stop):
        with sharded:
            outcome = train(experiment, folder.path, journal, stop, known.quiet, known.tracking_uri)
        if stop.requested:
            return stopped(folder, stop, f"at step {outcome.step}") | {"step": outcome.step}
        summary = _publish(experiment, folder, journal, outcome)
        explained(Contender("learned", experiment.rule, outcome.theta), folder, journal)
        if held_out:
            plan = Plan(held_out, _contenders(experiment, outcome, folder), experiment.transfer.seeds, notes)
            summary |= compared(plan, folder, journal, stop, known.quiet)
    return summary


def _check(experiment: Experiment) -> None:
    """Finds before anything is written, and in seconds, what would otherwise fail in the middle of a compilation, or
    after the training."""
    if experiment.transfer.suite:
        catalogue.check_suite(experiment.transfer.suite)
    for name in experiment.transfer.against:
        catalogue.built_in(name)
    try:
        rule_json.write(experiment.rule, {})  # a rule that cannot be carried is not worth learning
        key = jax.eval_shape(jax.random.key, 0)
        theta = jax.eval_shape(experiment.rule.init, key)
        for _, problem in experiment.problems:
            jax.eval_shape(problem.advance, theta, jax.eval_shape(problem.start, theta, key), key)
        jax.eval_shape(lambda theta, key: experiment.learner.init(experiment.problems, theta, key), theta, key)
    except ValueError as mistake:
        raise ConfigurationError(str(mistake)) from mistake


def _held_out(experiment: Experiment) -> tuple[tuple[Trial, ...], dict[str, str]]:
    """What the rule will be tested on, with notes; refused before the training if it is no more than that."""
    suite = experiment.transfer.suite
    if not suite:
        return (), {}
    trials = catalogue.suite(suite).test
    found = leakage.leaks({suite: trials}, experiment.name, leakage.describe_all(experiment.families))
    if not experiment.transfer.allow_overlap:
        leakage.refuse(found, "--transfer.allow_overlap true")
    return trials, leakage.notes(found)


def _tags(experiment: Experiment) -> dict[str, str]:
    outer = experiment.outer
    return {
        "learned_rl.kind": "discover",
        "learned_rl.rule": type(experiment.rule).__name__,
        "learned_rl.estimator": type(getattr(outer, "estimator", outer)).__name__,
        "learned_rl.objective": type(experiment.objective).__name__,
        "git.commit": git_commit(),
        "device.kind": jax.devices()[0].device_kind,
        "jax.version": jax.__version__,
    }


def _publish(experiment: Experiment, folder: RunFolder, journal: Journal, outcome: Outcome) -> dict[str, Any]:
    """The learned rule, its training curves, and its registration."""
    from runs import figures

    figures.training_curves(_returns(experiment, folder.path), folder.path / "training.png")
    # MLflow puts what a folder holds, not the folder itself. `rule/` is where the model's versions lie.
    for artifact, where in (("rule", "latest"), ("training.png", ""), ("run.json", "")):
        journal.artifact(artifact, where)
    journal.model(experiment.name, "rule", {"learned_rl.rule": type(experiment.rule).__name__})
    env_steps = outcome.step * experiment.env_steps_per_step
    journal.metrics(
        outcome.step, {"sys/compile_seconds": outcome.compile_seconds, "sys/train_seconds": outcome.seconds}
    )
    return {
        "run": folder.run,
        "path": str(folder.path),
        "rule": str(folder.rule),
        "step": outcome.step,
        "env_steps": env_steps,
        "compile_seconds": outcome.compile_seconds,
        "train_seconds": outcome.seconds,
    }


def _returns(experiment: Experiment, path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """The return curves of each family, read back from the journal."""
    curves = {name: ([], []) for name, _ in experiment.problems}
    for event, _ in read_events(path):
        for name, (steps, values) in curves.items():
            key = f"inner/{name}/return"
            if event["kind"] == "metrics" and key in event["values"]:
                steps.append(event["step"])
                values.append(event["values"][key])
    return curves


def _contenders(experiment: Experiment, outcome: Outcome, folder: RunFolder) -> list[Contender]:
    """The learned rule, its own untrained start, and hand-designed ones."""
    untrained = load_rule(folder.path / "rule-untrained")
    names = dict.fromkeys((*experiment.transfer.against, "random"))
    return [
        Contender("learned", experiment.rule, outcome.theta),
        Contender("untrained", untrained.rule, untrained.theta),
        *(Contender(name, *catalogue.built_in(name)) for name in names),
    ]
