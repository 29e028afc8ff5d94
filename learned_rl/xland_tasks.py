"""XLand in jax: xminigrid's worlds as task families. The only file that imports xminigrid, an optional dependency.

A task is a *ruleset*, fixed for a life and shown to nobody: which object is to be reached, and which encounters turn
objects into others. Where objects and the agent stand is drawn in every episode (Nikulin et al. 2023). The published
benchmarks of rulesets are pickles on a server; rulesets are drawn here instead.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, UInt8

from learned_rl.libraries import library, outside, strong, typed_as
from learned_rl.types import Discrete, TimeStep

SHAPES = (3, 4, 5, 7, 11, 12)  # balls, squares, pyramids, keys, hexagons, stars: what can be carried
COLOURS = range(1, 12)
TILES = 13
HOLD, AGENT_NEAR, TILE_NEAR = 1, 2, 3  # xminigrid's numbers of rules; of goals, 1 and 3 are the first two


@dataclass(frozen=True)
class XLandFamily:
    """Worlds of `rooms` rooms in which an object has to be made before it can be reached.

    A ruleset is a chain: `depth` rules, each turning the product of the last one into another object, when the agent
    picks it up, when it stands beside it, or when it lies beside a second object (each with a third of the chances).
    The goal is to pick the last product up, or to stand beside it. The reward is 1 - 0.9 t / length at the goal, which
    terminates an episode; `length` cuts it. No two objects are the same.

    The observation is what lies before the agent, `[view, view, 25]`: 13 kinds and 12 colours of tiles, one-hot. It
    does not see what it carries; agents with a memory know.

    Attributes:
      rooms, size: of the floor: 1, 2, 4, 6 or 9 rooms in sizes that xminigrid has for them.
      depth: rules of a chain; with 0 the goal lies there.
      distractors: objects that nothing comes of.
      length: steps of an episode.

    Raises:
      ValueError: a number out of range; when it is first used: there is no such floor, or no xminigrid.
    """

    rooms: int = 1
    size: int = 9
    depth: int = 1
    distractors: int = 2
    length: int = 80

    def __post_init__(self):
        if self.length < 1 or self.depth < 0 or self.distractors < 0 or self._objects > len(SHAPES) * len(COLOURS):
            raise ValueError(f"length must be positive, depth and distractors at least 0 and few: {self}")

    @property
    def name(self) -> str:
        return f"XLand-R{self.rooms}-{self.size}x{self.size}-depth{self.depth}"

    @property
    def obs_shape(self) -> tuple[int, ...]:
        _, params = self._made
        return (params.view_size, params.view_size, TILES + len(COLOURS) + 1)

    @property
    def actions(self) -> Discrete:
        env, params = self._made
        return Discrete(env.num_actions(params))

    @property
    def _objects(self) -> int:
        """Those in the chain, a second one for each rule, and the distractors."""
        return 2 * self.depth + 1 + self.distractors

    @property
    def _made(self) -> tuple[Any, Any]:
        env, params = _environment(f"XLand-MiniGrid-R{self.rooms}-{self.size}x{self.size}")
        return env, params.replace(max_steps=self.length)

    def draw(self, key: PRNGKeyArray) -> PyTree:
        key_objects, key_rules, key_goal = jax.random.split(key, 3)
        kinds = jnp.array([(shape, colour) for shape in SHAPES for colour in COLOURS], jnp.uint8)
        objects = jax.random.choice(key_objects, kinds, (self._objects,), replace=False)
        chain, seconds = objects[: self.depth + 1], objects[self.depth + 1 : 2 * self.depth + 1]
        rules = jax.random.randint(key_rules, (self.depth,), HOLD, TILE_NEAR + 1)
        none = jnp.zeros((1, 7), jnp.uint8)
        encoded = jax.vmap(_rule)(rules, chain[:-1], seconds, chain[1:]) if self.depth else none
        goal = jnp.where(jax.random.bernoulli(key_goal), 1, 3)
        begin = jnp.concatenate([chain[:1], objects[self.depth + 1 :]])
        encoded_goal = jnp.concatenate([goal[None], chain[-1], jnp.zeros(2)]).astype(jnp.uint8)
        return library("xminigrid.types", "xland").RuleSet(encoded_goal, encoded, begin)

    def reset(self, task: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, "view view 25"]]:
        env, params = self._made
        begun = env.reset(params.replace(ruleset=task), key)
        begun = begun.replace(state=begun.state.replace(key=jax.random.key_data(begun.state.key)))
        return strong(begun), _one_hot(begun.observation)

    def step(self, task: PyTree, state: PyTree, action: Int[Array, ""], key: PRNGKeyArray) -> tuple[PyTree, TimeStep]:
        del key  # nothing in these worlds is by chance
        env, params = self._made
        following = env.step(params.replace(ruleset=task), state, action)
        return typed_as(following, state), TimeStep(
            reward=jnp.asarray(following.reward, jnp.float32),
            discount=jnp.asarray(following.discount, jnp.float32),
            last=following.last(),
            next_obs=_one_hot(following.observation),
        )


def _rule(kind: Int[Array, ""], first: Array, second: Array, product: Array) -> UInt8[Array, " 7"]:
    """xminigrid's encoding; only the rule of two tiles names the second."""
    pair = jnp.concatenate([first, second, product])
    alone = jnp.concatenate([first, product, jnp.zeros_like(second)])
    return jnp.concatenate([kind[None], jnp.where(kind == TILE_NEAR, pair, alone)]).astype(jnp.uint8)


def _one_hot(cells: UInt8[Array, "view view 2"]) -> Float[Array, "view view 25"]:
    layers = (jax.nn.one_hot(cells[..., 0], TILES), jax.nn.one_hot(cells[..., 1], len(COLOURS) + 1))
    return jnp.concatenate(layers, axis=-1)


@cache
def _environment(env_id: str) -> Any:
    xminigrid = library("xminigrid", "xland")
    if env_id not in xminigrid.registered_environments():
        there = ", ".join(x for x in xminigrid.registered_environments() if x.startswith("XLand"))
        raise ValueError(f"xminigrid has no environment {env_id!r}; it has {there}")
    with outside():
        return xminigrid.make(env_id)
