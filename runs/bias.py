"""`learned-rl bias`: measures estimators against the truth, and says what to train with."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from runs import bias_table
from runs.bias_subject import Subject, subject
from runs.devices import prepare
from runs.durable import replace_file
from runs.errors import ConfigurationError, DiskError, NumericalStop
from runs.menu import ESTIMATORS, Sizes
from truncation.diagnostics import (
    Agreement,
    Answers,
    Attribution,
    Bias,
    Measured,
    Spectrum,
    Stability,
    Trial,
    agreement,
    answers,
    attribution,
    best,
    bias,
    keys_of,
    lag_spectrum,
    sampled,
    squared_norm,
    stability,
    truths,
)
from truncation.diagnostics.statistics import Samples
from truncation.problem import GradientEstimator


class Setting(NamedTuple):
    """What tells the rows of the table apart."""

    estimator: str
    window: int
    std: float | None
    lives: int

    def __str__(self) -> str:
        return " ".join([self.estimator, f"window={self.window}", *([f"std={self.std:g}"] if self.std else [])])


class Row(NamedTuple):
    """What was measured of one setting; squares are in units of ‖∇L‖².

    Attributes:
      bias: ‖E ĝ - ∇L‖².
      between: variance that lock-step adds to every estimate.
      agreement: of single estimates from `setting.lives` lives.
      dead: fraction of lives that broke down.
    """

    setting: Setting
    trial: Trial
    bias: Measured
    between: float
    agreement: Agreement
    dead: float


@dataclass(frozen=True)
class Outcome:
    """All that one run of the command found.

    Attributes:
      budget: inner steps per estimate at which settings are compared.
      square: ‖∇L‖², the unit of everything else.
      parts: of the bias and of the variance, by estimator, at the setting that is best for it.
    """

    subject: Subject
    budget: float
    square: Measured
    rows: list[Row]
    parts: dict[str, tuple[Row, Bias, Attribution | None]] = field(default_factory=dict)
    spectrum: Spectrum | None = None
    stability: Stability | None = None

    @property
    def recommended(self) -> Row:
        """The row with the least mean squared error at the budget."""
        return self.best_of(self.rows)

    def best_of(self, rows: Sequence[Row]) -> Row:
        trial = best([row.trial for row in rows], self.budget)
        return next(row for row in rows if row.trial is trial)


def measure(known: argparse.Namespace) -> dict[str, Any]:
    """Measures, prints a table, draws the plot, recommends."""
    prepare()
    asked = subject(known.problem, known.seed)
    with jax.enable_x64(asked.exact):
        asked = asked.born()
        outcome = _measured(asked, known)
        summary = bias_table.summary(outcome)
    text = bias_table.text(outcome)
    folder: Path = known.out or Path("out") / "bias" / known.problem
    from runs import bias_figure  # matplotlib takes a second to import

    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "table.md", text.encode())
        bias_figure.work_error(outcome, folder / "work-error.png")
    except OSError as error:
        raise DiskError(f"--out {folder}: {error.strerror}") from error
    print(f"{text}\n{folder / 'work-error.png'}", flush=True)
    return summary | {"plot": str(folder / "work-error.png"), "table": str(folder / "table.md")}


def _measured(asked: Subject, known: argparse.Namespace) -> Outcome:
    settings = _settings(asked, known)
    names = list(dict.fromkeys(setting.estimator for setting, _ in settings))
    say = _announcer(len(settings) + len(names) + 2, known.quiet)
    key = jax.random.key(known.seed)
    say("the truth")
    shared = _shared_truth(asked, key, known.repeats)
    rows, said = [], {}
    square = None if shared is None else _square(asked, shared)
    for setting, estimator in settings:
        say(str(setting))
        said[setting] = _answers(asked, estimator, key, known.repeats, shared)
        square = square or _square(asked, said[setting].truths)
        with np.errstate(over="ignore", invalid="ignore"):  # exploded estimates: their squares may overflow
            rows.append(_row(asked, setting, estimator, said[setting], square))
    assert square is not None  # there is at least one setting
    outcome = Outcome(asked, _budget(asked, known.lives, rows), square, rows)
    made = dict(settings)
    for name in names:
        sound = [row for row in rows if row.setting.estimator == name and np.isfinite(row.trial.error(1))]
        if not sound:
            continue
        row = outcome.best_of(sound)
        say(f"parts of {row.setting}")
        estimator = made[row.setting]
        outcome.parts[name] = (row, *_parts(asked, estimator, key, said[row.setting], square.point))
    say("lags and stability")
    return _with_dynamics(outcome, key, known)


def _settings(asked: Subject, known: argparse.Namespace) -> list[tuple[Setting, GradientEstimator]]:
    """Every estimator with every window and std that it has, in order; mistakes are reported before anything runs."""
    names = known.estimator or list(asked.usual)
    made: dict[Setting, GradientEstimator] = {}
    for name in names:
        entry = ESTIMATORS[name]
        usual = {1, asked.window} | (set() if entry.perturbs and "FullES" in names else {asked.horizon})
        windows = (known.window or sorted(usual)) if entry.windowed else [asked.horizon]
        for window in windows:
            for std in (known.std or [asked.std]) if entry.perturbs else [None]:
                setting = Setting(name, window, std, known.lives)
                try:
                    made[setting] = asked.estimator(setting.estimator, _sizes(asked, setting))
                except ValueError as mistake:
                    raise ConfigurationError(
                        f"--problem {asked.name}, {setting}, lives={known.lives}: {mistake}"
                    ) from mistake
    return list(made.items())


def _sizes(asked: Subject, setting: Setting) -> Sizes:
    size = sum(leaf.size for leaf in jax.tree.leaves(asked.theta))
    return Sizes(asked.horizon, setting.window, setting.lives, setting.std or asked.std, size, asked.microbatch)


def _shared_truth(asked: Subject, key: Any, repeats: int) -> Any:
    """Samples of the truth that serve every estimator; None where each has one of its own, on its own keys."""
    if asked.truth is None:
        return None
    return truths(asked.truth, asked.problem, asked.theta, keys_of(key, repeats), asked.batch)


def _answers(asked: Subject, estimator: GradientEstimator, key: Any, repeats: int, shared: Any) -> Answers:
    case = asked.case(estimator)
    if shared is None:
        return answers(estimator, case, key, repeats, asked.batch)
    return Answers(sampled(estimator, case.problem, case.theta, keys_of(key, repeats), asked.batch), shared)


def _square(asked: Subject, known: Samples) -> Measured:
    square = squared_norm(known)
    if not np.isfinite(square.point):
        raise NumericalStop(f"{asked.name}: the gradient is not finite: whole lifetimes break down at this theta")
    if square.point > 0:
        return square
    # Noise hides it. The plug-in is too long, but a unit.
    return square._replace(point=float(np.sum(known.mean(axis=0) ** 2)) or 1.0)


def _row(asked: Subject, setting: Setting, estimator: GradientEstimator, said: Answers, square: Measured) -> Row:
    entry = ESTIMATORS[setting.estimator]
    cost = setting.window * asked.steps * entry.price(_sizes(asked, setting))
    total = squared_norm(said.estimates.means - said.truths).over(square.point)
    variance = float(said.estimates.variance) / square.point
    dead = float(said.estimates.dead.mean())
    # A bias counts where it can be told from nought, and from rounding: else noise would be taken for it.
    resolved = total.point if total.low > (1e-20 if asked.exact else 1e-10) else 0.0
    if not np.isfinite(total.point) or dead == 1:
        resolved = float("inf")  # nobody lived to say anything
    trial = Trial(setting, resolved, variance, cost, 2 if entry.perturbs else 1)
    between = float(said.estimates.between) / square.point
    compared = agreement(said.estimates.gradients, said.truths)
    return Row(setting, trial, total, between, compared, dead)


def _parts(
    asked: Subject, estimator: GradientEstimator, key: Any, said: Answers, square: float
) -> tuple[Bias, Attribution | None]:
    flat, unravel = ravel_pytree(asked.theta)
    velocity = unravel(jnp.asarray(asked.velocity(said.truths.mean(axis=0)), flat.dtype))
    repeats = len(said.truths)
    parts = bias(estimator, asked.case(estimator), key, said, velocity, asked.batch)
    again = jax.random.fold_in(key, repeats)
    split = attribution(estimator, asked.problem, asked.theta, again, repeats, 2, 4, asked.batch)
    in_units = [part and part.over(square) for part in parts[1:]]
    return (
        Bias(parts.total.over(square), *in_units),
        split and Attribution(*(part.over(square) for part in split)),
    )


def _with_dynamics(outcome: Outcome, key: Any, known: argparse.Namespace) -> Outcome:
    asked = outcome.subject
    if not asked.differentiable or not (asked.exact or known.lags):
        return outcome
    lives = 256 if asked.exact else 4
    microbatch = 0 if asked.exact else 1
    spectrum = lag_spectrum(asked.problem, asked.theta, asked.horizon, lives, key, microbatch)
    grown = stability(asked.problem, asked.theta, asked.horizon, lives, key, 4)
    return replace(outcome, spectrum=spectrum, stability=grown)


def _budget(asked: Subject, lives: int, rows: Sequence[Row]) -> float:
    """Inner steps per estimate: what so many lives of one horizon cost, but enough for the least of every setting.

    Raises:
      NumericalStop: no setting has a finite estimate.
    """
    if not any(np.isfinite(row.trial.error(1)) for row in rows):
        raise NumericalStop(f"{asked.name}: no estimator has a finite estimate: every life breaks down")
    return max(float(lives * asked.horizon * asked.steps), *(row.trial.cost * row.trial.unit for row in rows))


def _announcer(total: int, quiet: bool) -> Callable[[str], None]:
    """Says what is being measured, on standard error."""
    done = 0

    def say(text: str) -> None:
        nonlocal done
        done += 1
        if not quiet:
            with contextlib.suppress(OSError, ValueError):  # the reader has gone
                print(f"bias {done}/{total}  {text}", file=sys.stderr, flush=True)

    return say
