"""What a sweep turns: one setting of a trial at a time, everything else as it was. One function a knob.

Listed from this file (`runs.catalogue.knobs`): every public function here is a knob.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from learned_rl.altered_tasks import Distracted, DuplicatedActions, PaidOtherwise, PermutedObservations
from learned_rl.types import Discrete
from runs.errors import UsageError
from runs.trials import Trial

Record = Mapping[str, Any]
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Knob:
    """One setting, turned.

    Attributes:
      title: of the axis.
      trials: value -> trial, in the order of values.
      base: the value at which the trial is as it was.
      trained: the values in the rule's training, as far as its record says; empty if it says nothing.
      log: the base of the axis' logarithm, 0 for a linear one.
      unit: value -> what a return is divided by, to be compared with those at other values.
    """

    title: str
    trials: Mapping[float, Trial]
    base: float
    trained: tuple[float, ...] = ()
    log: int = 2
    unit: Callable[[float], float] = lambda value: 1.0


def lifetime(trial: Trial, record: Record) -> Knob:
    """How long an agent trains: inner updates."""
    return _sizes(trial, record, "updates", "inner updates in a lifetime")


def streams(trial: Trial, record: Record) -> Knob:
    """How many environments an agent acts in side by side."""
    return _sizes(trial, record, "streams", "environments side by side")


def width(trial: Trial, record: Record) -> Knob:
    """Units in each hidden layer of the agent's network."""
    hidden = _hidden(trial)
    widths = [max(1, round(f * hidden[0])) for f in FACTORS]
    made = {float(n): _with_hidden(trial, (n,) * len(hidden)) for n in widths if n != hidden[0]}
    return Knob("units in a hidden layer", _sorted(made, hidden[0], trial), hidden[0], _trained_hidden(record))


def depth(trial: Trial, record: Record) -> Knob:
    """Hidden layers of the agent's network."""
    hidden = _hidden(trial)
    made = {float(n): _with_hidden(trial, (hidden[0],) * n) for n in (1, 2, 3, 4, 6) if n != len(hidden)}
    layers = len(_trained_hidden(record))
    return Knob("hidden layers", _sorted(made, len(hidden), trial), len(hidden), (layers,) if layers else (), log=0)


def actions(trial: Trial, record: Record) -> Knob:
    """How many actions there are, most of them copies."""
    if not isinstance(trial.tasks.actions, Discrete):
        raise UsageError(f"actions: those of {trial.name} are continuous")
    count = trial.tasks.actions.count
    made = {float(count * n): replace(trial, tasks=DuplicatedActions(trial.tasks, n)) for n in (2, 4, 8)}
    return Knob("actions", _sorted(made, count, trial), count, tuple(record.get("action_counts", ())))


def reward_scale(trial: Trial, record: Record) -> Knob:
    """The unit of reward; returns are reported in the task's own."""
    made = {x: replace(trial, tasks=PaidOtherwise(trial.tasks, x)) for x in (0.01, 0.1, 10.0, 100.0)}
    trained = _as_it_was(trial, record, 1.0)
    return Knob("scale of rewards", _sorted(made, 1, trial), 1, trained, 10, lambda value: value)


def permutation(trial: Trial, record: Record) -> Knob:
    """Whether the numbers of an observation stand in another order, drawn per life: 0 or 1."""
    made = {1.0: replace(trial, tasks=PermutedObservations(trial.tasks))}
    return Knob("observations permuted (1) or not (0)", _sorted(made, 0, trial), 0, _as_it_was(trial, record, 0.0), 0)


def distractions(trial: Trial, record: Record) -> Knob:
    """How many numbers beside the observation are noise."""
    made = {float(n): replace(trial, tasks=Distracted(trial.tasks, n)) for n in (4, 16, 64)}
    return Knob("noise beside the observation", _sorted(made, 0, trial), 0, _as_it_was(trial, record, 0.0), 0)


def _sizes(trial: Trial, record: Record, field: str, title: str) -> Knob:
    now = getattr(trial, field)
    sizes = sorted({max(1, round(f * now)) for f in FACTORS} - {now})
    made = {float(n): replace(trial, **{field: n}) for n in sizes}
    inner = record.get("inner", {})
    return Knob(title, _sorted(made, now, trial), now, (inner[field],) if field in inner else ())


def _sorted(made: Mapping[float, Trial], base: float, trial: Trial) -> dict[float, Trial]:
    return dict(sorted({**made, float(base): trial}.items()))


def _hidden(trial: Trial) -> tuple[int, ...]:
    """The widths of the agent's hidden layers."""
    if not (hidden := trial.network.body.hidden):
        raise UsageError(f"the agents of {trial.name} have no hidden layers whose width or number could be changed")
    return hidden


def _with_hidden(trial: Trial, hidden: tuple[int, ...]) -> Trial:
    return replace(trial, network=replace(trial.network, body=replace(trial.network.body, hidden=hidden)))


def _trained_hidden(record: Record) -> tuple[float, ...]:
    """The widths in training, as `runs.overrides.flatten` writes them: `32,32`."""
    text = str(record.get("network", {}).get("body.hidden", ""))
    return tuple(float(n) for n in text.split(",") if n.isdigit())


def _as_it_was(trial: Trial, record: Record, value: float) -> tuple[float, ...]:
    """The value at which nothing is altered, if the rule was trained on this very family."""
    return (value,) if trial.tasks.name in record.get("families", ()) else ()
