"""Tuned baselines: what the allowance pays for, who wins, what is kept; and that candidates are the agents they say."""

import itertools
import json

import numpy as np
import pytest

from learned_rl import families, zoo
from learned_rl.networks import MLP, Network
from runs import candidates
from runs.candidates import Subject, train
from runs.errors import ConfigurationError, UsageError
from runs.grids import GRIDS, Grid, fed
from runs.transfer import train_agents
from runs.trials import Trial
from runs.tuned import said
from runs.tuning import FRESH, RANDOM_SEEDS, TUNING, Anchors, halving, tune

BANDIT = Trial(families.bernoulli_bandit(), Network(MLP((4,))), streams=2, steps=4, updates=20)
OTHER = Trial(families.gaussian_bandit(), Network(MLP((4,))), streams=1, steps=3, updates=5)
RATES = Grid((("coefficients.learning_rate", (1e-3, 1e-2, 1e-1)), ("coefficients.entropy", (0.0, 0.01))))


def go_on(*_):
    return True


@pytest.mark.parametrize("most", [2, 3, 7, 16, 192])
def test_halving_spends_all_that_it_may_and_no_more(most):
    for evaluations in range(2, 200):
        rounds = halving(most, evaluations)
        spent = sum(r.candidates * r.seeds for r in rounds)
        assert evaluations - 1 <= spent <= evaluations
        assert all(r.seeds >= 1 for r in rounds)
        assert rounds[0].candidates <= most
        assert rounds[-1].candidates == 2
        for one, following in itertools.pairwise(rounds):
            assert following.candidates == -(-one.candidates // 2)
            assert one.seeds <= following.seeds


def test_the_rounds_of_eighty_agents():
    assert halving(192, 78) == ((16, 1), (8, 2), (4, 4), (2, 15))
    assert halving(4, 78) == ((4, 9), (2, 21))
    for most, evaluations in ((1, 9), (9, 1)):
        with pytest.raises(ValueError, match="no choice"):
            halving(most, evaluations)


@pytest.fixture
def trained(monkeypatch):
    """Replaces training by a formula; what was trained, `(task, rule, settings, seeds, root)`."""
    calls = []

    def fake(trial, subject, settings, seeds, root):
        calls.append((trial.tasks.name, subject.name, list(settings), seeds, root))
        if subject.name == "random":
            return np.zeros((1, len(seeds)))
        scale = 100.0 if trial is OTHER else 1.0
        rows = [[quality(trial, s) + noise(s, i, root) for i in seeds] for s in settings]
        return scale * np.array(rows)

    monkeypatch.setattr("runs.candidates.train", fake)
    return calls


def quality(trial, setting):
    """The bandit wants a rate of 0.1, the other task much more a bonus; so 0.1 with a bonus is best."""
    rate, entropy = setting
    return np.log10(rate) / 10 + 1 if trial is BANDIT else 0.5 + (entropy > 0) + rate


def noise(setting, seed, root):
    return 0.02 * np.random.default_rng([round(1e6 * setting[0]), round(1e6 * setting[1]), seed, root]).normal()


ONE = BANDIT.env_steps + OTHER.env_steps


def agents(calls, root=TUNING):
    """Environment steps of what was trained from one root."""
    steps = {BANDIT.tasks.name: BANDIT.env_steps, OTHER.tasks.name: OTHER.env_steps}
    return sum(steps[task] * len(settings) * len(seeds) for task, _, settings, seeds, r in calls if r == root)


@pytest.mark.parametrize("allowance", [4 * ONE, 5 * ONE - 1, 17 * ONE + 3, 60 * ONE])
def test_the_allowance_is_counted_to_the_step(tmp_path, trained, allowance):
    tuned = tune("a2c", [BANDIT, OTHER], allowance, tmp_path, go_on, RATES)
    assert tuned is not None
    assert tuned.record["env_steps"] == agents(trained) <= allowance
    assert allowance - agents(trained) < 2 * ONE
    assert tuned.record["fresh"]["env_steps"] == agents(trained, FRESH)
    assert {name for name, *_ in trained} == {BANDIT.tasks.name, OTHER.tasks.name}
    random = [seeds for _, name, _, seeds, _ in trained if name == "random"]
    assert random == [range(RANDOM_SEEDS)] * 2


def test_the_best_of_the_grid_wins_and_fresh_seeds_say_by_how_much(tmp_path, trained):
    rule, record = tune("a2c", [BANDIT, OTHER], 60 * ONE, tmp_path, go_on, RATES)
    assert record["best"] == {"coefficients.learning_rate": 1e-1, "coefficients.entropy": 0.01}
    assert rule == fed(zoo.a2c(), RATES.paths, (1e-1, 0.01))
    assert record["own"] == {"coefficients.learning_rate": 3e-3, "coefficients.entropy": 0.01}
    fresh = record["fresh"]
    chosen = max(c["score_so_far"] for c in record["rounds"][-1]["candidates"])
    assert fresh["best_score"] == pytest.approx(chosen, abs=0.05)
    assert chosen == pytest.approx(1.0, abs=0.05)  # 1 is the best agent that was seen
    assert f"score {chosen:.2f} when it was chosen, {fresh['best_score']:.2f} on 10 fresh seeds" in said(record)
    assert fresh["own_score"] < 0.95
    assert fresh["best"][1] == pytest.approx(160, abs=3)
    seeds = [set(r["seeds"]) for r in record["rounds"]]
    assert sum(map(len, seeds)) == len(set().union(*seeds))  # every round has seeds of its own
    json.dumps(record, allow_nan=False)


def test_a_task_on_which_nobody_learns_does_not_outweigh_one_on_which_some_do(tmp_path, monkeypatch):
    """On the bandit, some settings are better by a third; on the other task all is chance around random's mean."""

    def fake(trial, subject, settings, seeds, root):
        rng = np.random.default_rng([trial is BANDIT, seeds.start, len(settings), root, trial_number])
        chance = rng.normal(size=(len(settings), len(seeds)))
        if subject.name == "random" or trial is OTHER:
            return 0.0 * chance if trial is BANDIT else chance
        return np.array([[1.0 if s[0] == 1e-1 else 0.7] * len(seeds) for s in settings])

    monkeypatch.setattr("runs.candidates.train", fake)
    right = 0
    for trial_number in range(20):
        tuned = tune("a2c", [BANDIT, OTHER], 60 * ONE, tmp_path / str(trial_number), go_on, RATES)
        right += tuned.record["best"]["coefficients.learning_rate"] == 1e-1
    assert right >= 15


def test_what_is_found_late_has_the_unit_of_what_was_found(tmp_path, monkeypatch):
    """Nobody finds the prize at first, and all are equal but for a thousandth or two; later some do."""

    def fake(trial, subject, settings, seeds, root):
        found = seeds.start > 0 and subject.name != "random"
        return np.array(
            [[float(found and seed % 2) + 0.002 * bool(s) * (seed == 0) for seed in seeds] for s in settings]
        )

    monkeypatch.setattr("runs.candidates.train", fake)
    _, record = tune("a2c", [BANDIT], 60 * BANDIT.env_steps, tmp_path, go_on, RATES)
    scores = [c["score_so_far"] for r in record["rounds"][1:] for c in r["candidates"]]
    assert 0 < max(scores) <= 1
    assert record["fresh"]["best_score"] <= 1


def test_a_candidate_that_breaks_down_is_last(tmp_path, monkeypatch):
    def broken(trial, subject, settings, seeds, root):
        return np.array([[np.nan if s and s[0] == 1e-1 else float(bool(s)) for _ in seeds] for s in settings])

    monkeypatch.setattr("runs.candidates.train", broken)
    _, record = tune("a2c", [BANDIT], 60 * BANDIT.env_steps, tmp_path, go_on, RATES)
    assert record["best"]["coefficients.learning_rate"] != 1e-1
    assert record["rounds"][0]["candidates"][0]["setting"] == record["own"]
    assert None in [c["score_so_far"] for c in record["rounds"][0]["candidates"]]
    json.dumps(record, allow_nan=False)


def test_a_killed_tuning_goes_on_where_it_stopped(tmp_path, trained):
    whole = tune("a2c", [BANDIT, OTHER], 30 * ONE, tmp_path / "whole", go_on, RATES)
    calls, interrupted = len(trained), tmp_path / "interrupted"
    for stop in range(1, 5):
        assert tune("a2c", [BANDIT, OTHER], 30 * ONE, interrupted, lambda done, *_: done < stop, RATES) is None  # noqa: B023
    again = tune("a2c", [BANDIT, OTHER], 30 * ONE, interrupted, go_on, RATES)
    assert again == whole
    assert len(trained) == 2 * calls  # nothing twice
    assert tune("a2c", [BANDIT, OTHER], 30 * ONE, interrupted, go_on, RATES) == whole
    assert len(trained) == 2 * calls
    tune("dpo", [BANDIT, OTHER], 30 * ONE, interrupted, go_on, RATES)  # nothing is taken for what it is not
    assert len(trained) == 3 * calls - 2  # but random is random


def test_scores_are_put_on_a_scale_of_the_task_and_not_divided_by_nothing():
    scale = Anchors(np.array([0.0, -500.0, 2.0]), np.array([4.0, -100.0, 2.0]))
    np.testing.assert_allclose(scale.normalised(np.array([1.0, -300.0, 3.0])), [0.25, 0.5, 1.0])


def test_mistakes_are_said(tmp_path):
    with pytest.raises(UsageError, match="perhaps you meant ppo"):
        tune("pppo", [BANDIT], 10**9, tmp_path, go_on)
    with pytest.raises(ConfigurationError, match=f"one agent on every validation task takes {ONE}, .* {4 * ONE}"):
        tune("a2c", [BANDIT, OTHER], 4 * ONE - 1, tmp_path, go_on)
    with pytest.raises(ConfigurationError, match=r"no setting 'coefficients.rate'.*coefficients.learning_rate"):
        tune("a2c", [BANDIT], 10**9, tmp_path, go_on, Grid((("coefficients.rate", (1.0,)),)))


def test_every_declared_grid_is_of_settings_that_its_rule_has():
    for name, grid in GRIDS.items():
        own, *rest = grid.settings(zoo.BUILT_IN[name]())
        assert len({own, *rest}) == 1 + len(rest)
        assert own in {*GRIDS[name].settings(zoo.BUILT_IN[name]())}
        assert len(rest) >= 19
        assert fed(zoo.BUILT_IN[name](), grid.paths, own) == zoo.BUILT_IN[name]()
        assert grid.settings(zoo.BUILT_IN[name]()) == [own, *rest]


LEARNS = Grid((("coefficients.learning_rate", (1e-6, 1e-1)), ("optimizer.b2", (0.9,))))


def test_a_candidate_is_the_agent_that_transfer_would_train():
    """Traced settings or written ones: the same agents, to rounding; and one program for all settings and seeds."""
    subject, settings = Subject("a2c", zoo.a2c(), LEARNS), [(1e-2, 0.9), (1e-1, 0.9)]
    candidates._program.cache_clear()
    scores = train(BANDIT, subject, settings, range(1, 11), root=5)  # 20 lanes: two calls, the second filled up
    assert candidates._program.cache_info().currsize == 1
    assert candidates._program(BANDIT, zoo.a2c(), LEARNS.paths)._cache_size() == 1
    expected = train_agents(BANDIT, subject.at(settings[1]), (), 11, seed=5).scores[1:]
    np.testing.assert_allclose(scores[1], expected, rtol=1e-5)
    assert not np.allclose(scores[0], expected)
    np.testing.assert_array_equal(train(BANDIT, subject, settings[1:], range(4, 6), root=5)[0], scores[1, 3:5])


def test_whole_numbers_are_programs_of_their_own(monkeypatch):
    """Which settings are fed to which program, and where their scores go."""
    grid = Grid((("epochs", (1, 2)), ("coefficients.clip", (0.1, 0.2))))
    made = []

    def program(trial, rule, paths):
        made.append((rule.epochs, paths))
        return lambda values, keys: np.repeat(rule.epochs + values, 20, axis=1)

    monkeypatch.setattr(candidates, "_program", program)
    settings = [(2, 0.2), (1, 0.1), (2, 0.1), (1, 0.2)]
    scores = train(BANDIT, Subject("ppo", zoo.ppo(), grid), settings, range(5), root=5)
    np.testing.assert_allclose(scores, np.repeat([[2.2], [1.1], [2.1], [1.2]], 5, axis=1), rtol=1e-6)
    assert made == [(2, ("coefficients.clip",)), (1, ("coefficients.clip",))]


def test_tuning_finds_the_rate_that_learns(tmp_path):
    """On bandits that pay with p and 1 - p, one of the two rates cannot learn in 20 updates."""
    rule, record = tune("a2c", [BANDIT], 26 * BANDIT.env_steps, tmp_path, go_on, LEARNS)
    assert rule.coefficients.learning_rate == 1e-1
    assert record["fresh"]["best_score"] > record["fresh"]["own_score"]
