"""What an experiment refuses to be, and what its loop does when the numbers, the disk or the user say stop."""

import json

import jax
import numpy as np
import pytest

from learned_rl import families
from learned_rl.rule_file import load_rule
from runs import loop
from runs.checkpoints import Checkpoints
from runs.errors import DiskError, NumericalStop
from runs.experiment import Inner, Transfer
from runs.journal import Journal, read_events
from runs.learners import DescentState, Evolution
from runs.signals import StopRequest
from tests.tiny import experiment


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inner": Inner(updates=5, segment=2)}, "inner.segment=2 does not divide inner.updates=5"),
        ({"inner": Inner(updates=6, segment=2)}, "horizon is 2 segments, but a lifetime has 3"),
        ({"checkpoint_every": 5, "report_every": 2}, "checkpoint_every=5 is no multiple of report_every=2"),
        ({"steps": 5, "report_every": 2, "checkpoint_every": 2}, "steps=5 is no multiple of report_every=2"),
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"patience": 0}, "patience=0 must be at least 1"),
        ({"families": ()}, "at least one task family"),
        ({"loaded": ("out/open/rule",)}, "'out/open/rule' is not of the form PART=RULE or PART=RULE#PART_THERE"),
        (
            {"families": (families.catch(), families.catch())},
            r"each once, but there are \['Catch-10x5', 'Catch-10x5'\]",
        ),
    ],
)
def test_sizes_that_contradict_each_other_are_refused_with_both(changes, message):
    with pytest.raises(ValueError, match=message):
        experiment("persistent", **changes)


def test_environment_steps_are_those_of_all_lives_of_all_families():
    one = experiment("persistent")  # 8 lives x 1 segment x 2 updates x 2 streams x 4 steps
    assert one.env_steps_per_step == 8 * 1 * 2 * 2 * 4
    assert experiment("evolution").env_steps_per_step == 8 * 2 * 2 * 2 * 4
    two = experiment("persistent", families=(families.bernoulli_bandit(), families.catch()))
    assert two.env_steps_per_step == 2 * one.env_steps_per_step


class Fake:
    """Programs that count: theta is the number of outer steps, and `dead` says which fraction of lives was dead."""

    compile_seconds = 0.0
    dead = staticmethod(lambda step: 0.0)

    def __init__(self, experiment):
        self.state_shape = jax.eval_shape(lambda: self.birth_of(experiment))
        self.birth = lambda given: self.birth_of(experiment)

    @staticmethod
    def birth_of(experiment):
        theta = jax.tree.map(jax.numpy.zeros_like, experiment.rule.init(jax.random.key(0)))
        return DescentState(theta, (), (), jax.numpy.zeros((), jax.numpy.int32))

    def advance(self, state, first):
        dead = self.dead(first)
        metrics = {"meta/loss": np.nan if dead == 1 else 0.5, "meta/dead": dead}
        return state._replace(theta=jax.tree.map(lambda x: x + 1, state.theta), steps=state.steps + 1), metrics


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(loop, "Programs", Fake)
    monkeypatch.setattr(Fake, "dead", staticmethod(lambda step: 0.0))
    return monkeypatch


def train(folder, stop=None, **changes):
    journal = Journal(folder)
    journal.start(run="r", experiment="e", name="n", params={}, tags={})
    try:
        return loop.train(
            experiment("backprop", **{"steps": 12} | changes), folder, journal, stop or StopRequest(), True
        )
    finally:
        journal.close()


def level(folder):
    """The number of outer steps that the rule in a folder has seen, by its weights and by its record."""
    loaded = load_rule(folder)
    values = {float(x) for leaf in jax.tree.leaves(loaded.theta) for x in np.ravel(leaf)}
    assert values == {float(loaded.record["outer_step"])}
    return loaded.record["outer_step"]


def steps(folder):
    return [e["step"] for e, _ in read_events(folder) if e["kind"] == "metrics"]


def test_lives_that_stay_dead_stop_the_run_with_everything_kept_and_starting_again_changes_nothing(tmp_path, fake):
    fake.setattr(Fake, "dead", staticmethod(lambda step: 1.0 if step in (1, 2) or step >= 5 else 0.25))
    for _ in range(2):
        with pytest.raises(NumericalStop, match="in 3 reports in a row; the state at step 8 is kept") as caught:
            train(tmp_path, patience=3, checkpoint_every=100, steps=100)
        assert caught.value.exit_code == 76
        assert Checkpoints(tmp_path / "checkpoints").steps() == [8]
        assert level(tmp_path / "rule") == 8
        assert steps(tmp_path) == list(range(1, 9))


