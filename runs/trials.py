"""A trial is a task with the shape of the training run that agents get on it; a suite is trials in three splits."""

from dataclasses import dataclass

from learned_rl.networks import MLP, Network
from learned_rl.types import TaskFamily


@dataclass(frozen=True)
class Trial:
    """How agents are trained on one family of tasks; the same for every rule that is compared.

    Attributes:
      tasks: what each agent draws its task from.
      network: what agents are.
      streams, steps, updates: as in `learned_rl.lifetime.Lifetime`.
      label: what it is called in a comparison; the family's name if empty.
    """

    tasks: TaskFamily
    network: Network = Network(MLP((32, 32)))
    streams: int = 16
    steps: int = 16
    updates: int = 400
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or self.tasks.name

    @property
    def env_steps(self) -> int:
        return self.streams * self.steps * self.updates


@dataclass(frozen=True)
class Suite:
    """Trials in three splits.

    Attributes:
      train: what a rule may be meta-trained on, and still be held out from `test`.
      validation: what rules and baselines are chosen and tuned on.
      test: what is reported.
      same_distribution: the question is how well a rule does on new draws of what it was trained on, as in the few-shot
        literature: all splits are the same trials, and nothing here is held out but the draws.

    Raises:
      ValueError: a split is empty, or two trials of one split have the same name.
    """

    train: tuple[Trial, ...]
    validation: tuple[Trial, ...]
    test: tuple[Trial, ...]
    same_distribution: bool = False

    def __post_init__(self):
        for split in ("train", "validation", "test"):
            names = [trial.name for trial in self.split(split)]
            if not names or len({*names}) < len(names):
                raise ValueError(f"a split has at least one trial, and each once, but {split} has {names}")

    def split(self, name: str) -> tuple[Trial, ...]:
        """`train`, `validation` or `test`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]
