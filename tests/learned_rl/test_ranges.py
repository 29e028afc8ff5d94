"""What families say that they draw from, and whether two of them can draw the same task."""

import inspect
import json
from dataclasses import dataclass

import pytest

from learned_rl import families
from learned_rl.few_shot_tasks import Bandit
from learned_rl.gymnax_tasks import GymnaxFamily
from learned_rl.ranges import describe, overlap, shared, text
from learned_rl.samplers import Constant, IntegersIn, LogUniform, SpikeAt, Uniform
from learned_rl.trials import Trials
from learned_rl.types import TaskFamily

SHARED = [
    (Uniform(0, 2), Uniform(1, 3), "[1, 2)"),
    (Uniform(0, 3), LogUniform(1, 2), "[1, 2)"),  # nested
    (Uniform(1, 2), Uniform(1, 2), "[1, 2)"),
    (Uniform(0, 1), Uniform(2, 3), None),
    (Uniform(0, 1), Uniform(1, 2), None),  # they touch: 1 is in the second one only
    (IntegersIn(5, 20), IntegersIn(20, 30), "20"),  # they touch, and both have 20
    (IntegersIn(5, 20), IntegersIn(21, 30), None),
    (IntegersIn(1, 4), Uniform(2, 4), "[2, 4)"),
    (IntegersIn(1, 4), Uniform(0, 5), "[1, 4]"),
    (Constant(1.0), Uniform(1, 2), "1.0"),
    (Constant(2.0), Uniform(1, 2), None),
    (Constant(2), IntegersIn(1, 2), "2"),
    (Constant(1.0), Constant(1), "1.0"),
    (Constant(1.0), Constant(2.0), None),
    (Constant(True), Constant(False), None),
    (SpikeAt(5, 1.1), SpikeAt(5, 1.1), "1.1 at one of 5 places, 1 at the others"),
    (SpikeAt(5, 1.1), SpikeAt(5, 1.2), None),
    (SpikeAt(5, 1.1), Uniform(0, 9), None),
]


@pytest.mark.parametrize(("one", "other", "both"), SHARED)
def test_what_two_ranges_share_does_not_depend_on_the_order(one, other, both):
    for a, b in ((one, other), (other, one)):
        found = shared(a.range, b.range)
        assert (found if found is None else text(found)) in (both, both and both.removesuffix(".0"))


FAMILIES = [
    make()
    for make in vars(families).values()
    if inspect.isfunction(make)
    and make.__module__ == families.__name__
    and not make.__name__.startswith("_")
    and all(p.default is not p.empty or p.kind is p.VAR_POSITIONAL for p in inspect.signature(make).parameters.values())
]


@pytest.mark.parametrize("tasks", FAMILIES, ids=lambda tasks: tasks.name)
def test_a_description_is_json_and_every_family_overlaps_with_itself(tasks):
    said = describe(tasks)
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert said["name"] == tasks.name
    assert overlap(said, said) is not None


def common(one, other):
    """What the families share, after one description was a file; the same in both orders."""
    said = json.loads(json.dumps(describe(one))), describe(other)
    found = overlap(*said)
    back = overlap(said[1], said[0])
    assert (found is None) == (back is None)
    assert found is None or found.keys() == back.keys()
    return found


def test_physics_are_compared_with_what_gymnax_has_where_nothing_is_said():
    varied, published = families.cartpole(), families.fixed("CartPole-v1")
    assert common(varied, families.cartpole_shifted()) is None
    assert common(varied, published)["masscart"] == {"is": 1.0}
    assert common(families.cartpole(1.1, 2.0), published) is None
    assert common(families.cartpole(1.5, 3.0), varied)["force_mag"] == {"from": 15.0, "below": 20.0}
    # One parameter that is apart is enough.
    light = GymnaxFamily("CartPole-v1", vary=(("gravity", Uniform(1.0, 2.0)),))
    assert common(light, published) is None
    assert common(varied, families.fixed("Acrobot-v1")) is None


def test_options_are_compared_with_the_constructors_defaults():
    assert common(families.catch(10, 5), families.fixed("Catch-bsuite"))["rows"] == {"is": 10}
    assert common(families.catch(5, 5), families.fixed("Catch-bsuite")) is None
    assert common(families.simple_bandit(), families.fixed("SimpleBandit-bsuite")) is not None
    assert common(families.deep_sea(8), families.deep_sea(10)) is None


def test_hidden_variables_that_a_reset_draws_do_not_tell_families_apart():
    hidden = families.meta_maze()
    assert common(hidden, families.fixed("MetaMaze-misc", maze_size=7)) is not None
    spike = families.discounting_chain()
    other = GymnaxFamily("DiscountingChain-bsuite", hidden=(("rewards", SpikeAt(5, 2.0)),))
    assert common(spike, other) is None
    assert common(spike, families.fixed("DiscountingChain-bsuite")) is not None


def test_families_of_ours_are_compared_by_their_fields():
    assert common(families.random_abc(5), families.random_abc(7)) is None
    assert common(families.random_abc(), families.key_box()) is None
    assert common(families.bandit(5), families.bandit(5)) == {"arms": {"is": 5}}
    trials = families.bandit_trials(5, 10)
    assert describe(trials)["environment"] == "Trials(Bandit)"
    assert describe(trials)["ranges"] == {"tasks.arms": {"is": 5}, "episodes": {"is": 10}}
    assert common(trials, families.bandit_trials(4, 10)) is None
    assert common(trials, families.bandit_trials(5, 20)) is None
    assert common(trials, families.bandit(5)) is None
    assert common(trials, families.bandit_trials(credited=True)) == describe(trials)["ranges"]  # the same arms
    inside = Trials(families.cartpole(), 2)
    assert describe(inside)["environment"] == "Trials(CartPole-v1)"
    assert common(inside, Trials(families.cartpole_shifted(), 2)) is None
    assert common(inside, Trials(families.fixed("CartPole-v1"), 2))["tasks.length"] == {"is": 0.5}


@dataclass(frozen=True)
class Part:
    size: int


@dataclass(frozen=True)
class Nested(Bandit):
    """A family with parts, a function and a label."""

    parts: tuple[Part, ...] = (Part(1), Part(2))
    how: object = len
    label: str = "one"


def test_parts_functions_and_labels():
    assert isinstance(Nested(), TaskFamily)
    assert describe(Nested())["ranges"] == {
        "arms": {"is": 5},
        "parts": {"is": 2},
        "parts.0.size": {"is": 1},
        "parts.1.size": {"is": 2},
        "how": {"is": "len"},
    }
    assert common(Nested(label="one"), Nested(label="two")) is not None
    assert common(Nested(how=max), Nested(how=len)) is None
    assert common(Nested(parts=(Part(1),)), Nested()) is None
