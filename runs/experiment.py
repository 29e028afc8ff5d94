"""An experiment is one value: tasks x rule x meta-objective x outer learner, and how long."""

from dataclasses import dataclass
from functools import cached_property

from learned_rl.lifetime import Lifetime
from learned_rl.networks import Network
from learned_rl.types import Rule, TaskFamily
from meta_objectives.problem import MetaObjective, MetaProblem
from runs.learners import OuterLearner
from runs.parts import Partly, Source, source


@dataclass(frozen=True)
class Inner:
    """The shape of inner training runs.

    Attributes:
      streams: environments an agent acts in side by side.
      steps: environment steps per stream between two updates.
      updates: updates in a lifetime.
      segment: K, updates between two judgements; divides `updates`.
    """

    streams: int = 16
    steps: int = 16
    updates: int = 100
    segment: int = 5


@dataclass(frozen=True)
class Transfer:
    """What happens to the rule when it is learned.

    Attributes:
      suite: held-out suite (`learned-rl list suites`); empty for none.
      against: built-in rules that are trained on the same tasks with the same environment steps.
      seeds: agents per rule and task.
      allow_overlap: evaluate on tasks from inside the training distribution too: new draws are the question. Otherwise
        they are refused, before anything is trained.
    """

    suite: str = "small"
    against: tuple[str, ...] = ("a2c", "ppo")
    seeds: int = 10
    allow_overlap: bool = False

    def __post_init__(self):
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, not {self.seeds}")


@dataclass(frozen=True)
class Experiment:
    """Everything a meta-training run is. The object is the configuration: what is logged is its flattened fields.

    Attributes:
      name: the question; the MLflow experiment and the registered rule are called so.
      rule: what is learned.
      families: what lives are drawn from, one entry per shape; compiled side by side in the same step.
      outer: how theta is improved.
      objective: which number is lowered.
      network: what inner agents are.
      inner: how long and how wide they train.
      steps: outer steps.
      report_every: outer steps per dispatch, and between two reports.
      checkpoint_every: outer steps between two checkpoints; a multiple of `report_every`.
      transfer: what to do with the rule at the end.
      frozen: dotted paths of parts of theta that stay as they start, e.g. `optimizer` or `base.schedule`.
      loaded: parts of theta that start as in rules learned before: `PART=RULE` or `PART=RULE#PART_THERE`, RULE being
        whatever `learned-rl transfer` takes, e.g. `optimizer=out/rules/open#optimizer`.
      patience: reports in a row with more than a quarter of the lives dead before the run stops itself (exit 76).
      seed: root of every random number.

    Raises:
      ValueError: sizes that contradict each other, said with both of them.
    """

    name: str
    rule: Rule
    families: tuple[TaskFamily, ...]
    outer: OuterLearner
    objective: MetaObjective
    network: Network = Network()
    inner: Inner = Inner()
    steps: int = 200
    report_every: int = 10
    checkpoint_every: int = 50
    transfer: Transfer = Transfer()
    frozen: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    patience: int = 10
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "report_every", "checkpoint_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        _ = self.sources
        names = [tasks.name for tasks in self.families]
        if not names or len({*names}) < len(names):
            raise ValueError(f"there must be at least one task family, and each once, but there are {names}")
        if self.inner.segment < 1 or self.inner.updates % self.inner.segment:
            raise ValueError(
                f"inner.segment={self.inner.segment} does not divide inner.updates={self.inner.updates}: "
                "a lifetime is a whole number of segments"
            )
        segments = self.inner.updates // self.inner.segment
        if self.outer.horizon != segments:
            raise ValueError(
                f"the outer learner's horizon is {self.outer.horizon} segments, but a lifetime has {segments} "
                f"(inner.updates / inner.segment = {self.inner.updates} / {self.inner.segment})"
            )
        if self.checkpoint_every % self.report_every:
            raise ValueError(
                f"checkpoint_every={self.checkpoint_every} is no multiple of report_every={self.report_every}"
            )
        if self.steps % self.report_every:
            raise ValueError(f"steps={self.steps} is no multiple of report_every={self.report_every}")

    @cached_property
    def problems(self) -> tuple[tuple[str, MetaProblem], ...]:
        """One inner problem per task family."""
        i = self.inner
        return tuple(
            (tasks.name, MetaProblem(self.lifetime(tasks), self.objective, i.segment)) for tasks in self.families
        )

    @property
    def learner(self) -> OuterLearner:
        """What improves theta: `outer`, on all that is not frozen."""
        return Partly(self.outer, self.frozen) if self.frozen else self.outer

    @property
    def sources(self) -> tuple[Source, ...]:
        """`loaded`, read."""
        return tuple(map(source, self.loaded))

    def lifetime(self, tasks: TaskFamily) -> Lifetime:
        """An inner training run on `tasks`."""
        i = self.inner
        return Lifetime(tasks, self.rule, self.network, i.streams, i.steps, i.updates)

    @property
    def env_steps_per_step(self) -> int:
        """Environment steps of one outer step, without the fresh ones that an objective may take to judge."""
        i = self.inner
        return len(self.families) * self.outer.segments_per_step * i.segment * i.streams * i.steps
