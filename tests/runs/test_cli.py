"""Mistakes at the command line, in real processes: one message, the promised exit code, nothing on the disk."""

import json
import os
import subprocess
import sys
import textwrap
import time

import pytest

# Runs many command lines in one process, as `main` would be run by the console script, and reports on each.
MANY = """
    import contextlib, io, json, os, sys, time
    from runs.cli import main
    reports = []
    for arguments in json.loads(sys.argv[1]):
        out, err = io.StringIO(), io.StringIO()
        start = time.monotonic()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(arguments)
            except SystemExit as exit:
                code = exit.code
        reports.append([code, out.getvalue(), err.getvalue(), time.monotonic() - start, sorted(os.listdir("."))])
    print(json.dumps({"reports": reports, "jax": "jax" in sys.modules}))
"""


def many(folder, *lines, **environment):
    """`(exit code, stdout, stderr, seconds, files left in the working directory)` of each, and whether JAX came in."""
    program = [sys.executable, "-c", textwrap.dedent(MANY), json.dumps([line.split() for line in lines])]
    done = subprocess.run(
        program, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["reports"], answer["jax"]


NAMES = {
    "discver smoke": "perhaps you meant discover",
    "": "required: COMMAND",
    "discover smok": "perhaps you meant smoke",
    "discover --steps 4 smok": "there is no recipe 'smok'",
    "discover smoke smoke": "unexpected argument 'smoke'",
    "discover smoke --steps": "--steps needs a value",
    "discover smoke --quite": "--quite needs a value; perhaps you meant --quiet",
    "discover smoke --devices two": "--devices: invalid int value: 'two'",
    "transfer ppo --suite smal": "perhaps you meant small",
    "transfer pop": "perhaps you meant ppo",
    "transfer ./nowhere/rule": "there is no built-in rule './nowhere/rule'",
    "transfer ppo --against a2d": "perhaps you meant a2c",
    "transfer ppo --seeds 0": "--seeds must be at least 1, not 0",
    "transfer ppo --seed 3": "unknown argument '--seed'; perhaps you meant --seeds",
    "compare out/one": "out/one alone cannot be compared",
    "compare out/one out/two": "out/one is not a run directory",
    "list estimator": "perhaps you meant estimators",
    "verify nowhere": "there is no rule folder and no run folder",
}


def test_what_does_not_exist_is_refused_at_once_without_jax_and_without_a_trace(tmp_path):
    reports, jax = many(tmp_path, *NAMES)
    assert not jax
    for line, (code, out, err, seconds, files) in zip(NAMES, reports, strict=True):
        assert (code, out, files) == (2, "", []), line
        assert NAMES[line] in err, line
        assert err.startswith("learned-rl: ")
        assert err.count("\n") == 1, line
        assert seconds < 1.0, line


def test_help_and_cheap_lists_need_no_jax(tmp_path):
    lines = [
        "--help",
        *(f"{c} --help" for c in ("discover", "transfer", "compare", "list", "verify")),
        "list recipes",
        "list suites",
    ]
    reports, jax = many(tmp_path, *lines)
    assert not jax
    for line, (code, _, err, _, _) in zip(lines, reports, strict=True):
        assert (code, err) == (0, ""), line
    assert "--dotted.field value" in reports[1][1]
    assert "--against RULE" in reports[2][1]
    assert "smoke " in reports[6][1]
    assert all(len(line.split(maxsplit=1)) == 2 for line in (reports[6][1] + reports[7][1]).splitlines())


SETTINGS = {
    "--steps three": "steps = three: expected a whole number",
    "--stepps 3": "perhaps you meant steps",
    "--outer.estimator.horizn 3": "perhaps you meant outer.estimator.horizon",
    "--families.0.sizes 3": "no such setting",
    "--rule lpg": "rule = lpg: LPG is chosen by the recipe",
    "--inner.segment 3": "inner.segment=3 does not divide inner.updates=4",
    "--inner.updates 8": "horizon is 2 segments, but a lifetime has 4",
    "--outer.estimator.microbatch 3": "microbatch=3 does not cut 2 lives",
    "--steps 0": "steps=0 must be at least 1",
    "--report_every 0": "report_every=0 must be at least 1",
    "--checkpoint_every 0": "checkpoint_every=0 must be at least 1",
    "--report_every 3": "is no multiple of report_every=3",
    "--inner.streams 0": "streams must be at least 1",
    "--transfer.seeds 0": "seeds must be at least 1",
    "--transfer.suite smoky": "perhaps you meant smoke",
    "--transfer.against a2c,pppo": "perhaps you meant ppo",
    "--devices 64": "--devices 64: ",
    "--steps x --seed y": "seed = y",
    "--families.0.env_id Catch-bsuit": "nearest: Catch-bsuite",
    "--run-dir /proc/nowhere": "creating the run folder failed in /proc/nowhere",
    "--run-dir /dev/null": "is a file",
}


def test_settings_that_cannot_be_are_refused_by_their_path_before_anything_is_written(tmp_path):
    lines = [f"discover smoke --json {os.devnull} {line}" for line in SETTINGS]
    reports, _ = many(tmp_path, *lines)
    for (line, message), (code, out, err, _, files) in zip(SETTINGS.items(), reports, strict=True):
        assert message in err, line
        assert (code, out, files) == (74 if "/proc" in line else 2, "", []), line
        assert "Traceback" not in err
    print("slowest answer, imports included:", max(report[3] for report in reports))


def test_show_prints_every_setting_in_the_form_that_sets_it(tmp_path):
    (report,), _ = many(tmp_path, "discover smoke --show --steps 12")
    shown = dict(line.split(" ", 1) for line in report[1].splitlines())
    assert shown["--steps"] == "12"
    assert shown["--outer.estimator.horizon"] == "2"
    assert shown["--rule"] == "LPG"
    again = " ".join(f"{name} {shown[name]}" for name in ("--steps", "--transfer.against", "--inner.updates", "--seed"))
    (second,), _ = many(tmp_path, f"discover smoke --show {again}")
    assert second[1] == report[1]
    assert report[4] == []


def test_everything_there_is_can_be_listed(tmp_path):
    reports, _ = many(
        tmp_path, *(f"list {kind} --json {kind}.json" for kind in ("rules", "estimators", "objectives", "tasks"))
    )
    expected = {"rules": "ppo", "estimators": "PersistentES", "objectives": "LifetimeReturn", "tasks": "CartPole-v1"}
    for (kind, name), (code, out, err, _, _) in zip(expected.items(), reports, strict=True):
        assert (code, err) == (0, ""), kind
        lines = out.splitlines()
        assert any(line.startswith(f"{name} ") for line in lines), kind
        assert all(len(line.split(maxsplit=1)) == 2 for line in lines), kind
        summary = json.loads((tmp_path / f"{kind}.json").read_text())
        assert summary["exit"] == 0
        assert len(summary[kind]) == len(lines)


def test_the_summary_of_a_failure_and_a_summary_that_cannot_be_written(tmp_path):
    reports, _ = many(tmp_path, "transfer pop --json deep/down.json", "list recipes --json /proc/nowhere.json")
    summary = json.loads((tmp_path / "deep" / "down.json").read_text())
    assert (summary["exit"], reports[0][0]) == (2, 2)
    assert "perhaps you meant ppo" in summary["error"]
    assert reports[1][0] == 74
    assert reports[1][2].startswith("learned-rl: --json /proc/nowhere.json: ")


@pytest.mark.parametrize("line", ["discover smok", "list rules | head -1"])
def test_the_program_itself(tmp_path, line):
    """Through the interpreter's own exit, where a closed pipe or a stray thread would still show."""
    start = time.monotonic()
    command = f"set -o pipefail; {sys.executable} -m runs {line}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == (2 if "smok" in line else 0)
    assert time.monotonic() - start < 30
