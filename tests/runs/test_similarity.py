"""Distances between tasks: closed forms, copies, chains; transfer; a correlation that is found where there is one."""

import csv
import json
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.families import empty_rooms
from learned_rl.given_tasks import Given, Reordered
from learned_rl.networks import MLP, Network
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from runs import catalogue, cli
from runs.similarity import embedding, episodes, gains, policies, sets, study, values
from runs.similarity.correlation import correlation, ordered_pairs, spearman
from runs.similarity.sets import TaskSet
from runs.trials import Trial
from tests.probes import Probe


@dataclass(frozen=True)
class Arms(Probe):
    """Two steps, a random cue in sight; action a pays `task[a]`."""

    length: int = 2

    def reward(self, task, state, action):
        return task[action]


ARMS = {"one": (1.0, 0.0), "a copy": (1.0, 0.0), "nearly": (1.0, 0.2), "even": (0.6, 0.6), "other": (0.0, 1.0)}
TASKS = TaskSet(
    Trial(Arms(), Network(MLP((4,))), streams=8, steps=4, updates=60),
    tuple(ARMS),
    jnp.asarray([*ARMS.values()]),
    horizon=5,
    rule=ActorCritic(Coefficients(learning_rate=0.05)),
)


@pytest.fixture(scope="module")
def shared():
    return values.random_policies(TASKS.lifetime(TASKS.tasks[0]).policy, 12)


@pytest.fixture(scope="module")
def v(shared):
    return values.values(TASKS, shared, streams=2000)


@pytest.fixture(scope="module")
def agents():
    return policies.trained(TASKS, range(4))


@pytest.fixture(scope="module")
def earned(agents):
    return policies.returns(TASKS, agents, range(4))


def closed_form(shared):
    """v_k(A): the mean over cues of sum_t gamma^t E[r], t = 0, 1, by the probabilities that the networks give."""
    policy = TASKS.lifetime(TASKS.tasks[0]).policy
    obs = jnp.asarray([[cue, time] for cue in (-1.0, 1.0) for time in (0.0, 1.0)])
    logits = jax.vmap(lambda p: policy.act(p, (), obs, jnp.zeros(4, bool))[1].policy.logits)(shared)
    expected = jnp.einsum("koa,na->nko", jax.nn.softmax(logits), TASKS.tasks)
    return np.asarray(expected @ jnp.asarray([0.5, 0.5 * 0.99, 0.5, 0.5 * 0.99]))


def test_values_and_their_distance_are_those_of_the_closed_form(shared, v):
    exact = closed_form(shared)
    np.testing.assert_allclose(v, [exact, exact], atol=0.06)  # 2000 episodes: 4 standard errors of 0.014
    apart = np.sqrt(np.mean((exact[:, None] - exact[None]) ** 2, axis=-1)) / exact.std(axis=-1).mean()
    np.testing.assert_allclose(values.distance(v), apart, atol=0.05)
    assert apart.max() > 0.5
    by_rank = np.sort(exact, axis=-1)
    apart = np.sqrt(np.mean((by_rank[:, None] - by_rank[None]) ** 2, axis=-1)) / exact.std(axis=-1).mean()
    np.testing.assert_allclose(values.quantiles(v), apart, atol=0.05)


def test_only_the_first_episode_counts_and_is_discounted():
    rollout = embedding.Rollout(
        *[None] * 2,
        reward=jnp.asarray([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]]),
        discount=None,
        last=jnp.asarray([[False, True], [True, False], [False, True]]),
        next_obs=None,
        behaviour_log_prob=None,
    )
    np.testing.assert_allclose(episodes.first_return(rollout, 0.5), [2.0, 1.0])


def test_noise_of_values_does_not_count_as_distance():
    """Squares of one noisy estimate would be 2 of its variances above the truth; the product of two is not."""
    rng = np.random.default_rng(0)
    v = np.repeat(rng.normal(size=(1, 1, 20_000)), 2, axis=1) + 0.5 * rng.normal(size=(2, 2, 20_000))
    assert np.sqrt(np.mean((v[0, 0] - v[0, 1]) ** 2)) > 0.7
    assert values.distance(v)[0, 1] < 0.1


def test_the_random_policies_are_the_same_ones_and_differ(shared):
    few = values.random_policies(TASKS.lifetime(TASKS.tasks[0]).policy, 3)
    for a, b in zip(jax.tree.leaves(few), jax.tree.leaves(shared), strict=True):
        np.testing.assert_array_equal(a, b[:3])
    assert all(np.abs(x[0] - x[1]).min() > 0 for x in jax.tree.leaves(shared))


