"""Fitness of a whole population of meta-parameters, for strategies that ask and tell."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from truncation.lives import Tally, all_finite, check_microbatch, life_key, on_all_lives, over_lives
from truncation.problem import InnerProblem, Metrics, Theta
from truncation.schedule import Schedule


def evaluate_population(
    problem: InnerProblem, thetas: Theta, horizon: int, repeats: int, key: PRNGKeyArray, microbatch: int = 0
) -> tuple[Float[Array, " population"], Metrics]:
    """Mean segment loss of every member over `repeats` fresh lives of `horizon` segments.

    All members live the same lives: repeat r has the same keys for each of them (common random numbers), so that
    differences between members are due to theta as far as they can be.

    Cost: population * repeats * horizon segments. Memory: microbatch * repeats lives.

    Args:
      problem: the inner problem.
      thetas: meta-parameters, every leaf with a leading axis of members.
      horizon: segments in a lifetime.
      repeats: lives per member.
      key: of this evaluation.
      microbatch: how many members are evaluated at once (0: all).

    Returns:
      Losses, `[population]`; a member with a broken life keeps its non-finite loss, for the caller to judge. And the
      metrics, averaged over finite members; `dead` is the fraction of the others.
    """
    if repeats < 1:
        raise ValueError(f"repeats={repeats}: at least 1 life per member is needed")
    schedule = Schedule(horizon, horizon)
    population = jax.tree.leaves(thetas)[0].shape[0]
    check_microbatch(population, microbatch)

    def member(key: PRNGKeyArray, theta: Theta) -> tuple[Float[Array, ""], Tally]:
        def repeat(index: Int[Array, ""]):
            return schedule.live(problem, (theta, theta), None, life_key(key, index))[1]

        reports = jax.vmap(repeat)(jnp.arange(repeats, dtype=jnp.int32))
        return jnp.mean(reports.loss), Tally.of(reports, all_finite(reports.loss))

    losses, tally = over_lives(member, (key,), thetas, microbatch=microbatch)
    _, metrics = tally.mean(population)
    return on_all_lives(lambda losses: losses, losses), metrics
