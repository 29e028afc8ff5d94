"""The study of learned rewards: what it measures of a life; and, slow, that it runs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl import families
from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.rule_file import load_rule
from learned_rl.rules.none import NoLearning
from runs import catalogue, intrinsic_study
from runs.errors import UsageError
from runs.intrinsic_lives import IN_A_ROW, NEVER, Lived, Streak, life
from runs.intrinsic_study import WORLDS, experiment, grid, learned, row


def test_ten_good_episodes_in_a_row_solve_a_task():
    """An episode of two steps that earns 1, one that earns 0.4, then ten and more good ones."""
    streak = Streak(*map(jnp.asarray, (0.0, 0.0, 0.0, float(NEVER))))
    episodes = [(0.5, 0.5), (0.4, 0.0), *[(0.0, 0.6)] * (IN_A_ROW + 2)]
    rewards = np.ravel(episodes)
    seen = []
    for t, reward in enumerate(rewards):
        streak = streak.step(jnp.asarray(reward), jnp.asarray(t % 2 == 1), jnp.asarray(1.0))
        seen.append(float(streak.solved))
    assert seen[: 2 * (IN_A_ROW + 2) - 1] == [NEVER] * (2 * (IN_A_ROW + 2) - 1)
    assert set(seen[2 * (IN_A_ROW + 2) - 1 :]) == {2.0}


def test_of_a_life_the_last_quarter_counts():
    """Somebody who never learns, in Key-Box: episodes that end by the box and not by time are finished."""
    tasks = families.key_box()
    lifetime = Lifetime(tasks, NoLearning(), Network(MLP(())), streams=1, steps=8, updates=40)
    lived = jax.jit(lambda key: life(lifetime, (), jnp.asarray(1.0), 0.5, key))(jax.random.key(0))
    keys = jax.random.split(jax.random.split(jax.random.key(0))[1], 40)

    def update(agent, key):
        agent, rollout, _ = lifetime.live((), agent, key)
        return agent, (agent.streams.episode_return, rollout.last, rollout.discount)

    agent = lifetime.start((), jax.random.split(jax.random.key(0))[0])
    _, (returns, last, discount) = jax.jit(lambda a: jax.lax.scan(update, a, keys))(agent)
    late = slice(30, None)
    np.testing.assert_allclose(lived.late, np.mean(returns[late]), rtol=1e-5)
    np.testing.assert_allclose(lived.score, np.mean(returns[20:]), rtol=1e-5)
    np.testing.assert_allclose(lived.finished, np.sum(discount[late] == 0) / np.sum(last[late]), rtol=1e-5)
    assert lived.solved == NEVER


def test_a_row_is_a_share_of_the_possible_with_agents_of_a_task_averaged():
    x, solved = np.ones((5, 2)), np.array([[3.0, 5.0]] * 4 + [[NEVER, NEVER]])
    found = row("rooms", "a2c", "", Lived(x, 0.5 * x, 0.25 * x, solved, 2 * x))
    assert found.share == pytest.approx((0.25, 0.25, 0.25))
    assert found.finished == pytest.approx((0.25, 0.25, 0.25))
    assert found.solved == 0.8
    assert found.episodes.point == 5.0
    assert "| 5 [5, " in str(found)
    worthless = row("rooms", "a2c", "", Lived(x, 0.0 * x, x, solved, 0.0 * x))
    assert worthless.share == (0.0, 0.0, 0.0)  # of few tasks, none may be worth anything


def test_the_grid_has_both_optimizers_with_and_without_a_bonus():
    settings = grid()
    assert len({str(s) for s in settings}) == len(settings) == 48
    assert sum(s.numbers.bonus == 0 for s in settings) == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--worlds moon", "invalid choice: 'moon'"),
        ("--worlds abc rooms --rule intrinsic-places", "--rule is for one of --worlds"),
        ("--worlds rooms --rule intrinsic-plazes", "perhaps you meant intrinsic-places"),
    ],
)
def test_bad_usage(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        intrinsic_study.main(words.split())
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_reward_that_was_learned_before_is_taken_as_it_is():
    e = experiment(WORLDS["rooms"], None)
    theta = learned(e, "intrinsic-places")
    jax.tree.map(np.testing.assert_array_equal, theta, load_rule(catalogue.shipped()["intrinsic-places"]).theta)
    with pytest.raises(UsageError, match="the recipe intrinsic-sea learns another rule"):
        learned(experiment(WORLDS["sea"], None), "intrinsic-places")


@pytest.mark.slow
def test_the_study_runs(tmp_path, capsys):
    path = tmp_path / "report.json"
    assert intrinsic_study.main(f"--worlds rooms --steps 1 --tasks 3 --agents 2 --json {path}".split()) == 0
    rows = json.loads(path.read_text())
    assert [r["name"] for r in rows] == ["learned reward", "A2C", "A2C, count bonus"] * 3
    assert all(np.isfinite(r["share"]).all() for r in rows)
    assert "Key-Box 9x9" in capsys.readouterr().out