def test_agents_are_as_far_apart_as_what_they_learned_is_useless(earned):
    """One learned arm 0, which pays 0 in `other`: there it earns as much less than chance as natives earn more."""
    assert earned.shape == (6, 5)
    np.testing.assert_allclose(earned[5], [1.0, 1.0, 1.2, 1.2, 1.0], atol=0.3)  # newborn: chance, two steps
    assert np.all(earned[[0, 1, 2], 0] > 1.85)
    d = policies.distance(earned)
    np.testing.assert_allclose(np.diag(d)[[0, 1, 2, 4]], 0)
    assert d[0, 1] == pytest.approx(0, abs=0.1)
    assert d[0, 4] == pytest.approx(2, abs=0.2)
    assert d[4, 0] == pytest.approx(2, abs=0.2)
    assert d[3, 0] == pytest.approx(1, abs=0.8)  # even pays the same for everything
    assert np.all(np.isnan(d[:, 3]))  # where nothing is to be learned, nothing can be compared
    assert np.all(np.isfinite(d[3, [0, 1, 2, 4]]))


def test_agents_from_a_near_task_start_ahead_and_from_an_opposite_one_behind(agents, earned):
    gain = gains.gain(gains.areas(TASKS, agents, range(4)), policies.scale(earned))
    assert gain[0, 1] > 0.1
    assert gain[2, 0] > 0.1
    assert gain[0, 4] < -0.1
    assert gain[4, 0] < -0.1
    assert np.all(np.isnan(gain[:, 3]))


def test_embeddings_of_copies_lie_together_and_of_growing_shifts_ever_further_apart(shared, monkeypatch):
    monkeypatch.setattr(embedding, "STEPS", 300)
    monkeypatch.setattr(embedding, "ENCODERS", 2)
    chain = jnp.asarray([[1.0, 0.0], [1.0, 0.0], [1.3, 0.0], [1.8, 0.0], [2.6, 0.0]])
    tasks = TaskSet(TASKS.trial, tuple("abcde"), chain, horizon=5)
    data = embedding.transitions(tasks, shared, streams=40)
    assert data.x.shape == (3, 5, 12 * 40 * 5, 4)
    np.testing.assert_allclose([np.mean(data.y[..., 2]), np.std(data.y[..., 2])], [0, 1], atol=1e-3)
    d = embedding.distance(embedding.embeddings(data))
    np.testing.assert_allclose(d, d.T, atol=1e-6)
    np.testing.assert_array_equal(np.diag(d) < 1e-3 + 0.2 * d[0, 4], True)
    assert d[0, 1] < 0.5 * d[0, 2]
    assert d[0, 2] < d[0, 3] < d[0, 4]
    assert np.all(np.diff(values.distance(values.values(tasks, shared, 200))[0, 1:]) > 0)


def test_given_tasks_are_drawn_and_reordered_actions_do_what_others_did():
    family = Reordered(empty_rooms())
    task, order = family.draw(jax.random.key(0))
    np.testing.assert_array_equal(order, range(4))
    turned = (task, jnp.asarray([1, 2, 3, 0]))
    state, obs = family.reset(turned, jax.random.key(1))
    for action in range(4):
        ours, _ = family.step(turned, state, jnp.int32(action), jax.random.key(2))
        theirs, _ = empty_rooms().step(task, state, jnp.int32((action + 1) % 4), jax.random.key(2))
        assert ours.place == theirs.place
    given = Given(family, turned)
    assert given.draw(jax.random.key(3)) is turned
    assert (given.name, given.obs_shape, given.actions) == (family.name, obs.shape, family.actions)


def test_every_set_is_of_tasks_that_differ():
    for name in catalogue.task_sets():
        tasks = getattr(sets, name)()
        rows = [np.concatenate([np.ravel(x[i]) for x in jax.tree.leaves(tasks.tasks)]) for i in range(len(tasks))]
        assert len({row.tobytes() for row in rows}) == len(tasks) == len({*tasks.names}) >= 4  # 12 ordered pairs
        assert tasks.lifetime(jax.tree.map(lambda x: x[0], tasks.tasks)).updates == tasks.trial.updates
    usual = sets.cartpole().tasks.params
    np.testing.assert_allclose(usual.force_mag, [10, 20, 5, -5, -10, 10, 10, -10])
    np.testing.assert_allclose(usual.polemass_length, usual.masspole * usual.length)
    np.testing.assert_allclose(usual.length, [0.5] * 5 + [0.15, 1.5, 1.5])


