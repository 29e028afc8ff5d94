"""Whether what a rule is tested on is held out of what it was trained on, by environment and ranges of parameters.

The record of a rule file says what each family of its training drew from (`learned_rl.ranges`): claims of its maker,
that are believed here. What nobody recorded cannot be compared, and is said.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from learned_rl.ranges import Description, Range, describe, overlap, text
from learned_rl.types import TaskFamily, Theta
from runs.errors import UsageError
from runs.trials import Trial

RECORDED = "ranges"  # the key in a record


class Leak(NamedTuple):
    """A test task from inside the training distribution.

    Attributes:
      suite, task: what is tested.
      rule, family: which rule was trained on which family.
      common: parameter -> (range tested, range trained on).
    """

    suite: str
    task: str
    rule: str
    family: str
    common: Mapping[str, tuple[Range, Range]]

    def __str__(self) -> str:
        varied = {name: both for name, both in self.common.items() if not all("is" in values for values in both)}
        lines = [f"  {name}: tested {text(here)}, trained on {text(there)}" for name, (here, there) in varied.items()]
        where = "in these ranges:" if lines else "with the same parameters"
        head = f"suite {self.suite}: {self.task} is inside {self.family}, which {self.rule} was trained on, {where}"
        return "\n".join([head, *lines])


def describe_all(families: Sequence[TaskFamily]) -> list[dict[str, Any]]:
    """What a record keeps under `RECORDED`."""
    return [describe(tasks) for tasks in families]


def leaks(suites: Mapping[str, Sequence[Trial]], rule: str, seen: Sequence[Description]) -> list[Leak]:
    """Every test task that overlaps with a family of `seen`.

    Args:
      suites: name -> the trials that are asked for.
      rule: what learned on `seen`, for the message.
    """
    found = []
    for suite, trials in suites.items():
        for trial in trials:
            tested = describe(trial.tasks)
            for trained in seen:
                if (names := overlap(tested, trained)) is not None:
                    common = {name: (tested["ranges"][name], trained["ranges"][name]) for name in names}
                    found.append(Leak(suite, trial.name, rule, str(trained["name"]), common))
    return found


def refuse(found: Sequence[Leak], how: str) -> None:
    """Raises a UsageError that names them, unless there are none. `how` says what allows them."""
    if found:
        advice = (
            f"These tasks are not held out. Choose another suite or split; or allow them with {how}: the table says so"
        )
        raise UsageError("\n".join([*dict.fromkeys(map(str, found)), advice]))


def notes(found: Sequence[Leak]) -> dict[str, str]:
    """What a table says beside the name of a task that is not held out."""
    rules = {leak.task: dict.fromkeys(other.rule for other in found if other.task == leak.task) for leak in found}
    return {task: f"inside the training distribution of {', '.join(names)}" for task, names in rules.items()}


def recorded(record: Mapping[str, Any]) -> list[Description] | None:
    """What a rule was trained on, as its record says; None where it does not, or not in a form that can be read."""
    kept = record.get(RECORDED)
    return kept if isinstance(kept, list) and kept and all(map(_readable, kept)) else None


def unknown(name: str, theta: Theta, record: Mapping[str, Any]) -> str:
    """A sentence on what cannot be compared of a rule; "" if everything can, or if it has learned nothing."""
    if theta == ():
        return ""
    if recorded(record) is None:
        return f"{name}: its record does not say what it was trained on; whether these tasks are held out is not known"
    if record.get("loaded"):
        return f"{name}: parts were learned before ({', '.join(record['loaded'])}); what those saw is not compared"
    return ""


def _readable(kept: Any) -> bool:
    """Whether it has the form of a description: files are claims."""
    if not isinstance(kept, dict) or not {"name", "environment", "ranges"} <= kept.keys():
        return False
    return isinstance(kept["ranges"], dict) and all(map(_range, kept["ranges"].values()))


def _range(values: Any) -> bool:
    if not isinstance(values, dict):
        return False
    ends = [values.get(name) for name in values]
    numbers = all(isinstance(end, int | float) for end in ends)
    return values.keys() == {"is"} or (numbers and values.keys() in ({"from", "to"}, {"from", "below"}))
