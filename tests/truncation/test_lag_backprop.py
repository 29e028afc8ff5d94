"""Credit by lag against the closed forms of LQ-20."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import (
    LQ_GRADIENT,
    LQ_THETA,
    LQ_TRUNCATED,
    Chain,
    Inherited,
    LinearQuadratic,
    mean_gradient,
    replicate,
)
from truncation import (
    AnticipatedReweighted,
    Averaged,
    Geometric,
    LagBackprop,
    RussianRoulette,
    SingleSample,
    Sliding,
    TruncatedBackprop,
    Windowed,
)
from truncation.credit import roulette_chances, single_sample_chances
from truncation.lags import by_lag, merged, shifted
from truncation.schedule import Schedule

LQ_SLIDING = {
    5: np.array([150.9582188335, -321.3488553849, 116.4984003594]) / 20,
    10: np.array([145.4703756009, -413.5084351523, 198.6900787475]) / 20,
}
RELATIVE_BIAS = {  # published to three digits, by truncation
    Windowed: {1: 0.804, 2: 0.719, 4: 0.572, 5: 0.508, 10: 0.264},
    Sliding: {1: 0.804, 2: 0.644, 4: 0.408, 5: 0.324, 10: 0.097},
}
LADDER = (1, 2, 4, 8, 12, 16, 20)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def influences():
    """dL_t/dθ_τ of LQ-20, `[t, τ, 3]`, by matrix powers in NumPy."""
    a = 0.8 * np.eye(4) + 0.15 * np.eye(4, k=1)
    b = np.cos(1 + np.arange(4.0)[:, None] + 2 * np.arange(3.0)[None, :])
    s, table = np.sin(1.0 + np.arange(4.0)), np.zeros((20, 20, 3))
    for t in range(20):
        s = a @ s + b @ LQ_THETA
        for tau in range(t + 1):
            table[t, tau] = b.T @ np.linalg.matrix_power(a, t - tau).T @ (s - 0.5)
    return table


LAG = np.subtract.outer(np.arange(20), np.arange(20))


def of_lq20(credit, window=20, **settings):
    estimator = LagBackprop(20, window, 20 // window, credit, **settings)
    return mean_gradient(estimator, LinearQuadratic(), jnp.array(LQ_THETA), jax.random.key(0))


def test_the_table_of_influences_adds_up_to_the_published_gradient():
    np.testing.assert_allclose(influences().sum((0, 1)) / 20, LQ_GRADIENT, atol=1e-8)


@pytest.mark.parametrize("remat", [False, True])
def test_hard_truncation_has_its_published_gradients(remat):
    for length, gradient in LQ_TRUNCATED.items():
        np.testing.assert_allclose(of_lq20(Windowed(length), remat=remat), gradient, atol=1e-8)
    for length, gradient in LQ_SLIDING.items():
        np.testing.assert_allclose(of_lq20(Sliding(length), remat=remat), gradient, atol=1e-8)
    np.testing.assert_allclose(of_lq20(Sliding(10), window=5), LQ_TRUNCATED[5], atol=1e-8)


@pytest.mark.parametrize("kind", RELATIVE_BIAS)
def test_hard_truncation_has_its_published_bias(kind):
    for length, published in RELATIVE_BIAS[kind].items():
        bias = np.linalg.norm(of_lq20(kind(length)) - LQ_GRADIENT) / np.linalg.norm(LQ_GRADIENT)
        np.testing.assert_allclose(bias, published, atol=5.01e-4)


def test_soft_weights_are_those_of_the_closed_form():
    table = influences()
    discounted = (np.where(LAG >= 0, 0.9 ** np.maximum(LAG, 0), 0)[..., None] * table).sum((0, 1)) / 20
    np.testing.assert_allclose(of_lq20(Geometric(0.9)), discounted, atol=1e-8)
    np.testing.assert_allclose(of_lq20(Geometric(1.0)), LQ_GRADIENT, atol=1e-8)
    np.testing.assert_allclose(of_lq20(Geometric(0.0)), LQ_TRUNCATED[1], atol=1e-8)
    weights = 0.8 ** np.arange(20) / np.sum(0.8 ** np.arange(20))
    averaged = (weights[:, None] * table.sum(1)).sum(0)
    np.testing.assert_allclose(of_lq20(Averaged(0.8)), averaged, atol=1e-8)
    in_windows = sum(
        weights[:5] / weights[:5].sum() @ table[head : head + 5, head : head + 5].sum(1) for head in range(0, 20, 5)
    )
    np.testing.assert_allclose(of_lq20(Averaged(0.8), window=5), in_windows / 4, atol=1e-8)


def deltas():
    """The credit of the lags of each rung."""
    edges = (0, *LADDER)
    table = influences()
    return [table[(low <= LAG) & (high > LAG)].sum(0) / 20 for low, high in zip(edges, LADDER, strict=False)]


RUNGS = [np.sum(delta**2) for delta in deltas()]
RANDOM = {  # with the published variance of one life, in units of ‖G‖², where there is one
    "ARTBP .05": (AnticipatedReweighted(0.05), 0.044),
    "ARTBP .1": (AnticipatedReweighted(0.1), 0.106),
    "ARTBP .2": (AnticipatedReweighted(0.2), 0.330),
    "single sample": (SingleSample(LADDER, single_sample_chances(RUNGS, LADDER)), 0.480),
    "roulette": (RussianRoulette(LADDER, roulette_chances(RUNGS, LADDER)), 0.281),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_truncation_is_unbiased_with_the_published_variance(name):
    credit, published = RANDOM[name]
    n = 20_000
    estimator = LagBackprop(20, 20, 1, credit)
    samples = replicate(estimator, LinearQuadratic(), jnp.array(LQ_THETA), jax.random.key(1), 1, n)
    error = samples.std(axis=0, ddof=1) / np.sqrt(n)
    assert np.all(np.abs(samples.mean(axis=0) - LQ_GRADIENT) <= 4 * error)
    variance = samples.var(axis=0).sum() / np.sum(LQ_GRADIENT**2)
    np.testing.assert_allclose(variance, published, rtol=0.05)


def test_telescopes_have_their_closed_form_variance_and_cost():
    single, roulette = RANDOM["single sample"][0].chances, RANDOM["roulette"][0].chances
    square = np.sum(LQ_GRADIENT**2)
    # Published from a simulation, whose error is about a percent.
    np.testing.assert_allclose(np.sum(np.array(RUNGS) / single) / square - 1, 0.480, rtol=0.01)
    np.testing.assert_allclose(np.dot(single, LADDER), 3.86, atol=5e-3)
    np.testing.assert_allclose(np.dot(roulette, np.diff(LADDER, prepend=0)), 7.53, atol=5e-3)


@pytest.mark.parametrize("window", [1, 2, 7, 16, 20])
def test_merged_rows_are_differences_of_windows_that_end_together(window):
    def rows(transfers):
        whole = Schedule(window, window)
        return by_lag(LinearQuadratic(), whole, jnp.array(LQ_THETA), None, jax.random.key(0), transfers).rows

    table = influences()[:window, :window]
    blocks = rows(merged(window))
    for row in range(len(blocks)):
        piece = (window - 1 - np.arange(window)) // 2**row
        together = (piece[:, None] == piece)[..., None] * table
        np.testing.assert_allclose(blocks[: row + 1].sum(0), together.sum((0, 1)) / window, atol=1e-10)
    np.testing.assert_allclose(blocks.sum(0), table.sum((0, 1)) / window, atol=1e-10)
    for exponent in range(3):
        shallow = rows(merged(window, 2**exponent))
        np.testing.assert_allclose(shallow, blocks[: exponent + 1], atol=1e-10)
        assert len(shallow) == min(exponent + 1, len(blocks))


def test_a_terminal_loss_is_cut_into_blocks_of_1_1_2_4_and_so_on():
    row, rows = 0, []
    for s in range(15, 0, -1):  # where an adjoint that enters at the end stands
        rows.append(row)
        row = int(np.flatnonzero(merged(16)[s, :, row])[0])
    assert np.bincount([*rows, row]).tolist() == [1, 1, 2, 4, 8]


@pytest.mark.parametrize(("horizon", "window"), [(12, 12), (12, 3), (7, 3)])
def test_no_weight_keeps_a_birth_out_of_its_own_segment(horizon, window):
    # θ acts at birth alone, t - birth boundaries before the loss of segment t: hard, soft and by lag.
    ages = [(t % horizon, t % window) for t in range(horizon * window)]
    seen = [age <= place for age, place in ages]
    soft = [0.5**age * (age <= place) for age, place in ages]
    near = [age < min(2, place + 1) for age, place in ages]
    for credit, expected in [
        (Windowed(window), seen),
        (Geometric(1.0), seen),
        (Geometric(0.5), soft),
        (Sliding(2), near),
    ]:
        estimator = LagBackprop(horizon, window, 1, credit, stagger=False)
        gradient = mean_gradient(estimator, Inherited(), jnp.array(0.3), jax.random.key(1), estimates=horizon)
        np.testing.assert_allclose(gradient, np.mean(expected), atol=1e-12)


def test_full_credit_is_truncated_backprop_on_a_nonlinear_life():
    theta, key = jnp.array(0.7), jax.random.key(2)
    plain = mean_gradient(TruncatedBackprop(16, 5, 3), Chain(width=5), theta, key, 3)
    for remat in (False, True):
        ours = mean_gradient(LagBackprop(16, 5, 3, Windowed(5), remat=remat), Chain(width=5), theta, key, 3)
        np.testing.assert_allclose(ours, plain, rtol=1e-10)


def test_an_adjoint_that_overflows_where_it_is_dropped_breaks_nothing():
    class Explosive(Chain):
        def advance(self, theta, life, key):
            # The adjoint grows as it leaves the segment: once is finite, and twice is dropped by a window of two.
            return super().advance(theta, 1e300 * (life - jax.lax.stop_gradient(life)) + life, key)

    gradient = mean_gradient(LagBackprop(6, 6, 1, Sliding(2)), Explosive(2), jnp.array(0.7), jax.random.key(0))
    assert np.isfinite(gradient)
    assert gradient != 0  # which would be that of a masked life


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sliding(0), "length=0: at least 1"),
        (lambda: Geometric(1.5), r"decay=1.5 is not in \[0, 1\]"),
        (lambda: Averaged(0.0), r"decay=0.0 is not in \(0, 1\]"),
        (lambda: AnticipatedReweighted(1.0), r"stop=1.0 is not in \[0, 1\)"),
        (lambda: SingleSample((1, 2), (0.5, 0.4)), r"sum\(chances\)=0.9 is not 1"),
        (lambda: SingleSample((2, 1), (0.5, 0.5)), "not an increasing sequence"),
        (lambda: RussianRoulette((1, 2), (0.5, 0.4)), "chances=.* is not 1 and never increasing"),
        (lambda: RussianRoulette((1, 2), (1.0,)), "not one number in .* each of the 2 rungs"),
        (lambda: LagBackprop(4, 2, 0, Sliding(1)), "lives=0"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    assert shifted(3, 2).shape == (3, 2, 2)