def matrices(seed, coupling, n=8):
    rng = np.random.default_rng(seed)
    place = rng.normal(size=(n, 2))
    d = np.linalg.norm(place[:, None] - place[None], axis=-1)
    return d, -coupling * d + rng.normal(size=(n, n))


def rho(d, t):
    return float(spearman(*(ordered_pairs(m, np.arange(len(m))[None]) for m in (d, t)))[0])


def test_rank_correlation_is_scipys_and_ignores_the_diagonal_and_what_is_unknown():
    from scipy import stats

    d, t = matrices(0, 0.5)
    t = np.round(t, 1)  # ties
    off = ~np.eye(8, dtype=bool)
    np.fill_diagonal(t, 1e9)
    assert rho(d, t) == pytest.approx(stats.spearmanr(d[off], t[off]).statistic, abs=1e-12)
    t[:, 3] = np.nan
    known = off & np.isfinite(t)
    assert rho(d, t) == pytest.approx(stats.spearmanr(d[known], t[known]).statistic, abs=1e-12)
    assert correlation([(d, t)], resamples=10).pairs == 49
    tasks = np.array([3, 0, 0, 5, 6])
    some = [m[np.ix_(tasks, tasks)][tasks[:, None] != tasks[None]] for m in (d, d**3)]
    assert spearman(*(ordered_pairs(m, tasks[None]) for m in (d, -(d**3))))[0] == pytest.approx(-1)
    assert np.isfinite(ordered_pairs(d, tasks[None])).sum() == some[0].size == 18


def test_a_distance_that_tells_transfer_is_found_and_one_that_does_not_is_not():
    d, t = matrices(1, 3.0)
    strong = correlation([(d, t)], resamples=300)
    assert strong.rho.point < -0.7
    assert strong.rho.high < -0.4
    assert strong.p < 0.01
    assert correlation([(d, -d)], resamples=50).rho.point == pytest.approx(-1)
    assert correlation([(d, d)], resamples=50).p == 1
    p = np.array([correlation([matrices(seed, 0.0)], resamples=60).p for seed in range(100)])
    assert 0.0 < np.mean(p <= 0.1) < 0.2  # 0.1, with a standard error of 0.03
    inside = [correlation([matrices(seed, 0.0)], resamples=60).rho for seed in range(40)]
    assert np.mean([r.low <= 0 <= r.high for r in inside]) > 0.8


def test_sets_are_compared_within_and_never_with_each_other():
    """Far tasks with little transfer in one set, near ones with much in the other, and no relation within either."""
    (d1, t1), (d2, t2) = matrices(2, 0.0), matrices(3, 0.0)
    together = correlation([(d1 + 100, t1 - 100), (d2, t2)], resamples=50)
    assert together.rho.point == pytest.approx((rho(d1, t1) + rho(d2, t2)) / 2)
    with pytest.raises(ValueError, match="all the same"):
        correlation([(np.ones((4, 4)), np.ones((4, 4)))])


def test_the_command_writes_all_that_it_measured(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    measured = study.Measured(
        ("a", "b", "c", "d"), {"policies": rng.random((4, 4)), "values": rng.random((4, 4))}, rng.normal(size=(4, 4))
    )
    monkeypatch.setattr(study, "measure", lambda tasks, seeds: measured)
    words = ["similarity", "--tasks", "rooms", "--out", str(tmp_path), "--json", str(tmp_path / "s.json"), "--quiet"]
    assert cli.main(words) == 0
    rows = [*csv.DictReader((tmp_path / "distances.csv").read_text().splitlines())]
    assert len(rows) == 2 * 16
    assert {"distance": "values", "set": "rooms", "from": "b", "to": "c"}.items() <= rows[16 + 6].items()
    assert float(rows[16 + 6]["value"]) == measured.distances["values"][1, 2]
    gains_written = [*csv.DictReader((tmp_path / "transfer.csv").read_text().splitlines())]
    assert float(gains_written[6]["gain"]) == measured.gain[1, 2]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["values"]["rooms"]["pairs"] == 12
    assert json.loads((tmp_path / "s.json").read_text())["correlation"] == summary
    for figure in ("heat-rooms.png", "scatter.png"):
        assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")
    assert "| policies | " in capsys.readouterr().out


def test_an_unknown_set_is_bad_usage(capsys):
    assert cli.main(["similarity", "--tasks", "roms"]) == 2
    assert "perhaps you meant rooms" in capsys.readouterr().err
    assert cli.main(["similarity", "--seeds", "0"]) == 2
