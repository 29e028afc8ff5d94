"""Explanations of rules whose truth is known: closed forms, untrained combinators, hand-made theta."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from learned_rl import zoo
from learned_rl.learned_optimizers.open import Open
from learned_rl.learned_optimizers.residual import Residual
from learned_rl.optimizers import Adam
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.anneal import Anneal
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.disco.meta_network import MetaNetwork
from learned_rl.rules.disco.rule import Disco
from learned_rl.rules.drift import DiscoveredDrift, Drift, LearnedDrift
from learned_rl.rules.intrinsic.learned import LifetimeReward, StateActionReward
from learned_rl.rules.intrinsic.rule import Intrinsic
from learned_rl.rules.lpg import LPG
from learned_rl.rules.metagenrl import MetaGenRL, Seen
from learned_rl.rules.optimised import Optimised
from learned_rl.rules.schedule import Schedule
from learned_rl.rules.self_tuning import SelfTuning
from learned_rl.types import Outputs
from runs.explain import explain, explanations
from runs.explain.drifts import ADVANTAGE, LOG_RATIO
from runs.explain.explanation import without
from runs.explain.objectives import PROBABILITY, REWARD, rollout, two_actions
from runs.explain.optimizers import GRADIENT
from runs.explain.symbolic import sparse_fit

KEY = jax.random.key(0)


def only(rule, theta=None):
    (found,) = explanations(rule, rule.init(KEY) if theta is None else theta)
    return found


def test_ppo_and_dpo_are_drawn_as_their_closed_forms():
    r, a = np.meshgrid(np.exp(LOG_RATIO.astype(float)), ADVANTAGE.astype(float))
    clip = np.maximum((r - np.clip(r, 0.8, 1.2)) * a, 0)
    up, down = (r - 1) * a, np.log(r) * a
    dpo = np.where(a >= 0, np.maximum(up - 2 * np.tanh(up / 2), 0), np.maximum(down - 0.6 * np.tanh(down / 0.6), 0))
    for rule, value, zero in ((zoo.ppo(), clip, "PPO"), (zoo.dpo(), dpo, "DPO")):
        found = only(rule, ())
        np.testing.assert_allclose(found.data["this rule: value"], value, atol=2e-6)
        np.testing.assert_allclose(found.data["PPO: value"], clip, atol=2e-6)
        np.testing.assert_allclose(found.data["DPO: value"], dpo, atol=2e-6)
        assert f"0 from {zero}'s" in found.says
    # PPO's slope is A where the clip bites, else 0; away from its two kinks.
    slope = np.where(clip > 0, a, 0)
    smooth = (np.abs(r - 0.8) > 1e-3) & (np.abs(r - 1.2) > 1e-3) & (a != 0)
    np.testing.assert_allclose(only(zoo.ppo(), ()).data["this rule: slope"][smooth], slope[smooth], atol=1e-5)
    u = (r - 1)[a > 0.01]
    slope = np.where(u > 0, (a * np.tanh(up / 2) ** 2)[a > 0.01], 0)
    np.testing.assert_allclose(only(zoo.dpo(), ()).data["this rule: slope"][a > 0.01], slope, atol=1e-4)


def test_the_formula_of_a_drift_that_is_made_of_declared_terms_is_found():
    columns = {f"x{i}": x for i, x in enumerate(np.random.default_rng(3).normal(size=(6, 3000)))}
    fit = sparse_fit(columns, 0.5 * columns["x1"] - 2.0 * columns["x4"])
    assert fit.terms == pytest.approx({"x4": -2.0, "x1": 0.5})
    assert fit.r2 == pytest.approx(1.0)
    few, noise = {name: x[:60] for name, x in columns.items()}, np.random.default_rng(4).normal(size=(20, 60))
    # Cross-validated: chance correlations are no fit.
    assert np.mean([sparse_fit(few, y).r2 for y in noise]) == pytest.approx(0.0, abs=0.02)
    assert str(sparse_fit(columns, np.zeros(3000))) == "0"
    rule = Drift(LearnedDrift(hidden=4, base=DiscoveredDrift()))
    heat, formula = explanations(rule, rule.init(KEY))  # untrained: DPO's but for 1e-4
    assert "+1 DPO" in formula.says
    assert "R² of 1.000" in formula.says
    assert np.max(np.abs(heat.data["this rule: value"] - heat.data["DPO: value"])) <= 1.01e-4


def test_an_input_that_matters_is_told_from_one_that_does_not():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 8, 4096))
    shares = without(lambda x: 3 * x["a"] + x["b"] + 0 * x["c"], {"a": a, "b": b, "c": a * b})
    assert shares == pytest.approx({"a": 3 / 10**0.5, "b": 1 / 10**0.5, "c": 0.0}, abs=0.02)
    assert without(lambda x: 0 * x["a"] + 5, {"a": a}) == {"a": 0.0}


def test_an_untrained_residual_is_adam_and_adam_is_its_formula():
    found, heat = only(Optimised(ActorCritic(), Residual(Adam(), Open()))), "after"
    for what in ("first", heat):
        np.testing.assert_array_equal(found.data[f"this rule: {what}"], found.data[f"Adam: {what}"])
    g = GRADIENT.astype(float) * 0.5 / np.sqrt(41 * np.sum(GRADIENT.astype(float) ** 2))  # clipped to norm 0.5
    rate = ActorCritic().coefficients.learning_rate
    np.testing.assert_allclose(found.data["Adam: first"], -rate * g / (np.abs(g) + 1e-5), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(found.data["SGD: first"], -rate * GRADIENT, rtol=1e-5)
    np.testing.assert_allclose(np.diag(found.data["Adam: after"]), found.data["Adam: first"], rtol=1e-3, atol=1e-9)
    past, now = np.meshgrid(g, g, indexing="ij")
    first = 0.1 * sum(0.9**k for k in range(1, 11)) * past + 0.1 * now
    second = 1e-3 * sum(0.999**k for k in range(1, 11)) * past**2 + 1e-3 * now**2
    step = -rate * first / (1 - 0.9**11) / (np.sqrt(second / (1 - 0.999**11)) + 1e-5)
    np.testing.assert_allclose(found.data["Adam: after"], step, rtol=2e-3, atol=1e-7)
    assert "at most 0 % of Adam's largest update from Adam" in found.says


def test_schedules_are_their_base_until_they_learn():
    rule = Schedule(ActorCritic(Coefficients(entropy=0.02)))
    theta = rule.init(KEY)
    found = only(rule, theta)
    for name in rule.learned:
        np.testing.assert_allclose(found.data[name], getattr(rule.base.coefficients, name), rtol=1e-6)
    assert "depends on none of its inputs" in found.says
    double = 4.0 * np.arctanh(np.log(2) / 4.0)  # through `reach tanh(u / reach)`
    offset = theta["schedule"]["offset"].at[rule.learned.index("entropy")].set(double)
    theta["schedule"] |= {"offset": offset}
    np.testing.assert_allclose(only(rule, theta).data["entropy"], 0.04, rtol=1e-5)
    line = only(Anneal(), ()).data["learning_rate"]
    np.testing.assert_allclose(line, 3e-3 * np.linspace(1, 0, 51), rtol=1e-5, atol=1e-9)
    start = only(SelfTuning())
    assert start.data["discount"] == pytest.approx(0.99)
    assert "learning_rate starts at 0.003 (0.003 in its base)" in start.says


def test_the_targets_of_lpg_are_asked_where_they_are_drawn():
    rule = LPG(predictions=3, hidden=4)
    theta = rule.init(KEY)
    assert not np.any(only(rule, theta).data["target"])  # a zero output layer
    theta["policy"]["bias"] += 0.7
    np.testing.assert_allclose(only(rule, theta).data["target"], 0.7, rtol=1e-6)
    theta["policy"]["kernel"] = jax.random.normal(KEY, theta["policy"]["kernel"].shape)
    found = only(rule, theta)
    said = Outputs(two_actions(jnp.full((1, 1), PROBABILITY[3])), {"prediction": jnp.zeros((1, 1, 3))}, {})
    cell = rule.targets(theta, rollout(jnp.full((1, 1), REWARD[5])), said, said).policy
    assert found.data["target"][3, 5] == pytest.approx(float(cell[0, 0]), rel=1e-5)
    assert abs(found.data["credit"][0]) > abs(found.data["credit"][10])  # it forgets
    assert np.ptp(found.data["target"]) > 0.01


def test_the_weight_of_metagenrl_is_minus_the_slope_of_its_loss():
    rule = MetaGenRL(hidden=8)
    theta = rule.init(KEY) | {"outward": jax.random.normal(KEY, (8,))}
    found = only(rule, theta)
    zero = jnp.zeros((1, 1))
    seen = Seen(zero + REWARD[30], zero, zero, zero + 0.5, zero)

    def loss(log_prob):
        return float(rule.objective(theta, zero + log_prob, seen, rollout(zero))[0, 0])

    log_prob, h = np.log(PROBABILITY[10]), 1e-2
    slope = (loss(log_prob + h) - loss(log_prob - h)) / (2 * h)
    assert found.data["target"][10, 30] == pytest.approx(-slope, rel=2e-2)


def test_disco_asks_for_uniform_policies_where_its_policy_layer_is_zero():
    rule = Disco(MetaNetwork(predictions=4, hidden=8, lifetime_hidden=4))
    theta = rule.init(KEY)
    assert np.ptp(only(rule, theta).data["target"]) > 0
    theta["trajectory"]["policy"] = jax.tree.map(jnp.zeros_like, theta["trajectory"]["policy"])
    expected = np.log(0.5) - np.log(PROBABILITY)[:, None] + 0 * REWARD
    np.testing.assert_allclose(only(rule, theta).data["target"], expected, atol=1e-5)


def test_a_count_bonus_fades_where_one_has_been_and_untrained_rewards_pay_nothing():
    found = only(zoo.count_bonus(), ())
    np.testing.assert_allclose(found.data["at birth"], 1.0)
    after = np.ones((5, 5))
    after[4, 4] = 6**-0.5  # five visits, and the one that is asked about
    np.testing.assert_allclose(found.data["after"], after, rtol=1e-6)
    for reward in (StateActionReward(8, 25, 4), LifetimeReward(8, 25, 4)):
        assert not np.any(only(Intrinsic(ActorCritic(), reward)).data["after"])
    assert list(explanations(Intrinsic(ActorCritic(), StateActionReward(8, 9, 4)), {"base": (), "reward": ()})) == []


def test_every_part_of_a_rule_is_explained_into_files_that_say_it(tmp_path):
    inner = Optimised(Drift(LearnedDrift(hidden=4)), Residual(Adam(), Open()))
    rule = Schedule(Intrinsic(inner, LifetimeReward(8, 64, 4)))
    files = explain(rule, rule.init(KEY), tmp_path / "explain")
    assert [file.name for file in files] == [
        "schedule.png", "reward.png", "optimizer.png", "drift.png", "drift-formula.png"
    ]  # fmt: skip
    for file in files:
        with Image.open(file) as image:
            says = image.info["Description"]
        assert says.endswith(".")
        assert sum(c.isdigit() for c in says) > 3
        assert file.stat().st_size < 300_000
    assert explain(ActorCritic(), (), tmp_path / "none") == []
    assert dataclasses.is_dataclass(rule)
