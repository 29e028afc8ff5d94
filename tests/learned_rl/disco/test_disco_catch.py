"""The published evaluation: frozen Disco103 teaches a newborn agent Catch."""

import jax
import pytest

from tests.learned_rl.disco import catch_run, recorded

SEEDS = range(5)


@pytest.mark.slow
@recorded.needs_weights
def test_the_published_rule_learns_catch():
    """At least 0.95 caught over updates 950-1000, for at least 4 of 5 seeds."""
    rule, theta = recorded.published()
    window = jax.jit(lambda theta, run, key: catch_run.window(rule, theta, run, key), donate_argnums=1)
    rates = []
    for seed in SEEDS:
        key = jax.random.key(seed)
        run = jax.jit(lambda key: catch_run.start(rule, theta, key))(key)
        for _ in range(1000 // catch_run.WINDOW):
            run, rate, _ = window(theta, run, key)
        rates.append(float(rate))
        print(f"seed {seed}: {rates[-1]:.3f} caught")
    assert sum(rate >= 0.95 for rate in rates) >= 4, rates
