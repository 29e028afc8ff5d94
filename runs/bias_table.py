"""What `learned-rl bias` found, as people read it and as programs do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from truncation.diagnostics import Measured

if TYPE_CHECKING:
    from runs.bias import Outcome, Row

NOT = "—"  # does not apply


def text(outcome: Outcome) -> str:
    """Tables, what the dynamics allow, and the recommendation."""
    asked = outcome.subject
    head = (
        f"{asked.name}: a lifetime of {asked.horizon} segments of {asked.steps} inner steps; all squares in units of "
        f"‖∇L‖² = {outcome.square.point:.4g}; 95 % intervals.\n"
    )
    if outcome.square.low <= 0:
        head += (
            "The gradient itself cannot be told from noise: the units are too large, and nothing below is certain. "
            "More --repeats or --lives help.\n"
        )
    parts = [head, _settings(outcome), _parts(outcome)]
    return "\n".join([*parts, *(f"- {line}" for line in (*_dynamics(outcome), *_advice(outcome)))]) + "\n"


def _settings(outcome: Outcome) -> str:
    rows = [["estimator", "window", "std", "bias²", "variance", "cosine", "signs", "efficiency", "lives", "RMS error"]]
    for row in outcome.rows:
        setting, trial = row.setting, row.trial
        lives = trial.lives(outcome.budget)
        rows.append(
            [
                setting.estimator,
                str(setting.window),
                NOT if setting.std is None else f"{setting.std:g}",
                _measured(row.bias),
                _short(trial.variance),
                f"{row.agreement.cosine.point:.2f}",
                f"{row.agreement.signs.point:.0%}",
                NOT if math.isnan(row.agreement.efficiency) else f"{row.agreement.efficiency:.2g}",
                str(lives),
                f"{float(trial.error(lives)) ** 0.5:.3g}",
            ]
        )
    most = outcome.rows[0].setting.lives
    note = (
        f"\nVariance: of one life, ages spread evenly. Cosine, signs and efficiency (progress of a step relative to "
        f"the exact gradient's): of one estimate from {most} lives. Lives and RMS error: at equal cost, "
        f"{outcome.budget:,.0f} inner steps per estimate (a derivative counts as two more).\n"
    )
    return _aligned(rows) + note


def _parts(outcome: Outcome) -> str:
    names = ("smoothing", "truncation", "sampling", "bootstrap", "hysteresis")
    sources = ("perturbation", "inner", "task")
    rows = [["best of each", *names, *(f"var: {name}" for name in sources)]]
    for row, bias, split in outcome.parts.values():
        biases = [_measured(getattr(bias, name)) for name in names]
        variances = [_with_error(getattr(split, name)) if split else NOT for name in sources]
        rows.append([str(row.setting), *biases, *variances])
    note = (
        "\nBias² by cause (differences of neighbours in a chain; the vectors add up, the squares need not) and "
        f"variance of one lifetime of one life or pair by source. {NOT}: does not apply.\n"
    )
    if not (outcome.subject.exact or outcome.subject.smoothed):
        note += (
            "The truth is the derivative of the recipe's own objective: where that is a surrogate, what is wrong with "
            "it (sampling that depends on theta, a critic's bootstrap) is in the truth, and not among these parts.\n"
        )
    return _aligned(rows) + note


def _dynamics(outcome: Outcome) -> list[str]:
    lines = []
    if outcome.spectrum is not None:
        shares = zip(outcome.spectrum.lags, outcome.spectrum.contribution, strict=True)
        told = ", ".join(f"{lag}: {share:+.0%}" for lag, share in shares)
        lines.append(
            f"share of the gradient by lag, from lag on: {told}; a window of {outcome.spectrum.reach()} lags has all "
            "of it to 10 %"
        )
    if outcome.stability is not None:
        exponent, square = outcome.stability.lyapunov, outcome.stability.second_moment
        verdict = "whether the variance of unrolled gradients explodes cannot be told"
        if square.low > 1:
            verdict = "the variance of unrolled gradients explodes"
        elif square.high < 1:
            verdict = "unrolled gradients stay tame"
        lines.append(
            f"per segment, differences between lives grow by e^{exponent.point:.3g} typically (Lyapunov exponent), "
            f"their squares by {square.point:.4g} [{square.low:.4g}, {square.high:.4g}] on average: {verdict}"
        )
    return lines


def _advice(outcome: Outcome) -> list[str]:
    row = outcome.recommended
    lives = row.trial.lives(outcome.budget)
    error = float(row.trial.error(lives)) ** 0.5
    std = "" if row.setting.std is None else f", std {row.setting.std:g}"
    lines = [
        f"recommended at this cost: **{row.setting.estimator}, window {row.setting.window}{std}, lives {lives}**: "
        f"RMS error {error:.3g} of ‖∇L‖"
    ]
    if row.trial.bias > 0 and row.trial.enough < 1:
        lines.append("its error is all bias: more lives buy nothing")
    elif row.trial.bias > 0:
        lines.append(f"from {row.trial.enough:.3g} lives on its bias is larger than its noise: more lives buy little")
    elif row.bias.high < 1e-12:
        lines.append("it has no bias")
    else:
        lines.append(f"no bias was found in it: bias² is below {_short(row.bias.high)}")
    broken = [f"{row.setting} ({row.dead:.0%})" for row in outcome.rows if row.dead > 0]
    if broken:
        lines.append(f"lives broke down under {', '.join(broken)}")
    return lines


def summary(outcome: Outcome) -> dict[str, Any]:
    """Everything, for programs. Numbers that are not finite become null."""
    best = outcome.recommended
    found: dict[str, Any] = {
        "problem": outcome.subject.name,
        "horizon": outcome.subject.horizon,
        "inner_steps_per_segment": outcome.subject.steps,
        "budget": outcome.budget,
        "gradient_square": outcome.square._asdict(),
        "settings": [_row(row, outcome.budget) for row in outcome.rows],
        "parts": {
            name: {
                "setting": row.setting._asdict(),
                "bias": {key: part and part._asdict() for key, part in bias._asdict().items()},
                "variance": split and {key: part._asdict() for key, part in split._asdict().items()},
            }
            for name, (row, bias, split) in outcome.parts.items()
        },
        "recommended": {
            "estimator": best.setting.estimator,
            "window": best.setting.window,
            "std": best.setting.std,
            "lives": best.trial.lives(outcome.budget),
            "rms_error": float(best.trial.error(best.trial.lives(outcome.budget))) ** 0.5,
        },
    }
    if outcome.spectrum is not None:
        spectrum = outcome.spectrum
        found["lags"] = {
            "first": list(spectrum.lags),
            "contribution": spectrum.contribution.tolist(),
            "variance": spectrum.noise.diagonal().tolist(),
            "reach": spectrum.reach(),
        }
    if outcome.stability is not None:
        found["stability"] = {
            "lyapunov": outcome.stability.lyapunov._asdict(),
            "second_moment": outcome.stability.second_moment._asdict(),
        }
    return _finite(found)


def _row(row: Row, budget: float) -> dict[str, Any]:
    lives = row.trial.lives(budget)
    return row.setting._asdict() | {
        "bias": row.bias._asdict(),
        "variance_of_one_life": row.trial.variance,
        "variance_between_ages": row.between,
        "inner_steps_of_one_life": row.trial.cost,
        "cosine": row.agreement.cosine._asdict(),
        "signs": row.agreement.signs._asdict(),
        "efficiency": row.agreement.efficiency,
        "efficiency_per_inner_step": row.agreement.per_cost(row.trial.cost * row.setting.lives),
        "dead": row.dead,
        "at_budget": {"lives": lives, "rms_error": float(row.trial.error(lives)) ** 0.5},
    }


def _finite(value: Any) -> Any:
    """JSON has neither nan nor infinity."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float):
        return float(value) if abs(value) < float("inf") else None
    return value


def _measured(value: Measured | None) -> str:
    if value is None:
        return NOT
    if value.high - value.low < 1e-9 * max(abs(value.point), 1):
        return _short(value.point)
    return f"{_short(value.point)} [{_short(value.low)}, {_short(value.high)}]"


def _with_error(value: Measured) -> str:
    error = (value.high - value.low) / 2
    return _short(value.point) + (f" ± {_short(error)}" if error > 1e-12 else "")


def _short(number: float) -> str:
    return "0" if abs(number) < 1e-12 else f"{number:.2g}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is also one on the terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"
