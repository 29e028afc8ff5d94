"""`learned-rl tune` and `learned-rl transfer --tune`: tuned baselines as rule files with the record of their making."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from learned_rl.rule_file import save_rule
from runs import catalogue
from runs.devices import prepare
from runs.errors import UsageError
from runs.folder import git_commit
from runs.grids import GRIDS
from runs.journal import Journal
from runs.leakage import RECORDED, describe_all
from runs.recording import recording, stopped
from runs.signals import StopRequest
from runs.transfer import Contender
from runs.trials import Trial
from runs.tuning import Tuned, tune


def tuned(known: argparse.Namespace) -> dict[str, Any]:
    """Tunes a built-in rule on the validation tasks of a suite; the rule file is what comes out."""
    prepare()
    trials = catalogue.suite(known.suite).validation
    path: Path = known.run_dir or Path("out") / "tuned" / known.suite / f"{known.rule}-tuned"
    settings = {"rule": known.rule, "suite": known.suite, "env_steps": known.env_steps}
    tags = {"learned_rl.kind": "tune", "learned_rl.rule": known.rule, "git.commit": git_commit()}
    with recording(path, settings, known, "tune", tags) as (folder, journal, stop):
        best = one(known.rule, trials, known.env_steps, folder.path, (journal, stop, known.quiet))
        if best is None:
            return stopped(folder, stop, "between two rounds of tuning")
        print(said(best.record), folder.rule, sep="\n\n", flush=True)
        return {"path": str(folder.path), "rule": str(folder.rule), **best.record}


def one(
    name: str, trials: Sequence[Trial], env_steps: int, folder: Path, record: tuple[Journal, StopRequest, bool]
) -> Tuned | None:
    """Tunes and keeps one rule: finished rounds in `folder/tuning`, the rule file in `folder/rule`.

    Args:
      trials: validation tasks.
      record: where it is recorded, what stops it, and whether to be quiet.

    Returns:
      None if it was stopped.
    """
    journal, stop, quiet = record

    def show(done: int, total: int, text: str) -> bool:
        if not quiet:
            print(f"tune {done}/{total}  {text}", file=sys.stderr, flush=True)
        return not stop.requested

    best = tune(name, trials, env_steps, folder / "tuning", show)
    if best is None:
        return None
    save_rule(best.rule, (), folder / "rule", best.record | {RECORDED: describe_all([t.tasks for t in trials])})
    journal.child(
        f"tuned/{name}",
        name=f"tuned/{name}",
        tags={"learned_rl.kind": "tuning", "learned_rl.contender": f"{name}-tuned"},
        params={"allowance": env_steps, "env_steps": best.record["env_steps"], **best.record["best"]},
        metrics={f"tuned/{k}": v for k, v in best.record["fresh"].items() if k.endswith("_score") and v is not None},
    )
    journal.artifact(folder / "rule", f"tuned/{name}")
    return best


def asked(known: argparse.Namespace, name: str, record: Mapping[str, Any]) -> tuple[list[str], int]:
    """Which baselines `transfer --tune` is to tune, and with how many environment steps; none without it.

    Args:
      name, record: of the rule in question, whose meta-training's steps are the allowance if none was said.

    Raises:
      UsageError: no baseline has a grid, or the record does not say how many steps.
    """
    if known.tune is None:
        return [], 0
    found, env_steps = [other for other in dict.fromkeys(known.against) if other in GRIDS], known.tune
    if not found:
        raise UsageError(
            f"--tune: no grid is declared for any of {' '.join(known.against)}; for {', '.join(GRIDS)} one is"
        )
    env_steps = env_steps or record.get("env_steps")
    if not isinstance(env_steps, int) or env_steps < 1:
        raise UsageError(f"the record of {name} does not say how many steps it was meta-trained for; say --tune N")
    return found, env_steps


def rivals(
    names: Sequence[str],
    trials: Sequence[Trial],
    env_steps: int,
    folder: Path,
    record: tuple[Journal, StopRequest, bool],
) -> list[Contender] | None:
    """Tuned baselines, each in a folder of its own inside `folder`; None if stopped."""
    found = []
    for name in names:
        best = one(name, trials, env_steps, folder / f"{name}-tuned", record)
        if best is None:
            return None
        print(said(best.record), "", sep="\n", flush=True)
        found.append(Contender(f"{name}-tuned", best.rule, ()))
    return found


def said(record: dict[str, Any]) -> str:
    """What was chosen, from how many and for how much, and what fresh seeds say of it."""
    first, fresh = record["rounds"][0], record["fresh"]
    sizes = " -> ".join(f"{len(r['candidates'])} x {len(r['seeds'])}" for r in record["rounds"])
    best = ", ".join(f"{path} {value:g}" for path, value in record["best"].items())
    chosen = max(c["score_so_far"] for c in record["rounds"][-1]["candidates"] if c["score_so_far"] is not None)
    again = _number(fresh["best_score"])
    own = "its own setting" if record["best"] == record["own"] else f"own setting {_number(fresh['own_score'])}"
    return "\n".join(
        [
            f"{record['tuned']}: {best}",
            f"best of {len(first['candidates'])} settings on {', '.join(record['tasks'])}",
            f"{record['env_steps']:,} of {record['allowance']:,} environment steps, candidates x seeds: {sizes}",
            f"score {chosen:.2f} when it was chosen, {again} on {fresh['seeds']} fresh seeds; {own}",
        ]
    )


def _number(x: float | None) -> str:
    return "broke down" if x is None else f"{x:.2f}"
