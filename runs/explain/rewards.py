"""An intrinsic reward as a map: what stepping into each place of four rooms pays, at birth and after one place paid."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from learned_rl.distributions import Categorical
from learned_rl.networks import MLP, Network
from learned_rl.rooms import EmptyRooms, walls
from learned_rl.rules.intrinsic.reward import IntrinsicReward
from learned_rl.rules.intrinsic.rule import Intrinsic
from learned_rl.types import Heads, Memory, Rollout, Theta
from runs.explain.explanation import Explanation, heat, panels

ROOMS = EmptyRooms(5)
VISITS = 5


def intrinsic(rule: Intrinsic, theta: Theta) -> Iterator[Explanation]:
    """Nothing where the reward has no room for a place of the rooms or for four actions."""
    reward, its = rule.reward, theta["reward"] if theta else ()
    room, actions = getattr(reward, "observation", 25), getattr(reward, "action", 0)
    if room < ROOMS.obs_shape[0] or 0 < actions < ROOMS.actions.count:
        return
    before, after = maps(reward, its)
    change = after - before
    figure, axes = panels(1, 3)
    titles = ("at birth", f"after {VISITS} visits to the far corner, paid 1", "change")
    for axis, z, title in zip(axes[0], (before, after, change), titles, strict=True):
        heat(axis, np.arange(5), np.arange(5), np.where(walls(5), np.nan, z), title, _limit(z))
        axis.set(xticks=[], yticks=[], aspect="equal")
        axis.invert_yaxis()
    free = ~walls(5)
    corner = change[-1, -1]
    elsewhere = np.delete(change[free], -1)
    says = (
        f"Intrinsic reward (weight {rule.intrinsic:g}) for stepping into each place of four rooms: "
        f"{before[free].min():.3g} to {before[free].max():.3g} at birth; after {VISITS} visits to the far corner, each "
        f"paid 1, it changes there by {corner:+.3g} and elsewhere by {elsewhere.mean():+.3g} on average."
    )
    yield Explanation("reward", says, {"at birth": before, "after": after}, figure)


def maps(reward: IntrinsicReward, theta: Theta) -> tuple[Float[np.ndarray, "5 5"], Float[np.ndarray, "5 5"]]:
    """What each place pays an agent that has lived through nothing, and one whom the far corner paid."""
    policy = Network(MLP((4,))).build(ROOMS.obs_shape, ROOMS.actions, Heads())
    count = ROOMS.size**2
    born = reward.start(theta, policy, jax.random.key(0))

    def paid(memory: Memory) -> np.ndarray:
        def place(i: Any) -> Any:
            # One action at a time: several streams would be several visits.
            return jnp.mean(jax.vmap(lambda a: reward.pay(theta, memory, _step(i, a, 0.0))[0])(jnp.arange(4)))

        return np.asarray(jax.jit(jax.vmap(place))(jnp.arange(count))).reshape(5, 5)

    def visit(memory: Memory, _: None) -> tuple[Memory, None]:
        return reward.pay(theta, memory, _step(jnp.asarray(count - 1), jnp.asarray(1), 1.0))[1], None

    after, _ = jax.lax.scan(visit, born, length=VISITS)
    return paid(born), paid(after)


def _step(place: Any, action: Any, reward: float) -> Rollout:
    """One step of one stream, `[1, 1]`, that ends up in `place`; the episode ends where it is paid."""
    obs = jax.nn.one_hot(place, ROOMS.obs_shape[0])[None, None]
    paid = jnp.full((1, 1), reward)
    return Rollout(
        obs=obs, action=action[None, None], reward=paid, discount=1 - paid, last=paid > 0, next_obs=obs,
        behaviour_log_prob=jnp.full((1, 1), -np.log(4)), behaviour=Categorical(jnp.zeros((1, 1, 4))),
    )  # fmt: skip


def _limit(z: np.ndarray) -> float:
    return float(np.max(np.abs(z[~walls(5)])))