def test_patience_survives_a_restart(tmp_path, fake):
    fake.setattr(Fake, "dead", staticmethod(lambda step: 0.5))
    for stopped_at in (2, 4):
        stop = StopRequest()
        fake.setattr(Fake, "dead", asks(stop, stopped_at, 0.5))
        assert train(tmp_path, stop, patience=5, checkpoint_every=100, steps=100).step == stopped_at
    with pytest.raises(NumericalStop, match="state at step 5 is kept"):
        train(tmp_path, patience=5, checkpoint_every=100, steps=100)


def asks(stop, last, dead):
    """A fraction of dead lives, and a SIGTERM during step `last`."""

    def advance(step):
        if step == last - 1:
            stop._signal = 15
        return dead

    return staticmethod(advance)


def test_a_full_disk_is_survived_twice_in_a_row_and_not_three_times(tmp_path, fake, caplog):
    save, full = Checkpoints.save, {4, 6, 10}

    def fails(self, step, *rest):
        if step in full:
            raise DiskError(f"saving checkpoint {step} failed")
        save(self, step, *rest)

    fake.setattr(Checkpoints, "save", fails)
    assert train(tmp_path).step == 12
    assert caplog.text.count("training goes on") == 3
    assert Checkpoints(tmp_path / "checkpoints").steps() == [2, 8, 12]
    assert level(tmp_path / "rule") == 12

    (tmp_path / "other").mkdir()
    full |= {8}
    with pytest.raises(DiskError, match="checkpoint 8"):
        train(tmp_path / "other")
    assert Checkpoints(tmp_path / "other" / "checkpoints").steps() == [2]
    full.clear()
    assert train(tmp_path / "other").step == 12
    assert steps(tmp_path / "other") == list(range(1, 13))


def test_the_last_checkpoint_must_be_saved(tmp_path, fake):
    def fails(self, step, *rest):
        raise DiskError("full")

    fake.setattr(Checkpoints, "save", fails)
    with pytest.raises(DiskError):
        train(tmp_path, checkpoint_every=12)


def test_being_asked_to_stop_saves_where_it_is_and_the_rule_goes_with_the_checkpoint(tmp_path, fake):
    stop = StopRequest()
    fake.setattr(Fake, "dead", asks(stop, 5, 0.0))
    assert train(tmp_path, stop, checkpoint_every=100, steps=100).step == 5
    assert Checkpoints(tmp_path / "checkpoints").steps() == [5]
    assert level(tmp_path / "rule-untrained") == 0
    assert train(tmp_path, checkpoint_every=100, steps=100).step == 100
    assert level(tmp_path / "rule") == 100
    assert steps(tmp_path) == list(range(1, 101))
    assert train(tmp_path, checkpoint_every=100, steps=100).step == 100  # done: nothing happens


def test_a_rule_that_is_behind_its_checkpoint_is_written_again(tmp_path, fake):
    train(tmp_path)
    record = (tmp_path / "rule" / "rule.json").read_bytes()
    for file in (tmp_path / "rule").iterdir():
        file.unlink()
    train(tmp_path)
    assert (tmp_path / "rule" / "rule.json").read_bytes() == record
    assert json.loads(record)["record"]["metrics"]["meta/loss"] == 0.5


def test_agents_that_blow_up_stop_a_real_run(tmp_path):
    """An inner learning rate of 1e38: every member's agents end in infinities, and say so in the loss."""
    e = experiment("evolution", inner_rate=1e38, patience=2, outer=Evolution("Open_ES", 4, 2, microbatch=2))
    journal = Journal(tmp_path)
    journal.start(run="r", experiment="e", name="n", params={}, tags={})
    with pytest.raises(NumericalStop, match="in 2 reports in a row"):
        loop.train(e, tmp_path, journal, StopRequest(), quiet=True)
    journal.close()
    values = [event["values"]["meta/dead"] for event, _ in read_events(tmp_path) if event["kind"] == "metrics"]
    assert values == [1.0, 1.0]
    weights = [(tmp_path / rule / "rule.safetensors").read_bytes() for rule in ("rule", "rule-untrained")]
    assert weights[0] == weights[1]  # nobody lived: nothing was learned


def test_transfer_settings_are_checked_where_they_are_made():
    with pytest.raises(ValueError, match="seeds must be at least 1"):
        Transfer(seeds=0)


def test_the_record_of_a_rule_says_in_what_lives_it_was_trained(tmp_path, fake):
    train(tmp_path, steps=2)
    record = load_rule(tmp_path / "rule").record
    assert record["inner"] == {"streams": 2, "steps": 4, "updates": 4, "segment": 2}
    assert record["network"]["body.hidden"] == "4"
    assert record["action_counts"] == [2]
