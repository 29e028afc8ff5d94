"""What can be earned at best, and by posterior sampling, where a goal is hidden: exact, and in plain Python."""

import functools

import numpy as np

from learned_rl.goal_tasks import GoalGrid, Navigation

NEVER = -0.1  # what a step off the goal pays
MOVES = ((0, 0), (-1, 0), (0, 1), (1, 0), (0, -1))

# `BayesOptimal(GoalGrid(), 4).value()`, which takes a minute: of 5 x 5 cells, 4 episodes of 15 steps.
BAYES_OPTIMAL = 781.5 / 21


def straight_return(tasks: Navigation, goal) -> float:
    """Of walking to a known goal, which is best: each coordinate's distance is as small as can be at every step."""
    position, earned = np.zeros(2), 0.0
    for _ in range(tasks.steps):
        position += np.clip(goal - position, -tasks.step_length, tasks.step_length)
        distance = np.linalg.norm(goal - position)
        earned -= distance
        if distance < tasks.reach:
            break
    return float(earned)


class BayesOptimal:
    """The exact optimum over a trial of `episodes` in a `GoalGrid`, by dynamic programming over beliefs.

    Until the goal is found every observation is certain, so a belief is the set of goals that were not yet visited,
    and a policy is one walk. If it first stands on g at step t (1-based) the trial earns, whatever follows being known,

        F(g, t) = -0.1 (t - 1) + (steps left in this episode, t included) + (episodes left) X(g)
        X(g)    = (steps - d + 1) - 0.1 (d - 1),   d the distance of g from the start

    so the value is the largest sum of F(g, t_g) over walks, divided by the number of goals. A state is
    (cell, visited goals) at step t, and keeps the best sum so far. Branches that cannot reach the value of a
    beam search, even if they found one more goal with every step, are cut: the optimum is never among them.
    """

    def __init__(self, tasks: GoalGrid, episodes: int):
        self.goals, self.steps, self.episodes = tasks.goals, tasks.steps, episodes
        self.bit = {goal: 1 << i for i, goal in enumerate(self.goals)}
        cells = [(row, column) for row in range(tasks.size) for column in range(tasks.size)]
        self.near = {cell: neighbours(cell, tasks.size) for cell in cells}

    @property
    def last(self) -> int:
        return self.steps * self.episodes

    def found(self, goal, t) -> float:
        """F(goal, t)."""
        episode, distance = (t - 1) // self.steps, sum(goal)
        later = max(self.steps - distance + 1, 0) + NEVER * min(distance - 1, self.steps)
        return NEVER * (t - 1) + (self.steps * (episode + 1) - t + 1) + (self.episodes - episode - 1) * later

    @functools.cached_property
    def bound(self):
        """`[t][n]`: no less than what n goals can still add after step t."""
        nearest = min(map(sum, self.goals))
        best = {t: max(self.found(g, t) for g in self.goals) for t in range(1, self.last + 1)}
        best = {t: f for t, f in best.items() if (t - 1) % self.steps + 1 >= nearest}

        def after(t):
            values = [f for s, f in best.items() if s > t] + [NEVER * self.last] * len(self.goals)
            return np.concatenate([[0.0], np.cumsum(values[: len(self.goals)])])

        return [after(t) for t in range(self.last + 1)]

    def walk(self, width=None, least=-np.inf) -> float:
        """The best sum over walks that may reach `least`; with a `width`, over that many states a step only."""
        layer = {((0, 0), 0): 0.0}
        for t in range(1, self.last + 1):
            reached, starts = {}, t % self.steps == 0

            def hope(state, value, t=t):
                return value + self.bound[t][len(self.goals) - state[1].bit_count()]

            for (cell, visited), value in layer.items():
                for there in self.near[cell]:
                    new = self.bit.get(there, 0) & ~visited
                    after = value + self.found(there, t) if new else value
                    state = ((0, 0) if starts else there, visited | new)
                    if reached.get(state, -np.inf) < after and hope(state, after) >= least - 1e-9:
                        reached[state] = after
            best = sorted(reached, key=lambda state: -hope(state, reached[state]))[:width] if width else reached
            layer = {state: reached[state] for state in best}
        return max(v + NEVER * self.last * (len(self.goals) - s[1].bit_count()) for s, v in layer.items())

    def value(self) -> float:
        """The expected return of a trial."""
        return self.walk(least=self.walk(width=1000)) / len(self.goals)


def neighbours(cell, size):
    """Where one action can lead."""
    return sorted({tuple(np.clip(np.add(cell, move), 0, size - 1).tolist()) for move in MOVES})


def posterior_sampling(tasks: GoalGrid, episodes: int, repeated: bool, rng) -> float:
    """The return of one trial of an agent that walks to a goal it draws from its belief, by a random shortest path.

    It draws once an episode (Strens 2000; Osband et al. 2013), or, `repeated`, again whenever the goal it drew turns
    out not to pay, as in figure 1 of Zintgraf et al. 2020, which is much better here.
    """
    goal, left, earned = tasks.goals[rng.integers(len(tasks.goals))], set(tasks.goals), 0.0
    for _ in range(episodes):
        cell, aim = (0, 0), None
        for _ in range(tasks.steps):
            if aim is None or (repeated and aim not in left):
                aim = sorted(left)[rng.integers(len(left))]
            ways = [axis for axis in (0, 1) if aim[axis] != cell[axis]]
            if ways:
                axis, to = ways[rng.integers(len(ways))], list(cell)
                to[axis] += 1 if aim[axis] > cell[axis] else -1
                cell = tuple(to)
            earned += 1.0 if cell == goal else NEVER
            left = {goal} if cell == goal else left - {cell}
    return earned
