"""Parts of theta that stay as they are, and parts that come from elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl.rule_file import save_rule
from learned_rl.rules.drift import Drift, LearnedDrift
from learned_rl.rules.schedule import Schedule
from runs.errors import ConfigurationError, UsageError
from runs.learners import Evolution, GradientDescent
from runs.parts import Partly, Source, loaded, part, source, with_parts
from runs.programs import Programs
from tests.probes import noisy
from tests.tiny import experiment
from truncation import PersistentES, TruncatedBackprop
from truncation.problem import Segment

THETA = {"rule": {"body": jnp.ones(3), "head": jnp.full(2, 2.0)}, "optimizer": jnp.full(2, 3.0)}


class Bowl:
    """Half the squared norm of theta, whatever the life."""

    def start(self, theta, key):
        return jnp.zeros(())

    def advance(self, theta, life, key):
        return life, Segment(0.5 * sum(jnp.sum(x**2) for x in jax.tree.leaves(theta)), {})


LEARNERS = {
    "backprop": GradientDescent(TruncatedBackprop(horizon=2, window=1, lives=2)),
    "persistent": GradientDescent(PersistentES(horizon=2, window=1, lives=8, std=0.1)),
    "evolution": Evolution("Open_ES", population=8, horizon=2),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_what_is_frozen_stays_to_the_bit_and_every_other_leaf_moves(name):
    learner, problems = Partly(LEARNERS[name], ("rule.head", "optimizer")), [("bowl", Bowl())]

    @jax.jit
    def run(key):
        state = learner.init(problems, THETA, key)
        after, metrics = learner.step(problems, state, key)
        return learner.theta(state), learner.theta(after), metrics

    before, after, metrics = run(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, before, THETA)
    np.testing.assert_array_equal(after["rule"]["head"], THETA["rule"]["head"])
    np.testing.assert_array_equal(after["optimizer"], THETA["optimizer"])
    assert (after["rule"]["body"] != THETA["rule"]["body"]).all()
    # The loss is that of the whole theta: 3 x 1 + 2 x 4 + 2 x 9, halved.
    np.testing.assert_allclose(metrics["meta/loss"], 14.5, rtol=0.05)


def test_the_gradient_of_what_is_left_is_the_one_it_would_have_had():
    estimator, key = TruncatedBackprop(horizon=2, window=1, lives=2), jax.random.key(0)
    whole, rest = GradientDescent(estimator, max_norm=1e9), Partly(GradientDescent(estimator, max_norm=1e9), ("rule",))
    problems = [("bowl", Bowl())]
    ends = [one.theta(one.step(problems, one.init(problems, THETA, key), key)[0]) for one in (whole, rest)]
    np.testing.assert_array_equal(*(end["optimizer"] for end in ends))


@pytest.mark.parametrize(
    ("frozen", "said"),
    [
        (("optimiser",), "there is no part 'optimiser'; perhaps you meant optimizer; there are: rule, optimizer"),
        (("rule.body.x",), "'rule.body.x': there is no part 'x'; there are: no parts with names"),
        (("rule", "optimizer"), "with rule, optimizer frozen nothing is left to learn"),
    ],
)
def test_what_cannot_be_frozen_is_said_with_the_nearest_name(frozen, said):
    with pytest.raises(ConfigurationError, match=said):
        Partly(LEARNERS["backprop"], frozen).init([("bowl", Bowl())], THETA, jax.random.key(0))


def test_a_source_is_read_with_and_without_a_part():
    assert source("base.optimizer=models:/open/1#optimizer") == Source("base.optimizer", "models:/open/1", "optimizer")
    assert source("=out/rule") == Source("", "out/rule", "")


@pytest.fixture
def saved(tmp_path):
    rule = Schedule(Drift(drift=LearnedDrift(hidden=2)), hidden=4, learned=("learning_rate", "entropy"))
    theta = noisy(rule.init, jax.random.key(1))
    save_rule(rule, theta, tmp_path / "rule")
    return rule, theta, str(tmp_path / "rule")


def test_a_run_starts_from_loaded_parts_and_learns_the_rest(saved):
    rule, theta, folder = saved
    sources = (f"base={folder}#base", f"schedule.offset={folder}#schedule.offset")
    e = experiment("backprop", rule=rule, frozen=("base",), loaded=sources)
    programs = Programs(e)
    given = loaded(e.sources, programs.theta_shape, None)
    state = programs.birth(given)
    first = jax.device_get(e.learner.theta(state))
    jax.tree.map(np.testing.assert_array_equal, first["base"], theta["base"])
    np.testing.assert_array_equal(first["schedule"]["offset"], theta["schedule"]["offset"])
    assert not np.array_equal(first["schedule"]["inward"], theta["schedule"]["inward"])
    last = e.learner.theta(programs.advance(state, 0)[0])
    jax.tree.map(np.testing.assert_array_equal, last["base"], theta["base"])
    assert (last["schedule"]["offset"] != theta["schedule"]["offset"]).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base={}", "as 'base': inward is missing there, and float32.8, 2. here"),
        ("schedule={}#base", "as 'schedule': bias is missing there, and float32.4. here"),
        ("schedule={}#sched", "loaded: .*: 'sched': there is no part 'sched'; perhaps you meant schedule"),
        ("shedule={}", "loaded: 'shedule': there is no part 'shedule'; perhaps you meant schedule"),
    ],
)
def test_parts_that_do_not_fit_are_refused_with_both_shapes(saved, text, said):
    rule, _, folder = saved
    like = jax.eval_shape(rule.init, jax.random.key(0))
    with pytest.raises(ConfigurationError, match=said):
        loaded([source(text.format(folder))], like, None)


def test_a_rule_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="ppoo"):
        loaded([source("base=ppoo")], {"base": ()}, None)


def test_parts_are_put_where_they_are_found():
    assert part(with_parts(THETA, {"rule.head": 7}), "rule.head") == 7
    assert with_parts(THETA, {"": 7}) == 7
