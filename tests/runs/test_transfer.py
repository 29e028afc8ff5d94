"""Comparisons: what is held equal, what is kept, and what becomes of degenerate scores."""

import csv
import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl import families, zoo
from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from runs import tables
from runs.comparison import Comparison, Curves
from runs.evaluation import distinct
from runs.statistics import bootstrap, calibrated, iqm
from runs.transfer import Contender, compare, fingerprint, train_agents
from runs.trials import Trial

TRIAL = Trial(families.bernoulli_bandit(), Network(MLP((8,))), streams=2, steps=4, updates=12)


def contender(name, theta=(), rule=None):
    return Contender(name, rule or zoo.BUILT_IN[name](), theta)


def test_every_contender_meets_the_same_tasks_and_the_same_seed_gives_the_same_agents():
    def task(rule, seed):
        lifetime = Lifetime(TRIAL.tasks, rule, TRIAL.network, TRIAL.streams, TRIAL.steps, TRIAL.updates)
        theta = jax.eval_shape(rule.init, jax.random.key(0))
        theta = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), theta)
        return jax.jit(lambda key: lifetime.start(theta, key).task)(jax.random.key(seed))

    drawn = [task(rule, 5) for rule in (zoo.a2c(), zoo.lpg(), zoo.random())]
    for other in drawn[1:]:
        for a, b in zip(jax.tree.leaves(drawn[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(a, b)
    first, again = (train_agents(TRIAL, zoo.random(), (), 3, seed=1) for _ in range(2))
    other = train_agents(TRIAL, zoo.random(), (), 3, seed=2)
    np.testing.assert_array_equal(first.returns, again.returns)
    assert first.returns.shape == (3, 12)
    np.testing.assert_allclose(first.scores, first.returns[:, -1])  # a tenth of 12 updates is the last one
    alone = train_agents(TRIAL, zoo.random(), (), 1, seed=1)
    jax.tree.map(np.testing.assert_array_equal, first.first, alone.first)  # the task and the parameters of seed 0
    assert not np.array_equal(first.returns, other.returns)


@pytest.fixture
def trained(monkeypatch):
    """Replaces training by a formula; the list of what was trained."""
    calls = []

    def fake(trial, rule, theta, seeds, seed):
        calls.append((trial.tasks.name, type(rule).__name__, theta, seeds, seed))
        scores = np.arange(seeds) + float(np.sum(theta)) / 3
        return Curves(np.repeat(scores[:, None], 5, axis=1), scores)

    monkeypatch.setattr("runs.transfer.train_agents", fake)
    return calls


def go_on(*_):
    return True


def test_what_was_finished_is_kept_and_never_taken_for_something_else(tmp_path, trained):
    theta = np.float32([1.0, 2.0])
    learned = contender("learned", theta, zoo.a2c())
    both = [learned, contender("random")]
    first = compare([TRIAL], both, 2, tmp_path, go_on)
    again = compare([TRIAL], both, 2, tmp_path, go_on)
    assert len(trained) == 2
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.scores("learned"), again.scores("learned"))  # through JSON, bit for bit
    np.testing.assert_array_equal(first.scores("learned")[:, 0], np.arange(2) + 1.0)

    step = np.nextafter(theta, 9).astype(np.float32)
    for change in [
        dict(contenders=[learned._replace(theta=step)]),
        dict(contenders=[learned._replace(theta=theta.reshape(2, 1))]),
        dict(contenders=[learned._replace(rule=zoo.ppo())]),
        dict(seeds=3),
        dict(seed=7),
        dict(trials=[Trial(TRIAL.tasks, TRIAL.network, 2, 4, 13)]),
        dict(trials=[Trial(TRIAL.tasks, Network(MLP((9,))), 2, 4, 12)]),
    ]:
        before = len(trained)
        usual = dict(trials=[TRIAL], contenders=[learned], seeds=2, folder=tmp_path, progress=go_on)
        compare(**(usual | change))
        assert len(trained) == before + 1, change


def test_a_comparison_stops_between_two_evaluations_and_goes_on_there(tmp_path, trained):
    both = [contender("a2c"), contender("random")]
    assert compare([TRIAL], both, 2, tmp_path, lambda done, *_: done < 1) is None
    assert [name for _, name, *_ in trained] == ["ActorCritic"]
    assert compare([TRIAL], both, 2, tmp_path, go_on) is not None
    assert [name for _, name, *_ in trained] == ["ActorCritic", "NoLearning"]


def comparison(**means):
    """One task a position, three runs: at the mean, and 0.5 above and below it."""
    tasks = [f"task{i}" for i in range(len(next(iter(means.values()))))]

    def curves(mean):
        scores = np.array([mean - 0.5, mean, mean + 0.5])
        return Curves(np.repeat(scores[:, None], 4, axis=1), scores)

    results = {c: {t: curves(m) for t, m in zip(tasks, row, strict=True)} for c, row in means.items()}
    references = tuple(name for name in ("a2c", "ppo") if name in means)
    return Comparison(tuple(tasks), (1000,) * len(tasks), results, references)


def test_scores_are_normalised_between_random_and_the_best_hand_designed_rule():
    seen = comparison(learned=[30.0, -5.0], a2c=[10.0, -10.0], ppo=[20.0, -20.0], random=[0.0, -30.0])
    np.testing.assert_allclose(seen.normalised("learned").mean(axis=0), [1.5, 25 / 20])
    np.testing.assert_allclose(seen.normalised("random").mean(axis=0), 0)
    np.testing.assert_allclose(seen.normalised("ppo").mean(axis=0), [1.0, 0.5])


def test_normalisation_where_hand_designed_rules_are_no_better_than_chance():
    useless = comparison(learned=[30.0], a2c=[-10.0], random=[0.0])
    np.testing.assert_allclose(useless.normalised("learned").mean(), 1.0)  # the best of all stands in
    np.testing.assert_allclose(useless.normalised("a2c").mean(), -1 / 3)
    nobody = comparison(learned=[5.0], a2c=[5.0], random=[5.0])
    np.testing.assert_allclose(
        nobody.normalised("learned")[:, 0], [-0.5, 0, 0.5]
    )  # raw differences, no division by zero
    alone = comparison(learned=[2.0], random=[0.0])
    np.testing.assert_allclose(alone.normalised("learned").mean(), 1.0)


def test_the_references_are_declared_and_the_scale_says_which_of_them_is_1():
    seen = comparison(learned=[30.0, -5.0], a2c=[10.0, -10.0], ppo=[20.0, -20.0], random=[0.0, -30.0])
    assert seen.scale.by == ("ppo", "a2c")
    np.testing.assert_array_equal(seen.scale.one, [20, -10])
    other = dataclasses.replace(seen, references=("learned",))
    np.testing.assert_allclose(other.normalised("ppo").mean(axis=0), [20 / 30, 10 / 25])
    note = tables.markdown(seen, 3)
    assert "0 = random, 1 = the best of a2c, ppo (ppo: task0; a2c: task1)." in note
    useless = comparison(learned=[30.0, 0.0, 3.0], a2c=[-10.0, 0.0, 9.0], random=[0.0, 0.0, 0.0])
    assert useless.scale.by == ("learned", "", "a2c")
    note = tables.markdown(useless, 3)
    assert "the best of a2c, or where none of these beats random, of all (learned: task0; a2c: task2)" in note
    assert "nobody beats random on task1: differences" in note
    assert "1 = the best of all (learned: task0)" in tables.markdown(comparison(learned=[2.0], random=[0.0]), 3)
    with pytest.raises(ValueError, match="no contender is called dpo: there are learned, a2c"):
        dataclasses.replace(seen, references=("a2c", "dpo"))


def test_hand_designed_is_what_learns_without_theta(tmp_path, trained):
    three = [contender("learned", np.float32([1.0]), zoo.a2c()), contender("a2c"), contender("random")]
    assert [c.hand_designed for c in three] == [False, True, False]
    seen = compare([TRIAL], three, 2, tmp_path, go_on)
    assert seen.references == ("a2c",)
    assert seen.recorded == (tuple(range(8, 97, 8)),)  # 2 streams of 4 steps, 12 updates


def test_the_verdict_is_said_plainly():
    seen = comparison(learned=[30.0] * 4, a2c=[10.0] * 4, close=[30.0] * 4, random=[0.0] * 4)
    assert "learned against a2c: won; IQM 3.0" in seen.verdict("learned", "a2c")
    assert "paired difference 2.000 [2.000, 2.000]" in seen.verdict("learned", "a2c")
    assert "a2c against learned: lost" in seen.verdict("a2c", "learned")
    assert "learned against close: undecided;" in seen.verdict("learned", "close")


def read(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_the_table_the_data_and_the_figures_are_written(tmp_path):
    seen = comparison(learned=[30.0, 1 / 3], a2c=[10.0, 1.0], random=[0.0, 0.0])
    text = tables.write(seen, 3, "learned", tmp_path / "report", {"task1": "leaks"})
    assert "| task0 (1,000) | 30.00 [29.50, 30.50] | 10.00" in text
    assert "| task1 (1,000; leaks) | 0.33" in text
    assert "learned against a2c" in text
    assert (tmp_path / "report" / "table.md").read_text() == text
    figures = {"curves", "intervals", "performance-profile", "sample-efficiency", "probability-of-improvement"}
    assert {f.stem for f in (tmp_path / "report").glob("*.png")} == figures
    for figure in figures:
        assert (tmp_path / "report" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")


def test_the_data_can_be_analysed_again(tmp_path):
    seen = comparison(learned=[30.0, 1 / 3], a2c=[10.0, 1.0], random=[0.0, 0.0])
    tables.write(seen, 3, "learned", tmp_path)
    rows = read(tmp_path / "scores.csv")
    assert len(rows) == 3 * 2 * 3
    assert float(rows[3]["score"]) == 1 / 3 - 0.5  # every digit
    assert [rows[i]["role"] for i in (0, 6, 12)] == ["contender", "reference", "floor"]
    assert {row["env_steps"] for row in rows} == {"1000"}
    ours = np.array([float(row["normalised"]) for row in rows if row["rule"] == "learned"]).reshape(2, 3).T
    np.testing.assert_array_equal(ours, seen.normalised("learned"))
    aggregates = {(row["rule"], row["aggregate"]): row for row in read(tmp_path / "aggregates.csv")}
    found = aggregates["learned", "normalised IQM"]
    plain, wide = bootstrap(iqm, ours), calibrated(iqm, ours)
    assert (float(found["value"]), float(found["low"]), float(found["high"])) == wide
    assert (float(found["rliable_low"]), float(found["rliable_high"])) == plain[1:]
    curves = read(tmp_path / "curves.csv")
    assert len(curves) == 3 * 2 * 3 * 4
    assert [row["env_steps"] for row in curves[:4]] == ["250", "500", "750", "1000"]
    assert float(curves[5]["return"]) == 30.0


def test_curves_are_laid_on_fractions_of_a_training_before_they_are_aggregated():
    def curves(scale):
        returns = scale * np.array([[2.0, 4.0, 8.0]] * 3)
        return Curves(returns, returns[:, -1])

    results = {"learned": {"short": curves(1.0), "long": curves(10.0)}}
    results["random"] = {"short": curves(0.0), "long": curves(0.0)}
    recorded = ((25, 50, 100), (250, 500, 1000))
    seen = Comparison(("short", "long"), (100, 1000), results, ("learned",), recorded)
    band = seen.efficiency("learned")
    at = dict(zip(np.round(seen.fractions, 2), band.point, strict=True))
    np.testing.assert_allclose([at[0.02], at[0.26], at[0.5], at[0.76], at[1.0]], [0.25, 0.26, 0.5, 0.76, 1.0])
    np.testing.assert_array_equal(band.low, band.high)  # runs are equal
    assert seen.profile("learned", np.array([0.5, 1.5])).point.tolist() == [1.0, 0.0]


def test_a_note_stands_beside_the_name_of_its_task():
    text = tables.markdown(comparison(a2c=[1.0, 2.0], random=[0.0, 0.0]), 2, {"task1": "seen before"})
    assert "| task0 (1,000) |" in text
    assert "| task1 (1,000; seen before) |" in text


def test_contenders_of_one_name_are_told_apart_and_equal_ones_are_one():
    one, two = (contender("rule", np.float32([x]), zoo.a2c()) for x in (1, 2))
    assert [c.name for c in distinct([one, two, one, contender("a2c"), contender("a2c")])] == ["rule", "rule-2", "a2c"]
    assert distinct([one, two])[1].theta == [2]
    assert fingerprint(contender("a2c")) != fingerprint(contender("ppo"))
    assert fingerprint(one) == fingerprint(one._replace(name="other"))
