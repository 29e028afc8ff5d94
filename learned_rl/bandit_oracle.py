"""Exact values of policies for Bernoulli bandits with arms from U(0, 1), by dynamic programming over posteriors."""

import functools


def bayes_optimum(arms: int, pulls: int) -> float:
    """The expected return of the best policy there is. A state is the multiset of the arms' successes and failures."""
    return _value(arms, pulls, best=True)


def greedy(arms: int, pulls: int) -> float:
    """That of the arm with the highest posterior mean, ties to the arm that has been pulled least."""
    return _value(arms, pulls, best=False)


def _value(arms: int, pulls: int, best: bool) -> float:
    @functools.cache
    def value(known: tuple[tuple[int, int], ...], left: int) -> float:
        if not left:
            return 0.0
        choices = sorted(set(known)) + ([(0, 0)] if len(known) < arms else [])

        def pull(arm: tuple[int, int]) -> float:
            s, f = arm
            others = list(known)
            if arm in others:
                others.remove(arm)
            mean = (s + 1) / (s + f + 2)
            won, lost = (tuple(sorted([*others, a])) for a in ((s + 1, f), (s, f + 1)))
            return mean * (1 + value(won, left - 1)) + (1 - mean) * value(lost, left - 1)

        if best:
            return max(map(pull, choices))
        return pull(max(choices, key=lambda a: ((a[0] + 1) / (a[0] + a[1] + 2), -a[0] - a[1])))

    return value((), pulls)
