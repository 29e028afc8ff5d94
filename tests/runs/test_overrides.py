import dataclasses
import math
import random
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import pytest

from runs.errors import ConfigurationError
from runs.overrides import apply_overrides, flatten


class Estimator(Protocol):
    def estimate(self) -> float: ...


@dataclasses.dataclass(frozen=True)
class Persistent:
    horizon: int = 100
    window: int = 10
    std: float = 0.01
    stagger: bool = True

    def __post_init__(self):
        if self.window > self.horizon:
            raise ValueError(f"window must be at most horizon, got {self.window} > {self.horizon}")

    def estimate(self) -> float:
        return self.std


@dataclasses.dataclass(frozen=True)
class Outer:
    estimator: Estimator = dataclasses.field(default_factory=Persistent)
    clip: float | None = 1.0
    mode: Literal["mean", "sum"] = "mean"
    activation: Callable[[float], float] = math.tanh
    note: str | int | None = None


@dataclasses.dataclass(frozen=True)
class Grid:
    size: int = 5


class Pair(NamedTuple):
    low: float = 0.0
    high: float = 1.0


@dataclasses.dataclass(frozen=True)
class Experiment:
    outer: Outer = dataclasses.field(default_factory=Outer)
    tasks: tuple[Grid, ...] = (Grid(), Grid(7))
    widths: tuple[int, ...] = (64, 64)
    range: Pair = dataclasses.field(default_factory=Pair)
    name: str = "toy"


def test_overrides_follow_the_instance_not_the_declared_protocol():
    changed = apply_overrides(
        Experiment(),
        {"outer.estimator.std": "3", "outer.clip": "none", "tasks.1.size": "9", "widths": "32,16,8", "name": "5"}
        | {"outer.mode": "sum", "outer.estimator.stagger": "off", "range.high": "2.5"},
    )
    estimator = Persistent(std=3.0, stagger=False)
    assert changed == Experiment(
        Outer(estimator, clip=None, mode="sum"), (Grid(), Grid(9)), (32, 16, 8), Pair(high=2.5), "5"
    )
    assert isinstance(changed.outer.estimator, Persistent)
    assert type(changed.outer.estimator.std) is float


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("none", None), ("three", "three")])
def test_text_is_the_last_reading_of_a_union(text, value):
    assert apply_overrides(Outer(), {"note": text}).note == value


def test_no_overrides_change_nothing():
    experiment = Experiment()
    assert apply_overrides(experiment, {}) is experiment


def test_fields_checked_together_change_together():
    changed = apply_overrides(Experiment(), {"outer.estimator.window": "200", "outer.estimator.horizon": "300"})
    assert changed.outer.estimator == Persistent(horizon=300, window=200)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("outer.estimator.window", "3.5", "expected a whole number"),
        ("outer.estimator.std", "nan", "expected a number"),
        ("outer.estimator.stagger", "maybe", "expected true or false"),
        ("outer.clip", "big", "expected a number or none"),
        ("outer.mode", "summ", "expected one of mean, sum; perhaps you meant sum"),
        (
            "outer.estimator.stdd",
            "1",
            "no such setting; perhaps you meant outer.estimator.std; allowed: horizon, window",
        ),
        ("outer.estimator", "PES", "Persistent is chosen by the recipe; settings inside it: horizon"),
        ("outer.activation", "relu", "tanh is chosen by the recipe"),
        ("tasks.2.size", "1", "no such setting; allowed: 0, 1"),
        ("widths", "64,x", "expected any number of values between commas, each a whole number"),
        ("name.first", "x", "str has no settings inside"),
        ("range", "1,2", "Pair is chosen by the recipe; settings inside it: low, high"),
        (
            "outer.estimator.window",
            "101",
            "outer.estimator: window must be at most horizon, got 101 > 100 (given window",
        ),
    ],
)
def test_every_mistake_says_where_what_and_what_is_allowed(path, text, message):
    with pytest.raises(ConfigurationError) as caught:
        apply_overrides(Experiment(), {path: text})
    assert message in str(caught.value)
    assert path.rsplit(".", 1)[0] in str(caught.value)


def test_all_mistakes_are_reported_together():
    wrong = {"outer.estimator.stdd": "1", "widths": "a", "nme": "x", "tasks.0.size": "1.5", "outer.clip": "?"}
    with pytest.raises(ConfigurationError) as caught:
        apply_overrides(Experiment(), wrong)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(wrong)
    assert all(any(line.startswith(f"{path} = {text}:") for line in lines) for path, text in wrong.items())


def test_a_whole_and_its_part_contradict_each_other():
    for paths in [("widths", "widths.0"), ("widths.0", "widths")]:
        with pytest.raises(ConfigurationError, match="both as a whole and in part"):
            apply_overrides(Experiment(), dict.fromkeys(paths, "1"))


def test_random_mutations_are_applied_or_refused_but_never_crash():
    draw = random.Random(0)  # noqa: S311
    paths = [*flatten(Experiment()), "outer.", ".", "tasks.-1.size", "outer..std", "range.2", "widths.0.1"]
    refused = 0
    for _ in range(1000):
        path, text = (
            draw.choice(paths),
            draw.choice(["", "1", "-3", "1e400", "()", "none", "\x00", "x" * 50, "1,2", "true"]),
        )
        if draw.random() < 0.5:
            cut = draw.randrange(len(path) + 1)
            path = path[:cut] + draw.choice("abz.0_") + path[cut:]
        try:
            changed = apply_overrides(Experiment(), {path: text})
        except ConfigurationError:
            refused += 1
        else:
            assert flatten(changed).keys() >= {"outer.estimator.std"}
    assert 500 < refused < 1000


def test_flatten_names_types_functions_and_scalars():
    flat = flatten(Experiment())
    assert flat["outer.estimator"] == "Persistent"
    assert flat["outer.estimator.std"] == 0.01
    assert flat["outer.activation"] == "tanh"
    assert flat["tasks.1.size"] == 7
    assert flat["widths"] == "64,64"
    assert flat["range.high"] == 1.0
    assert flatten(Outer(clip=None))["clip"] == "none"
    assert flatten(Outer(clip=math.inf))["clip"] == "inf"
    assert "" not in flat


def test_what_flatten_writes_apply_overrides_reads():
    experiment = Experiment(Outer(Persistent(std=0.3), clip=None), (Grid(3),), (), Pair(2.0, 3.0), "x y")
    chosen_by_the_recipe = {"outer", "outer.estimator", "outer.activation", "tasks.0", "range"}
    texts = {path: str(value) for path, value in flatten(experiment).items() if path not in chosen_by_the_recipe}
    assert apply_overrides(experiment, texts) == experiment
