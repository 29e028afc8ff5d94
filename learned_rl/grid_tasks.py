"""Procedural grid worlds: objects that pay, may end the episode and may come back (Oh et al. 2020, appendix; Jackson
et al. 2023).

An object of a kind pays `reward` when it is walked onto, ends the episode then with probability `ends`, is gone, and
comes back with probability `returns` in every later step. Walls and places are drawn once a life, as are the values of
each kind. Actions: stay, up, right, down, left; a wall or the border turns a step into staying.

    r = sum_i c_i reward_i,   terminated ~ Bernoulli(1 - prod_i (1 - ends_i)^c_i),
    present_i' = present_i and not c_i, or not present_i and Bernoulli(returns_i)

with c_i = 1 where a present object i is at the place that the step leads to. An episode that does not terminate is cut
after `length` steps, as drawn for the life.

Departures: 5 actions that collect what they walk onto, as in Jackson et al., where Oh et al. have 18, some of which
collect; no clock in the observation, which Jackson et al. append.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from learned_rl.goal_tasks import MOVES
from learned_rl.layouts import Layout, maze, open_floor
from learned_rl.samplers import Constant, Sampler
from learned_rl.types import Discrete, TimeStep


@dataclass(frozen=True)
class Kind:
    """A kind of object; what it is like is drawn once a life.

    Attributes:
      reward: what each pays.
      ends: probability that taking one ends the episode.
      returns: probability per step that one that was taken comes back.
      count: how many there are.
    """

    reward: Sampler
    ends: Sampler = Constant(0.0)
    returns: Sampler = Constant(0.0)
    count: int = 1

    def draw(self, key: PRNGKeyArray) -> Float[Array, "3"]:
        """Reward, ends, returns."""
        samplers = (self.reward, self.ends, self.returns)
        return jnp.stack([jnp.float32(draw(k)) for draw, k in zip(samplers, jax.random.split(key, 3), strict=True)])


class GridTask(NamedTuple):
    """What stays the same for a life: of `k` objects, by number. Places are row * size + column."""

    walls: Bool[Array, "size size"]
    start: Int[Array, ""]
    places: Int[Array, " k"]
    reward: Float[Array, " k"]
    ends: Float[Array, " k"]
    returns: Float[Array, " k"]
    length: Int[Array, ""]


class GridState(NamedTuple):
    """Where the agent is, where which objects are, and how many steps of the episode are over."""

    place: Int[Array, ""]
    places: Int[Array, " k"]
    present: Bool[Array, " k"]
    time: Int[Array, ""]


@dataclass(frozen=True)
class GridWorld:
    """Objects have their places for a life; the observation is one-hot, so that a linear network is a table.

    One state is a place and which objects are present: `size^2 2^k` of them, k objects.

    Attributes:
      size: cells along a side.
      length: steps after which an episode is cut; an integer.
      kinds: of objects.
      layout: draws the walls.
      label: what it is called.

    Raises:
      ValueError: too small, nothing to find, an even size for a maze, or more objects than there is room for.
    """

    size: int
    length: Sampler
    kinds: tuple[Kind, ...]
    layout: Layout = open_floor
    label: str = "Grid"

    def __post_init__(self):
        if self.size < 2 or not self.kinds or min(kind.count for kind in self.kinds) < 1:
            raise ValueError(f"size must be at least 2, and there must be objects: {self}")
        if self.layout is maze and self.size % 2 == 0:
            raise ValueError(f"the size of a maze must be odd, not {self.size}")
        # What a maze leaves free; one that comes back at random needs a place where no other is or was.
        if 2 * self.objects + 2 > 2 * ((self.size + 1) // 2) ** 2 - 1:
            raise ValueError(f"{self.objects} objects are too many for {self.size} x {self.size} cells")

    @property
    def name(self) -> str:
        return f"{self.label}-{self.size}x{self.size}"

    @property
    def objects(self) -> int:
        return sum(kind.count for kind in self.kinds)

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return (self.size**2 * 2**self.objects,)

    @property
    def actions(self) -> Discrete:
        return Discrete(len(MOVES))

    def draw(self, key: PRNGKeyArray) -> GridTask:
        key_walls, key_places, key_length, *keys = jax.random.split(key, 3 + len(self.kinds))
        walls = self.layout(key_walls, self.size)
        start, places = self._scatter(key_places, ~walls.ravel())
        drawn = jnp.stack([kind.draw(key) for kind, key in zip(self.kinds, keys, strict=True)])
        values = jnp.repeat(
            drawn, np.array([kind.count for kind in self.kinds]), axis=0, total_repeat_length=self.objects
        )
        length = jnp.asarray(self.length(key_length), jnp.int32)
        reward, ends, returns = values.T
        return GridTask(walls, start, places, reward, ends, returns, length)

    def reset(self, task: GridTask, key: PRNGKeyArray) -> tuple[GridState, Float[Array, "*obs"]]:
        del key
        state = GridState(task.start, task.places, jnp.ones(self.objects, bool), jnp.zeros((), jnp.int32))
        return state, self._observe(task, state)

    def step(
        self, task: GridTask, state: GridState, action: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[GridState, TimeStep]:
        key_end, key_return, key_place = jax.random.split(key, 3)
        place = self._moved(task, state.place, action)
        taken = state.present & (state.places == place)
        back = ~state.present & jax.random.bernoulli(key_return, task.returns)
        goes_on = jnp.prod(jnp.where(taken, 1.0 - task.ends, 1.0))
        terminated = jax.random.uniform(key_end) >= goes_on
        following = GridState(place, state.places, (state.present & ~taken) | back, state.time + 1)
        following = following._replace(places=self._placed(task, following, back, key_place))
        return following, TimeStep(
            reward=jnp.sum(jnp.where(taken, task.reward, 0.0)),
            discount=1.0 - terminated.astype(jnp.float32),
            last=terminated | (following.time >= task.length),
            next_obs=self._observe(task, following),
        )

    def best_return(self, task: GridTask) -> Float[Array, ""]:
        """The largest expected undiscounted return of an episode for somebody who knows the task, by enumeration.

            V_0 = 0,   V_{t+1}(s) = max_a r(s, a) + P(goes on | s, a) sum_s' p(s' | s, a, goes on) V_t(s')

        over all places and all sets of present objects, t = 1 .. `length`.
        """
        sets = jnp.asarray(_sets(self.objects))
        place = jax.vmap(jax.vmap(self._moved, (None, None, 0)), (None, 0, None))(
            task, jnp.arange(self.size**2), jnp.arange(len(MOVES))
        )
        taken = sets & (place[..., None, None] == task.places)
        reward = jnp.sum(jnp.where(taken, task.reward, 0.0), axis=-1)
        goes_on = jnp.prod(jnp.where(taken, 1.0 - task.ends, 1.0), axis=-1)
        there = jnp.where(taken, 0.0, jnp.where(sets, 1.0, task.returns))[..., None, :]  # chance of being present next
        chance = jnp.prod(jnp.where(sets, there, 1.0 - there), axis=-1)

        def backwards(_: int, value: Float[Array, "places sets"]) -> Float[Array, "places sets"]:
            return jnp.max(reward + goes_on * jnp.einsum("pasn,pan->pas", chance, value[place]), axis=1)

        start = jnp.zeros((self.size**2, len(sets)))
        return jax.lax.fori_loop(0, task.length, backwards, start)[task.start, -1]

    def _scatter(self, key: PRNGKeyArray, free: Bool[Array, " cells"]) -> tuple[Int[Array, ""], Int[Array, " k"]]:
        """One free cell for the agent and one for each object, no two the same."""
        order = jnp.argsort(jnp.where(free, jax.random.uniform(key, free.shape), jnp.inf)).astype(jnp.int32)
        return order[0], order[1 : 1 + self.objects]

    def _placed(self, task: GridTask, state: GridState, back: Bool[Array, " k"], key: PRNGKeyArray) -> Int[Array, " k"]:
        """Where objects are, after those of `back` came back."""
        del task, back, key
        return state.places

    def _moved(self, task: GridTask, place: Int[Array, ""], action: Int[Array, ""]) -> Int[Array, ""]:
        here = jnp.stack(jnp.divmod(place, self.size))
        row, column = jnp.clip(here + jnp.array(MOVES, jnp.int32)[action], 0, self.size - 1)
        return jnp.where(task.walls[row, column], place, row * self.size + column)

    def _observe(self, task: GridTask, state: GridState) -> Float[Array, "*obs"]:
        present = jnp.sum(jnp.where(state.present, 2 ** jnp.arange(self.objects), 0))
        return jax.nn.one_hot(present * self.size**2 + state.place, self.obs_shape[0])


@dataclass(frozen=True)
class RandomGridWorld(GridWorld):
    """Objects are anywhere: drawn anew for every episode, and where one comes back.

    What there is to know is on the floor, so the observation is a picture of it, `[size, size, 2 + kinds]`: the agent,
    walls, and objects of each kind.
    """

    label: str = "RandomGrid"

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return (self.size, self.size, 2 + len(self.kinds))

    def reset(self, task: GridTask, key: PRNGKeyArray) -> tuple[GridState, Float[Array, "*obs"]]:
        place, places = self._scatter(key, ~task.walls.ravel())
        state = GridState(place, places, jnp.ones(self.objects, bool), jnp.zeros((), jnp.int32))
        return state, self._observe(task, state)

    def best_return(self, task: GridTask) -> Float[Array, ""]:
        raise NotImplementedError("its states are too many to be enumerated")

    def _placed(self, task: GridTask, state: GridState, back: Bool[Array, " k"], key: PRNGKeyArray) -> Int[Array, " k"]:
        """Where one comes back is free, the agent is not there, and no object is or was last."""
        free = (~task.walls.ravel()).at[state.places].set(False).at[state.place].set(False)
        return jnp.where(back, self._scatter(key, free)[1], state.places)

    def _observe(self, task: GridTask, state: GridState) -> Float[Array, "*obs"]:
        cells = jnp.zeros((self.size**2, 2 + len(self.kinds)))
        kind = np.repeat(np.arange(len(self.kinds)), [kind.count for kind in self.kinds])
        cells = cells.at[state.place, 0].set(1.0).at[:, 1].set(task.walls.ravel())
        return cells.at[state.places, 2 + kind].max(state.present.astype(jnp.float32)).reshape(self.obs_shape)


def _sets(objects: int) -> Bool[np.ndarray, "sets objects"]:
    """Every set of present objects; the last one has all."""
    return (np.arange(2**objects)[:, None] >> np.arange(objects)) % 2 == 1
