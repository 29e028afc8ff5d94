"""The recipe `smoke` from the command line to the store and back, in real processes with the real environments."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from runs.checkpoints import Checkpoints
from runs.cli import main
from runs.journal import Journal, read_events
from runs.lock import RunLock
from runs.mlflow_drain import waiting
from runs.mlflow_store import connect
from tests.tiny import environment

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # SQLAlchemy's, by way of MLflow
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

COMMAND = (sys.executable, "-m", "runs")
CONTENDERS = ("learned", "untrained", "a2c", "random")
DATA = {"table.md", "scores.csv", "curves.csv", "aggregates.csv"}
FIGURES = {"curves", "intervals", "performance-profile", "sample-efficiency", "probability-of-improvement"}
REPORT = DATA | {f"{figure}.png" for figure in FIGURES}


def run(folder, *arguments, code=0):
    """Runs a command in `folder`; its stdout and stderr together with the summary it wrote."""
    summary = folder / "summary.json"
    summary.unlink(missing_ok=True)
    done = subprocess.run(
        [*COMMAND, *map(str, arguments), "--json", str(summary)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr, json.loads(summary.read_text())


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A folder in which `learned-rl discover smoke` was run; one for all workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "smoke-once"
    with FileLock(f"{folder}.lock"):
        if not (folder / "first.json").exists():
            folder.mkdir()
            _, _, summary = run(folder, "discover", "smoke", "--quiet")
            (folder / "first.json").write_text(json.dumps(summary))
    return folder


def store(smoke):
    return connect(f"sqlite:///{smoke / 'mlflow.db'}")


def runs_of(client, name):
    experiment = client.get_experiment_by_name(name)
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def history(client, run, name):
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]


def test_everything_about_the_run_is_in_the_store_once(smoke):
    summary = json.loads((smoke / "first.json").read_text())
    assert (summary["exit"], summary["step"]) == (0, 4)
    client = store(smoke)
    runs = runs_of(client, "smoke")
    parent = runs.pop("smoke")
    assert (parent.info.status, parent.data.tags["learned_rl.run_id"]) == ("FINISHED", summary["run"])
    description = json.loads((smoke / "out" / "smoke" / "run.json").read_text())
    configuration = description["configuration"]
    assert parent.data.params == {name: str(value) for name, value in configuration.items()}
    assert parent.data.params["outer.estimator.horizon"] == "2"
    tags = parent.data.tags
    assert (tags["learned_rl.rule"], tags["learned_rl.estimator"]) == ("LPG", "TruncatedBackprop")
    assert tags["git.commit"] == description["git"]
    assert tags["device.kind"] == "cpu"

    names = set(parent.data.metrics)
    assert {"meta/loss", "meta/dead", "meta/gradient_norm", "sys/env_steps", "sys/compile_seconds"} <= names
    assert {"inner/Catch-5x5/return", "inner/Catch-5x5/loss"} <= names
    assert {name.split("/")[0] for name in names} == {"meta", "inner", "sys"}
    recorded = [e["values"] for e, _ in read_events(smoke / "out" / "smoke") if e["kind"] == "metrics"]
    for name in ("meta/loss", "inner/Catch-5x5/return"):
        assert history(client, parent, name) == [(i + 1, v[name]) for i, v in enumerate(recorded[:4])]
    assert history(client, parent, "sys/env_steps")[-1] == (4, 4 * 64)

    def files(folder):
        return {file.path.removeprefix(f"{folder}/") for file in client.list_artifacts(parent.info.run_id, folder)}

    assert files("") == {"latest", "report", "rule", "training.png", "run.json", "report.html", "explain"}
    assert files("latest") == {"rule.safetensors", "rule.json", "MANIFEST.sha256"}
    assert files("report") == REPORT | {"agents"}
    assert files("report/agents") == {"CartPole-v1.gif"}

    expected = {f"eval/CartPole-v1/{name}" for name in CONTENDERS} | {"eval/aggregate"}
    assert set(runs) == expected  # one nested run a task and contender, and the aggregate
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    learned = runs["eval/CartPole-v1/learned"].data
    assert (learned.params["seeds"], learned.tags["learned_rl.contender"]) == ("2", "learned")
    assert learned.metrics["eval/CartPole-v1/return"] > 0
    points = {name: summary["iqm"][name]["point"] for name in CONTENDERS}
    assert runs["eval/aggregate"].data.metrics == {f"iqm/{name}": point for name, point in points.items()}

    (version,) = client.search_model_versions("name = 'smoke'")
    assert (version.version, version.run_id) in ((1, parent.info.run_id), ("1", parent.info.run_id))


def by_rule(scores):
    """The column `score` of a table, rule by rule."""
    rows = [line.split(",") for line in scores.read_text().splitlines()[1:]]
    return {name: [row[3] for row in rows if row[0] == name] for name in {row[0] for row in rows}}


def test_a_registered_rule_scores_in_another_folder_what_it_scored_where_it_was_learned(smoke, tmp_path):
    out, _, _ = run(
        tmp_path,
        *("transfer", "models:/smoke/1", "--suite", "smoke", "--against", "a2c", "--seeds", "2", "--quiet"),
        *("--tracking-uri", f"sqlite:///{smoke / 'mlflow.db'}", "--run-dir", tmp_path / "store"),
    )
    assert "smoke against a2c: " in out
    found = by_rule(tmp_path / "store" / "report" / "scores.csv")
    first = by_rule(smoke / "out" / "smoke" / "report" / "scores.csv")
    assert found == {"smoke": first["learned"], "a2c": first["a2c"], "random": first["random"]}
    assert found["a2c"] != found["random"]  # else equality would say nothing
    runs = runs_of(store(smoke), "transfer")
    assert {"store", "eval/CartPole-v1/smoke", "eval/aggregate"} <= set(runs)
    assert not list(Path("/tmp").glob("learned-rl-rule-*/**/*"))  # noqa: S108


def damaged(folder, how):
    rule = shutil.copytree(folder / "out" / "smoke" / "rule", folder / how.replace(" ", "-"))
    if how == "flipped bit":
        content = bytearray((rule / "rule.safetensors").read_bytes())
        content[-3] ^= 4
        (rule / "rule.safetensors").write_bytes(content)
    elif how == "missing file":
        (rule / "rule.safetensors").unlink()
    elif how == "extra file":
        (rule / "setup.py").write_text("")
    elif how == "newer schema":
        spec = json.loads((rule / "rule.json").read_text()) | {"schema": "9.0"}
        (rule / "rule.json").write_text(json.dumps(spec))
        lines = [
            f"{hashlib.sha256((rule / n).read_bytes()).hexdigest()}  {n}\n" for n in ("rule.json", "rule.safetensors")
        ]
        (rule / "MANIFEST.sha256").write_text("".join(lines))
    return rule


DAMAGE = {
    "flipped bit": "rule.safetensors: its SHA-256 is not the one",
    "missing file": "rule.safetensors missing",
    "extra file": "file 'setup.py' does not belong there",
    "newer schema": "schema 9.0; this is",
}


def test_damaged_rules_and_runs_are_refused_by_name(smoke, tmp_path, capsys):
    def verify(path):
        code = main(["verify", str(path)])
        said = capsys.readouterr()
        return code, said.out + said.err

    assert verify(smoke / "out" / "smoke" / "rule")[0] == 0
    code, said = verify(smoke / "out" / "smoke")
    assert (code, said.count("ok  checkpoint ")) == (0, 2)
    copy = shutil.copytree(smoke / "out", tmp_path / "out")
    rules = {how: damaged(tmp_path, how) for how in DAMAGE}
    for how, message in DAMAGE.items():
        code, said = verify(rules[how])
        assert code == 65, how
        assert f"{rules[how]}: " in said
        assert message in said, how
    _, err, summary = run(tmp_path, "transfer", rules["flipped bit"], "--suite", "smoke", code=65)
    assert DAMAGE["flipped bit"] in err
    assert DAMAGE["flipped bit"] in summary["error"]
    assert not (tmp_path / "mlflow.db").exists()
    state = copy / "smoke" / "checkpoints" / "000000004" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    code, said = verify(copy / "smoke")
    assert code == 65
    assert "checkpoint 4: state.safetensors differs" in said
    assert main(["transfer", str(copy / "smoke")]) == 2
    assert f"the rule that it learned is {copy / 'smoke' / 'rule'}" in capsys.readouterr().err


def test_a_busy_or_different_run_folder_is_not_touched(smoke, tmp_path, capsys):
    copy = shutil.copytree(smoke / "out" / "smoke", tmp_path / "run")
    with RunLock(copy):
        _, err, _ = run(tmp_path, "discover", "smoke", "--run-dir", copy, code=75)
    assert f"in use by process {os.getpid()}" in err
    assert main(["discover", "smoke", "--run-dir", str(copy), "--seed", "1", "--inner.streams", "8"]) == 2
    err = capsys.readouterr().err
    assert "seed: this run has 0, now 1" in err
    assert "inner.streams: this run has 4, now 8" in err
    journal = (copy / "journal.jsonl").read_bytes()
    assert journal == (smoke / "out" / "smoke" / "journal.jsonl").read_bytes()


@pytest.mark.slow  # two whole runs; servers that are away or fail are also in test_mlflow_sink.py
def test_a_store_that_is_away_costs_nothing_and_gets_everything_later(smoke, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    start = time.monotonic()
    out, err, first = run(tmp_path, "discover", "smoke", "--name", "away", "--quiet", "--tracking-uri", closed)
    print(f"with no store: {time.monotonic() - start:.1f} s")
    assert err.count("the journal keeps everything") == 1
    count = sum(1 for _ in read_events(tmp_path / "out" / "smoke"))
    assert f"does not take {count} records" in out
    kept = {
        file: file.read_bytes() for file in tmp_path.rglob("*") if file.suffix in (".jsonl", ".safetensors", ".csv")
    }
    uri = f"sqlite:///{smoke / 'mlflow.db'}"
    out, _, second = run(tmp_path, "discover", "smoke", "--name", "away", "--quiet", "--tracking-uri", uri)
    assert "does not take" not in out
    assert {file: file.read_bytes() for file in kept} == kept  # it was finished: the same command only sends
    assert second["iqm"] == first["iqm"]
    assert waiting(tmp_path / "out" / "smoke", uri) == 0
    client = store(smoke)
    runs = runs_of(client, "away")
    assert len(runs) == 6
    assert [step for step, _ in history(client, runs["smoke"], "meta/loss")] == [1, 2, 3, 4]
    assert len(client.search_model_versions("name = 'away'")) == 1


@pytest.mark.slow
def test_a_run_is_repeated_bit_for_bit(smoke, tmp_path):
    copy = shutil.copytree(smoke / "out" / "smoke", tmp_path / "smoke")
    out, _, summary = run(tmp_path, "reproduce", copy, "--quiet")
    assert f"learned-rl discover smoke --run-dir {tmp_path / 'smoke-again'}" in out
    assert summary["equal"]
    assert all(summary[name]["equal"] for name in ("theta", "scores", "metrics"))


def steps(folder):
    return [e["step"] for e, _ in read_events(folder) if e["kind"] == "metrics" and "meta/loss" in e["values"]]


def test_a_request_to_stop_is_met_after_the_step_with_everything_saved(smoke, tmp_path):
    command = [*COMMAND, "discover", "smoke", "--quiet", "--transfer.suite", "", "--checkpoint_every", "1000"]
    command = [*command, "--steps", "2000", "--tracking-uri", f"sqlite:///{smoke / 'mlflow.db'}"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        folder = tmp_path / "out" / "smoke"
        while not steps(folder):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        assert process.stdout is not None
        out = process.stdout.read()
        assert process.wait() == 143
    assert time.monotonic() - asked < 20
    done = steps(folder)[-1]
    assert f"stopped at step {done}, saved" in out
    assert Checkpoints(folder / "checkpoints").steps() == [done]
    assert json.loads((folder / "rule" / "rule.json").read_text())["record"]["outer_step"] == done
    assert [e["status"] for e, _ in read_events(folder) if e["kind"] == "finish"] == ["KILLED"]
    assert steps(folder) == list(range(1, done + 1))
    Journal(folder).close()  # whole, and free
