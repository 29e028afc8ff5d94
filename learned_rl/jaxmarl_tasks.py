"""Games with others who learn: JaxMARL environments as task families. The only file that imports jaxmarl, optional.

The agent plays one role of a game; each other role is a `partners.Partner`, which learns from every step by its own
reward. An episode of the agent is a *meeting*: `rounds` episodes of the game with the same partners, who begin each
meeting as the task says, with the habits they were born with, and learn while it lasts. Tasks differ in these habits
and in how fast partners learn; what a good agent does depends on both, and on what it has already taught them.

The end of a round is a step like any other: what it leads to is the next round's first observation. The end of a
meeting terminates.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from learned_rl.libraries import library, outside, strong, typed_as
from learned_rl.partners import Lesson, Partner, act, born, learn
from learned_rl.samplers import Constant, Sampler
from learned_rl.types import Discrete, TimeStep


class Company(NamedTuple):
    """One task: partners as they are born, leaves `[partners, ...]`, and how fast they learn."""

    partners: Partner
    rate: Float[Array, ""]


class Meeting(NamedTuple):
    """The state of one stream.

    Attributes:
      game: the environment's.
      seen: what each partner sees, `[partners, n]`.
      partners: as they are now.
      rounds: how many are over.
    """

    game: PyTree
    seen: Float[Array, "partners n"]
    partners: Partner
    rounds: Int[Array, ""]


@dataclass(frozen=True)
class JaxMARLFamily:
    """One game with discrete actions.

    Attributes:
      env_id: JaxMARL's name, e.g. `MPE_simple_spread_v3`.
      rate: of the partners' learning; at 0 they keep their habits.
      rounds: of the game in one meeting.
      role: number of the agent among the game's.

    Raises:
      ValueError: no rounds, or no such role; or, when it is first used: no such game, one whose other roles differ in
        what they see or can do, or no jaxmarl.
    """

    env_id: str
    rate: Sampler = Constant(0.0)
    rounds: int = 8
    role: int = 0
    label: str = ""

    def __post_init__(self):
        if self.rounds < 1 or self.role < 0:
            raise ValueError(f"rounds ({self.rounds}) must be at least 1, role ({self.role}) at least 0")

    @property
    def name(self) -> str:
        return self.label or f"{self.env_id}-x{self.rounds}"

    @property
    def obs_shape(self) -> tuple[int, ...]:
        return (_game(self.env_id, self.role).seen,)

    @property
    def actions(self) -> Discrete:
        return Discrete(_game(self.env_id, self.role).actions)

    def draw(self, key: PRNGKeyArray) -> Company:
        game = _game(self.env_id, self.role)
        key_rate, key_born = jax.random.split(key)
        keys = jax.random.split(key_born, len(game.others))
        partners = jax.vmap(lambda key: born(key, game.partner_seen, game.partner_actions))(keys)
        return Company(partners, jnp.asarray(self.rate(key_rate), jnp.float32))

    def reset(self, task: Company, key: PRNGKeyArray) -> tuple[Meeting, Float[Array, " n"]]:
        game = _game(self.env_id, self.role)
        obs, state = game.env.reset(key)
        seen, others = game.views(obs)
        return Meeting(strong(state), others, task.partners, jnp.zeros((), jnp.int32)), seen

    def step(
        self, task: Company, state: Meeting, action: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Meeting, TimeStep]:
        game = _game(self.env_id, self.role)
        key_act, key_game, key_round = jax.random.split(key, 3)
        chosen = jax.vmap(act)(state.partners, state.seen, jax.random.split(key_act, len(game.others)))
        actions = {name: chosen[i] for i, name in enumerate(game.others)} | {game.own: action}
        obs, following, rewards, dones, _ = game.env.step_env(key_game, state.game, actions)
        over = jnp.asarray(dones["__all__"], bool)
        following = typed_as(following, state.game)
        earned = jnp.stack([jnp.asarray(rewards[name], jnp.float32) for name in game.others])
        lessons = Lesson(state.seen, chosen, earned, jnp.broadcast_to(over, earned.shape), game.views(obs)[1])
        partners = jax.vmap(learn, (0, None, 0))(state.partners, task.rate, lessons)
        new_obs, new_game = game.env.reset(key_round)
        begun = (typed_as(new_game, state.game), game.views(new_obs))
        here, (seen, others) = jax.tree.map(lambda a, b: jnp.where(over, a, b), begun, (following, game.views(obs)))
        rounds = state.rounds + over
        last = rounds >= self.rounds
        return Meeting(here, others, partners, rounds), TimeStep(
            reward=jnp.asarray(rewards[game.own], jnp.float32),
            discount=1.0 - last.astype(jnp.float32),
            last=last,
            next_obs=seen,
        )


class Game(NamedTuple):
    """An environment with its roles told apart."""

    env: Any
    own: str
    others: tuple[str, ...]
    seen: int
    actions: int
    partner_seen: int
    partner_actions: int

    def views(self, obs: dict[str, Array]) -> tuple[Float[Array, " n"], Float[Array, "partners m"]]:
        """What the agent sees, and what each other one does, flattened."""
        flat = {name: jnp.asarray(obs[name], jnp.float32).ravel() for name in (self.own, *self.others)}
        return flat[self.own], jnp.stack([flat[name] for name in self.others])


@cache
def _game(env_id: str, role: int) -> Game:
    jaxmarl = library("jaxmarl", "jaxmarl")
    if env_id not in jaxmarl.registered_envs:
        raise ValueError(f"jaxmarl has no game {env_id!r}; it has {', '.join(sorted(jaxmarl.registered_envs))}")
    with outside():
        env = jaxmarl.make(env_id)
        if role >= len(env.agents):
            raise ValueError(f"{env_id} has roles 0 to {len(env.agents) - 1}, not {role}")
        own, others = env.agents[role], tuple(name for i, name in enumerate(env.agents) if i != role)
        obs, _ = jax.eval_shape(env.reset, jax.random.key(0))
        spaces = {name: env.action_space(name) for name in env.agents}
    if not others or not all(hasattr(space, "n") for space in spaces.values()):
        raise ValueError(f"{env_id}: only games of several roles with discrete actions can be played here")
    kinds = {(obs[name].size, int(spaces[name].n)) for name in others}
    if len(kinds) > 1:
        raise ValueError(f"{env_id}: the roles other than {own} differ in what they see or can do")
    ((partner_seen, partner_actions),) = kinds
    return Game(env, own, others, obs[own].size, int(spaces[own].n), partner_seen, partner_actions)
