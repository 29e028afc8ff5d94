"""Tasks that differ in a hidden goal and in nothing else: the small problems that few-shot learners are measured on."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from learned_rl.types import Continuous, Discrete, TimeStep


class Place(NamedTuple):
    """Where a walker is: coordinates or a cell; and how many steps of the episode are over."""

    position: Num[Array, "..."]
    time: Int[Array, ""]


@dataclass(frozen=True)
class Navigation:
    """A point in the plane that walks from the origin to a goal it does not see (Finn et al. 2017, section 5.3).

        x <- x + step_length clip(a, -1, 1),   r = -|x - goal|,   goal uniform in [-half_width, half_width]^2

    An episode terminates within `reach` of the goal, and is cut after `steps`. The observation is x.

    Departures: the paper writes the squared distance and its published code the distance; it is the distance here. The
    code's reach is a square of half width 0.01, here it is a disc, as the paper says.

    Attributes:
      steps: time limit of an episode.
      half_width: of the square of goals.
      step_length: longest move along one axis.
      reach: distance at which the goal is reached.
    """

    steps: int = 100
    half_width: float = 0.5
    step_length: float = 0.1
    reach: float = 0.01
    obs_shape = (2,)

    def __post_init__(self):
        if self.steps < 1 or min(self.half_width, self.step_length, self.reach) <= 0:
            raise ValueError(f"steps must be at least 1, half_width, step_length and reach positive, not {self}")

    @property
    def name(self) -> str:
        return "Navigation"

    @property
    def actions(self) -> Continuous:
        return Continuous(2, (-self.step_length,) * 2, (self.step_length,) * 2)

    def draw(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        return jax.random.uniform(key, (2,), minval=-self.half_width, maxval=self.half_width)

    def reset(self, task: Float[Array, "2"], key: PRNGKeyArray) -> tuple[Place, Float[Array, "2"]]:
        del key
        return Place(jnp.zeros(2), jnp.zeros((), jnp.int32)), jnp.zeros(2)

    def step(
        self, task: Float[Array, "2"], state: Place, action: Float[Array, "2"], key: PRNGKeyArray
    ) -> tuple[Place, TimeStep]:
        del key
        position = state.position + self.step_length * jnp.clip(action, -1.0, 1.0)
        distance = jnp.linalg.norm(position - task)
        time, reached = state.time + 1, distance < self.reach
        return Place(position, time), TimeStep(
            reward=-distance,
            discount=1.0 - reached.astype(jnp.float32),
            last=reached | (time >= self.steps),
            next_obs=position,
        )

    def best_return(self, task: Float[Array, "2"]) -> Float[Array, ""]:
        """The largest undiscounted return of an episode for somebody who knows the goal, and walks straight to it."""
        key = jax.random.key(0)

        def step(carry: tuple[Place, Array], _: None) -> tuple[tuple[Place, Array], Array]:
            place, playing = carry
            place, out = self.step(task, place, (task - place.position) / self.step_length, key)
            return (place, playing & ~out.last), jnp.where(playing, out.reward, 0.0)

        start, _ = self.reset(task, key)
        return jnp.sum(jax.lax.scan(step, (start, jnp.ones((), bool)), length=self.steps)[1])


@dataclass(frozen=True)
class GoalGrid:
    """A square grid walked from a corner; which cell pays is hidden (Zintgraf et al. 2020, section 5.1).

    Actions: stay, and a step up, right, down, left, which a border turns into staying. Every step pays 1 if it ends on
    the goal and -0.1 if not, so the goal pays for as long as one stays. Episodes never terminate; they are cut after
    `steps`. The goal is uniform over all cells but the start and its neighbours, which any first step would find.

    Departure: the observation is a one-hot code of the cell, in the paper it is its two coordinates.

    Attributes:
      size: cells along a side, at least 3.
      steps: time limit of an episode.
    """

    size: int = 5
    steps: int = 15

    def __post_init__(self):
        if self.size < 3 or self.steps < 1:
            raise ValueError(f"size must be at least 3 and steps at least 1, not {self.size} and {self.steps}")

    @property
    def name(self) -> str:
        return f"GoalGrid-{self.size}x{self.size}"

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return (self.size**2,)

    @property
    def actions(self) -> Discrete:
        return Discrete(len(MOVES))

    @property
    def goals(self) -> tuple[tuple[int, int], ...]:
        """The cells `(row, column)` that may pay."""
        cells = ((row, column) for row in range(self.size) for column in range(self.size))
        return tuple(cell for cell in cells if max(cell) > 1)

    def draw(self, key: PRNGKeyArray) -> Int[Array, "2"]:
        return jax.random.choice(key, jnp.array(self.goals, jnp.int32))

    def reset(self, task: Int[Array, "2"], key: PRNGKeyArray) -> tuple[Place, Float[Array, " cells"]]:
        del key
        start = Place(jnp.zeros(2, jnp.int32), jnp.zeros((), jnp.int32))
        return start, self._observe(start)

    def step(
        self, task: Int[Array, "2"], state: Place, action: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Place, TimeStep]:
        del key
        position = jnp.clip(state.position + jnp.array(MOVES, jnp.int32)[action], 0, self.size - 1)
        state = Place(position, state.time + 1)
        return state, TimeStep(
            reward=jnp.where(jnp.all(position == task), jnp.float32(1.0), jnp.float32(-0.1)),
            discount=jnp.ones(()),
            last=state.time >= self.steps,
            next_obs=self._observe(state),
        )

    def _observe(self, state: Place) -> Float[Array, " cells"]:
        row, column = state.position
        return jax.nn.one_hot(row * self.size + column, self.size**2)


MOVES = ((0, 0), (-1, 0), (0, 1), (1, 0), (0, -1))  # stay, up, right, down, left
