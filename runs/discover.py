"""`learned-rl discover` and `learned-rl transfer`: from a recipe to a tracked rule and its table."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from learned_rl import rule_json
from learned_rl.rule_file import load_rule
from runs import catalogue, tables
from runs.devices import lives_over, prepare
from runs.errors import ConfigurationError
from runs.experiment import Experiment
from runs.folder import RunFolder, git_commit
from runs.journal import Journal, read_events
from runs.lock import RunLock
from runs.loop import Outcome, train
from runs.mlflow_sink import MlflowSink
from runs.overrides import apply_overrides, flatten
from runs.parts import loaded
from runs.signals import StopRequest, stop_on_signal
from runs.suites import Trial
from runs.transfer import Comparison, Contender, compare, fingerprint


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
    _check(experiment)
    if not (path / "checkpoints").exists():  # a run that goes on has them already
        loaded(experiment.sources, jax.eval_shape(experiment.rule.init, jax.random.key(0)), known.tracking_uri)
    held_out = catalogue.suite(experiment.transfer.suite) if experiment.transfer.suite else ()
    sharded = lives_over(experiment.outer.batches, known.devices)
    with _recording(path, settings, known, experiment.name, _tags(experiment)) as (folder, journal, stop):
        with sharded:
            outcome = train(experiment, folder.path, journal, stop, known.quiet, known.tracking_uri)
        if stop.requested:
            return _stopped(folder, stop, f"at step {outcome.step}") | {"step": outcome.step}
        summary = _publish(experiment, folder, journal, outcome)
        if held_out:
            contenders = _contenders(experiment, outcome, folder)
            summary |= _compared(held_out, contenders, experiment.transfer.seeds, folder, journal, stop, known.quiet)
    return summary


def transfer(known: argparse.Namespace) -> dict[str, Any]:
    """Trains agents with a frozen rule on a suite, beside built-in or other rules."""
    prepare()
    trials = catalogue.suite(known.suite)
    rules = [Contender(*catalogue.rule(name, known.tracking_uri)) for name in (known.rule, *known.against)]
    contenders = _distinct([*rules, Contender("random", *catalogue.built_in("random"))])
    ours = contenders[0].name
    path: Path = known.run_dir or Path("out") / "transfer" / f"{ours}-{known.suite}"
    settings = {"rule": known.rule, "suite": known.suite, "seeds": known.seeds, "against": " ".join(known.against)}
    settings["rules"] = " ".join(fingerprint(c) for c in contenders)  # an address may come to hold another rule
    tags = {"learned_rl.kind": "transfer", "learned_rl.rule": ours, "git.commit": git_commit()}
    with _recording(path, settings, known, "transfer", tags) as (folder, journal, stop):
        return _compared(trials, contenders, known.seeds, folder, journal, stop, known.quiet)


@contextlib.contextmanager
def _recording(
    path: Path, settings: Mapping[str, Any], known: argparse.Namespace, experiment: str, tags: Mapping[str, str]
) -> Iterator[tuple[RunFolder, Journal, StopRequest]]:
    """A locked run folder with its journal, drained into MLflow in the background, until done or told to stop."""
    folder = RunFolder.create_or_resume(path, settings, jax.devices()[0].device_kind)
    with RunLock(folder.path), stop_on_signal() as stop:
        journal = Journal(folder.path)
        journal.start(run=folder.run, experiment=experiment, name=folder.path.name, params=settings, tags=tags)
        sink = MlflowSink(folder.path, known.tracking_uri)
        try:
            yield folder, journal, stop
            journal.finish("KILLED" if stop.requested else "FINISHED")
        except BaseException:
            journal.finish("FAILED")
            raise
        finally:
            journal.close()
            waiting = sink.close(timeout=3.0 if stop.requested else 60.0)  # who stops us may not wait for long
            if waiting:
                print(
                    f"MLflow at {sink.uri} does not take {waiting} records; they wait in {folder.path}, "
                    "and go out when the same command is run again",
                    flush=True,
                )


def _stopped(folder: RunFolder, stop: StopRequest, where: str) -> dict[str, Any]:
    print(f"stopped {where}, saved; the same command goes on", flush=True)
    return {"run": folder.run, "path": str(folder.path), "exit": stop.exit_code}


def _check(experiment: Experiment) -> None:
    """Finds before anything is written, and in seconds, what would otherwise fail in the middle of a compilation, or
    after the training."""
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


def _compared(
    trials: Sequence[Trial],
    contenders: Sequence[Contender],
    seeds: int,
    folder: RunFolder,
    journal: Journal,
    stop: StopRequest,
    quiet: bool,
) -> dict[str, Any]:
    """Compares, and records the outcome."""

    def show(done: int, total: int, text: str) -> bool:
        if not quiet:
            print(f"transfer {done}/{total}  {text}", file=sys.stderr, flush=True)
        return not stop.requested

    comparison = compare(trials, contenders, seeds, folder.path / "transfer", show)
    if comparison is None:
        return _stopped(folder, stop, "between two transfer evaluations")
    return _record(comparison, seeds, contenders[0].name, folder, journal)


def _record(comparison: Comparison, seeds: int, ours: str, folder: RunFolder, journal: Journal) -> dict[str, Any]:
    """Table and figures in `report/`, one nested run per task and rule, and the table on the terminal."""
    text = tables.write(comparison, seeds, ours, folder.path / "report")
    for name, by_task in comparison.results.items():
        for task, steps in zip(comparison.tasks, comparison.env_steps, strict=True):
            scores = by_task[task].scores
            journal.child(
                f"{task}/{name}",
                name=f"eval/{task}/{name}",
                tags={"learned_rl.kind": "evaluation", "learned_rl.task": task, "learned_rl.contender": name},
                params={"seeds": seeds, "env_steps": steps},
                metrics={f"eval/{task}/return": float(scores.mean()), f"eval/{task}/std": float(scores.std())},
            )
    journal.artifact("report", "report")
    aggregates = {name: comparison.aggregate(name)._asdict() for name in comparison.results}
    journal.child(
        "aggregate",
        name="eval/aggregate",
        tags={"learned_rl.kind": "evaluation"},
        params={"seeds": seeds, "tasks": " ".join(comparison.tasks)},
        metrics={f"iqm/{name}": value["point"] for name, value in aggregates.items()},
    )
    print(f"\n{text}\n{folder.path / 'report'}", flush=True)
    return {"path": str(folder.path), "iqm": aggregates, "report": str(folder.path / "report")}


def _distinct(contenders: Sequence[Contender]) -> list[Contender]:
    """Each once, and under a name of its own."""
    found: dict[str, Contender] = {}
    for contender in contenders:
        name, number = contender.name, 1
        while name in found and fingerprint(found[name]) != fingerprint(contender):
            number += 1
            name = f"{contender.name}-{number}"
        found.setdefault(name, contender._replace(name=name))
    return list(found.values())
