"""`learned-rl transfer RULE --guard`: what is compared then, and what cannot be."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from learned_rl import zoo
from learned_rl.rules.guard import Guard
from runs.cli import main
from runs.transfer import Contender, guarded

ASKED = ["--suite", "smoke", "--against", "a2c", "--seeds", "2", "--quiet"]


@pytest.fixture
def contenders(tmp_path, monkeypatch):
    """Of the last plan that was let through to be compared, instead of comparing it."""
    found = {}

    def compared(plan, *_):
        found.update({c.name: c for c in plan.contenders})
        return {}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("runs.evaluation.compared", compared)
    monkeypatch.setattr("runs.recording.MlflowSink", lambda *_: SimpleNamespace(close=lambda timeout: 0))
    return found


def test_the_guarded_rule_stands_beside_the_rule_with_its_theta(contenders):
    assert main(["transfer", "ppo", *ASKED, "--guard", "a2c"]) == 0
    assert list(contenders) == ["ppo", "ppo-guarded", "a2c", "random"]
    assert contenders["ppo-guarded"].rule == Guard(zoo.ppo(), zoo.a2c())


def test_each_rule_keeps_its_own_theta():
    both = guarded(Contender("mine", zoo.a2c(), jnp.ones(2)), Contender("yours", zoo.ppo(), jnp.zeros(3)))
    assert both.name == "mine-guarded"
    assert {name: np.shape(theta) for name, theta in both.theta.items()} == {"base": (2,), "fallback": (3,)}


def test_what_cannot_take_over_or_is_not_there_is_said(contenders, capsys):
    assert main(["transfer", "ppo", *ASKED, "--guard", "rl2-bandit"]) == 2
    assert "--guard rl2-bandit: it cannot take over from ppo: fallback: a RL2 brings" in capsys.readouterr().err
    assert main(["transfer", "ppo", *ASKED, "--guard", "ppp"]) == 2
    assert "ppp" in capsys.readouterr().err
    assert contenders == {}
