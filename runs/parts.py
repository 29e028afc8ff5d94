"""Parts of theta: kept as they are while the rest is learned, or taken from rules that were learned before.

A combinator's theta is a dictionary of parts, so a part has a dotted path: `optimizer`, `base.schedule`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jaxtyping import PRNGKeyArray

from learned_rl.types import Theta
from runs.errors import ConfigurationError, nearest
from runs.learners import OuterLearner, Problems
from truncation.problem import InnerProblem, Life, Metrics, Segment

Parts = Mapping[str, Theta]  # by dotted path


def part(theta: Theta, path: str, where: str = "theta") -> Theta:
    """The part of `theta` at a dotted path; the empty path is all of it.

    Raises:
      ConfigurationError: there is none; the message has the nearest names.
    """
    for name in path.split(".") if path else ():
        if not isinstance(theta, Mapping) or name not in theta:
            known = list(theta) if isinstance(theta, Mapping) else []
            hint = nearest(name, known)
            there = f"{hint + '; ' if hint else ''}there are: {', '.join(known) or 'no parts with names'}"
            raise ConfigurationError(f"{where}: {path!r}: there is no part {name!r}; {there}")
        theta = theta[name]
    return theta


def with_parts(theta: Theta, parts: Parts) -> Theta:
    """`theta` with other values in the places of `parts`."""
    for path, value in parts.items():
        theta = _put(theta, path.split(".") if path else [], value)
    return theta


def _put(theta: Theta, names: list[str], value: Theta) -> Theta:
    return {**theta, names[0]: _put(theta[names[0]], names[1:], value)} if names else value


@dataclass(frozen=True)
class WithFixed:
    """An `InnerProblem` of the parts that are learned; the others are given."""

    problem: InnerProblem
    fixed: Parts

    def start(self, theta: Theta, key: PRNGKeyArray) -> Life:
        return self.problem.start(with_parts(theta, self.fixed), key)

    def advance(self, theta: Theta, life: Life, key: PRNGKeyArray) -> tuple[Life, Segment]:
        return self.problem.advance(with_parts(theta, self.fixed), life, key)


class PartlyState(NamedTuple):
    learner: Any
    fixed: dict[str, Theta]


@dataclass(frozen=True)
class Partly:
    """An `OuterLearner` that keeps some parts of theta as they start, and has another one improve the rest.

    What is frozen is no part of any gradient, population or moment: its place in the tree is empty.

    Attributes:
      outer: improves the rest.
      frozen: dotted paths of what stays.

    Raises:
      ConfigurationError: from `init`, if a path leads nowhere, or nothing is left to learn.
    """

    outer: OuterLearner
    frozen: tuple[str, ...]

    @property
    def horizon(self) -> int:
        return self.outer.horizon

    @property
    def segments_per_step(self) -> int:
        return self.outer.segments_per_step

    @property
    def batches(self) -> int:
        return self.outer.batches

    def init(self, problems: Problems, theta: Theta, key: PRNGKeyArray) -> PartlyState:
        fixed = {path: part(theta, path, "frozen") for path in self.frozen}
        learned = with_parts(theta, dict.fromkeys(self.frozen))
        if not jax.tree.leaves(learned):
            raise ConfigurationError(f"frozen: with {', '.join(self.frozen)} frozen nothing is left to learn")
        return PartlyState(self.outer.init(_with(fixed, problems), learned, key), fixed)

    def step(self, problems: Problems, state: PartlyState, key: PRNGKeyArray) -> tuple[PartlyState, Metrics]:
        learner, metrics = self.outer.step(_with(state.fixed, problems), state.learner, key)
        return PartlyState(learner, state.fixed), metrics

    def theta(self, state: PartlyState) -> Theta:
        return with_parts(self.outer.theta(state.learner), state.fixed)


def _with(fixed: Parts, problems: Problems) -> Problems:
    return [(name, WithFixed(problem, fixed)) for name, problem in problems]


class Source(NamedTuple):
    """Where a part comes from: `PART=RULE`, or `PART=RULE#PART_THERE`; an empty PART is all of theta."""

    path: str
    rule: str
    there: str


def source(text: str) -> Source:
    """Reads `PART=RULE` or `PART=RULE#PART_THERE`.

    Raises:
      ValueError: it is neither.
    """
    path, equals, address = text.partition("=")
    rule, _, there = address.partition("#")
    if not equals or not rule:
        raise ValueError(f"loaded: {text!r} is not of the form PART=RULE or PART=RULE#PART_THERE")
    return Source(path, rule, there)


def loaded(sources: Iterable[Source], like: Theta, tracking_uri: str | None) -> dict[str, Theta]:
    """The parts of rules that `sources` name, as they will stand in a theta of the shapes `like`.

    Raises:
      UsageError: there is no such rule.
      ArtifactRefused: there is a rule file that must not be loaded.
      ConfigurationError: a part is missing, or of other shapes than the one in whose place it is put.
    """
    from runs import catalogue

    found = {}
    for path, address, there in sources:
        where = f"loaded: {address}"
        value = part(catalogue.rule(address, tracking_uri)[2], there, where)
        _same_shapes(value, part(like, path, "loaded"), f"{where}{'#' + there if there else ''} as {path or 'theta'!r}")
        found[path] = value
    return found


def _same_shapes(found: Theta, expected: Theta, where: str) -> None:
    ours, theirs = (dict(_shapes(tree)) for tree in (expected, found))
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            raise ConfigurationError(
                f"{where}: {name or 'it'} is {theirs.get(name, 'missing')} there, and {ours.get(name, 'unknown')} here"
            )


def _shapes(tree: Theta) -> Iterable[tuple[str, str]]:
    for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield jax.tree_util.keystr(path, simple=True, separator="."), f"{x.dtype}{list(x.shape)}"
