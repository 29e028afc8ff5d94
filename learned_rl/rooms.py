"""Four rooms in which what is worth going for is hidden, and stays the same for a life (Zheng et al. 2020).

An episode cannot be a good one before earlier ones have found out what there is. A learned reward can tell an agent to
go and see, and then what to go for.

Four square rooms behind walls of width 1, a door in each of the four walls, on a grid of `size` x `size`, `size` odd.
Every episode begins in the corner of the first room; the four actions move up, right, down and left, and against a wall
nowhere. The observation is one-hot: where one is, times what one carries, so a linear network is a table. What lies
where is shown to nobody. Layout and sizes are ours: the paper has them in a drawing.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from learned_rl.types import Discrete, TimeStep


class RoomState(NamedTuple):
    """Where the agent is (row * size + column), what it carries, and the steps that this episode has had."""

    place: Int[Array, ""]
    phase: Int[Array, ""]
    time: Int[Array, ""]


class Entered(NamedTuple):
    """What entering a place does."""

    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    phase: Int[Array, ""]


@cache
def walls(size: int) -> Bool[np.ndarray, "size size"]:
    """Where one cannot be. Doors are in the middle of each room's side."""
    wall, half = np.zeros((size, size), bool), size // 2
    wall[half, :] = wall[:, half] = True
    for door in (half // 2, size - 1 - half // 2):
        wall[half, door] = wall[door, half] = False
    return wall


@dataclass(frozen=True)
class Rooms:
    """What all tasks in four rooms have in common; a family says what entering a place does, in `enter`.

    Attributes:
      size: side of the grid, odd, 5 or more.
      length: steps after which an episode is cut: its time limit.
      order: which action moves up, right, down and left: a permutation of 0 .. 3.

    Raises:
      ValueError: one of them is out of range.
    """

    size: int = 5
    length: int = 30
    order: tuple[int, int, int, int] = (0, 1, 2, 3)
    phases = 1
    actions = Discrete(4)

    def __post_init__(self):
        if self.size < 5 or self.size % 2 == 0 or self.length < 1:
            raise ValueError(f"size ({self.size}) must be odd and at least 5, length ({self.length}) at least 1")
        if sorted(self.order) != [0, 1, 2, 3]:
            raise ValueError(f"order={self.order} is no permutation of 0, 1, 2, 3")

    @property
    def name(self) -> str:
        return f"{type(self).__name__}-{self.size}x{self.size}"

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return (self.phases * self.size**2,)

    @property
    def corners(self) -> tuple[int, int, int]:
        """The far corners of the second, third and fourth room: top right, bottom right, bottom left."""
        return self.size - 1, self.size**2 - 1, self.size**2 - self.size

    def draw(self, key: PRNGKeyArray) -> Array:
        raise NotImplementedError

    def enter(self, task: Array, place: Int[Array, ""], phase: Int[Array, ""]) -> Entered:
        """What entering `place` does to an agent in `phase`."""
        raise NotImplementedError

    def reset(self, task: Array, key: PRNGKeyArray) -> tuple[RoomState, Float[Array, " n"]]:
        zero = jnp.zeros((), jnp.int32)
        return RoomState(zero, zero, zero), self._observe(zero, zero)

    def step(
        self, task: Array, state: RoomState, action: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[RoomState, TimeStep]:
        place = self._moved(state.place, action)
        reward, terminated, phase = self.enter(task, place, state.phase)
        # Who stays where it was, at a wall, has entered nothing.
        still = place == state.place
        reward, terminated = jnp.where(still, 0.0, reward), terminated & ~still
        following = RoomState(place, jnp.where(still, state.phase, phase), state.time + 1)
        return following, TimeStep(
            reward=reward,
            discount=1.0 - terminated.astype(jnp.float32),
            last=terminated | (following.time >= self.length),
            next_obs=self._observe(following.place, following.phase),
        )

    def best_return(self, task: Array) -> Float[Array, ""]:
        """The largest undiscounted return of an episode for somebody who knows the task, by enumeration.

        V_0 = 0,   V_{k+1}(s) = max_a r(s, a) + d(s, a) V_k(s'),   of all places and phases, k = 1 .. `length`.
        """
        place, phase = jnp.meshgrid(jnp.arange(self.size**2), jnp.arange(self.phases))
        states = RoomState(place, phase, jnp.zeros_like(place))

        def step(state: RoomState, action: Array) -> tuple[RoomState, TimeStep]:
            return self.step(task, state, action, jax.random.key(0))

        every = jax.vmap(jax.vmap(jax.vmap(step, (None, 0)), (0, None)), (0, None))
        following, out = every(states, jnp.arange(4))

        def backwards(value: Array, _: None) -> tuple[Array, None]:
            return jnp.max(out.reward + out.discount * value[following.phase, following.place], axis=-1), None

        value, _ = jax.lax.scan(backwards, jnp.zeros(place.shape), length=self.length)
        return value[0, 0]

    def _moved(self, place: Int[Array, ""], action: Int[Array, ""]) -> Int[Array, ""]:
        return jnp.asarray(_neighbours(self.size))[place, jnp.asarray(np.argsort(self.order), jnp.int32)[action]]

    def _observe(self, place: Int[Array, ""], phase: Int[Array, ""]) -> Float[Array, " n"]:
        return jax.nn.one_hot(phase * self.size**2 + place, self.obs_shape[0])


@cache
def _neighbours(size: int) -> Int[np.ndarray, "places 4"]:
    """Where up, right, down and left lead from every place."""
    row, column = np.divmod(np.arange(size**2)[:, None], size)
    to_row, to_column = row + np.array([-1, 0, 1, 0]), column + np.array([0, 1, 0, -1])
    inside = (np.minimum(to_row, to_column) >= 0) & (np.maximum(to_row, to_column) < size)
    to_row, to_column = np.clip(to_row, 0, size - 1), np.clip(to_column, 0, size - 1)
    free = inside & ~walls(size)[to_row, to_column]
    return np.where(free, to_row * size + to_column, np.arange(size**2)[:, None]).astype(np.int32)


@dataclass(frozen=True)
class EmptyRooms(Rooms):
    """An invisible goal, anywhere but where episodes begin, pays 1 and terminates the episode."""

    def draw(self, key: PRNGKeyArray) -> Int[Array, ""]:
        free = np.flatnonzero(~walls(self.size).ravel())[1:]
        return jax.random.choice(key, jnp.asarray(free, jnp.int32))

    def enter(self, task: Array, place: Int[Array, ""], phase: Int[Array, ""]) -> Entered:
        found = place == task
        return Entered(found.astype(jnp.float32), found, phase)


LOW, HIGH = (-1.0, -0.5, 0.0), (1.0, 0.0, 0.5)  # what A, B and C may pay


@dataclass(frozen=True)
class RandomABC(Rooms):
    """Objects A, B and C in the far corners of the other rooms; the first that is taken pays and ends the episode.

    A ~ U[-1, 1], B ~ U[-0.5, 0], C ~ U[0, 0.5], drawn once a life: A must be tried, C is never bad, B never good.
    Clockwise: A, B, C.
    """

    def draw(self, key: PRNGKeyArray) -> Float[Array, " 3"]:
        return jax.random.uniform(key, (3,), minval=jnp.asarray(LOW), maxval=jnp.asarray(HIGH))

    def enter(self, task: Array, place: Int[Array, ""], phase: Int[Array, ""]) -> Entered:
        here = place == jnp.asarray(self.corners)
        return Entered(jnp.sum(jnp.where(here, task, 0.0)), jnp.any(here), phase)


@dataclass(frozen=True)
class KeyBox(RandomABC):
    """As `RandomABC`, but A, B and C are in boxes, and a box opens to who has the key, which costs 0.1 an episode.

    The key lies in the first room, off the way out of it. It is there again in every episode; a box that is entered
    without it is a place like any other. All that an agent can know of taking the key, for long, is what it costs.
    """

    phases = 2
    cost = 0.1

    @property
    def key_place(self) -> int:
        """The last place of the first room's upper row."""
        return self.size // 2 - 1

    def enter(self, task: Array, place: Int[Array, ""], phase: Int[Array, ""]) -> Entered:
        pay, opened, _ = super().enter(task, place, phase)
        opened = opened & (phase == 1)
        taken = (place == self.key_place) & (phase == 0)
        reward = jnp.where(opened, pay, 0.0) - jnp.where(taken, self.cost, 0.0)
        return Entered(reward, opened, jnp.where(taken, 1, phase))
