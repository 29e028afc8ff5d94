"""A learned reward that remembers places: how often it was there, and the best that ever came of being there."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from learned_rl.layers import mlp, start_mlp
from learned_rl.rules.intrinsic.reward import bucket
from learned_rl.types import Policy, Rollout, Theta

FEATURES = 11
_NEVER = float(jnp.finfo(jnp.float32).min)  # below every return, and finite, as all that an agent carries


class Remembered(NamedTuple):
    """What a life remembers of n places, and of the last n episodes in each of B streams.

    Attributes:
      visits: how often each place was reached.
      best: the largest return of a finished episode that was there, as far as taken in; `_NEVER` before there is one.
      passed: the last episode of each stream that was there, -1 for none.
      returns: of the last n episodes, that under way included, at their number modulo n.
      episode: the number of the one under way.
      earned: its return so far.
      top: the largest return of an episode of this life, `_NEVER` before the first has ended.
    """

    visits: Float[Array, " n"]
    best: Float[Array, " n"]
    passed: Int[Array, "B n"]
    returns: Float[Array, "B n"]
    episode: Int[Array, " B"]
    earned: Float[Array, " B"]
    top: Float[Array, ""]


class Steps(NamedTuple):
    """What the memory takes in of T steps: the places before and after each, in [0, n), and as in `Rollout`."""

    here: Int[Array, "T B"]
    there: Int[Array, "T B"]
    reward: Float[Array, "T B"]
    discount: Float[Array, "T B"]
    last: Bool[Array, "T B"]


@dataclass(frozen=True)
class PlaceReward:
    """r_in_t = tanh(MLP(what this life remembers of the places s_t and s'_t, and of its best episode)).

    The inputs, of which none says what a place looks like:

        N(s')^(-1/2)           N the visits in this life, this one included: with it alone, a count bonus
        log (N(s)+1)/(N(s')+1) how much rarer s' is than s
        first                  whether s' is new to this episode
        r, terminated          of step t
        M(s'), whether it is   the largest return of a finished episode that was there; 0 before there is one
        M(s') - M(s)           the same as a potential (Ng et al. 1999)
        M*, M(s') - M*         the largest return of this life; how far s' is from being on the way there
        e^(-1/2)               e the episodes of this life so far, this one included

    Zheng et al. 2020 read a life with an LSTM (`LifetimeReward`), which has to learn to count, to tell places apart and
    to remember what came of each. Here that is given, and what is learned is what to make of it, whatever observations
    are: some two hundred numbers, few enough for evolution strategies. M is what Go-Explore (Ecoffet et al. 2021) and
    self-imitation (Oh et al. 2018) keep. It is optimistic where rewards are random.

    The output layer starts at zero, so that the agent starts as one without it. Places are told apart by the hash of
    `CountBonus`; where an episode begins is not counted as reached. What came of an episode is known when it has ended,
    and M takes it in when the place is met again, if fewer than `buckets` episodes later. What several streams meet at
    the same step is taken in together.

    Attributes:
      hidden: width of the layer.
      buckets: places, and latest episodes of a stream, that a life remembers.
      resolution: steps of an observation's numbers that count as different, per unit.
      scale: divides rewards.
      streams: room for streams; fewer leave the rest unused.
    """

    hidden: int = 16
    buckets: int = 4096
    resolution: float = 1.0
    scale: float = 1.0
    streams: int = 16

    def __post_init__(self):
        if min(self.hidden, self.buckets, self.streams) < 1 or min(self.resolution, self.scale) <= 0:
            raise ValueError(f"hidden, buckets, streams must be at least 1, resolution and scale positive: {self}")

    def init(self, key: PRNGKeyArray) -> Theta:
        layers = start_mlp(key, FEATURES, self.hidden, 1)
        return [*layers[:-1], jax.tree.map(jnp.zeros_like, layers[-1])]

    def start(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> Remembered:
        places, each = jnp.zeros(self.buckets), jnp.zeros((self.streams, self.buckets))
        return Remembered(
            visits=places,
            best=jnp.full(self.buckets, _NEVER, jnp.float32),
            passed=each.astype(jnp.int32) - 1,
            returns=each,
            episode=jnp.zeros(self.streams, jnp.int32),
            earned=jnp.zeros(self.streams),
            top=jnp.full((), _NEVER, jnp.float32),
        )

    def pay(self, theta: Theta, memory: Remembered, rollout: Rollout) -> tuple[Float[Array, "T B"], Remembered]:
        here, there = (bucket(x, self.buckets, self.resolution) for x in (rollout.obs, rollout.next_obs))
        steps = Steps(here, there, rollout.reward, rollout.discount, rollout.last)
        seen, memory = self.seen(memory, steps)
        return self.paid(theta, seen), memory

    def paid(self, theta: Theta, seen: Float[Array, "*n 11"]) -> Float[Array, "*n"]:
        """r_in, by the inputs."""
        return jnp.tanh(mlp(theta, seen)[..., 0])

    def seen(self, memory: Remembered, steps: Steps) -> tuple[Float[Array, "T B 11"], Remembered]:
        """The inputs, step by step, and the memory after them.

        Raises:
          ValueError: there are more streams than there is room for.
        """
        count = steps.reward.shape[1]
        if count > self.streams:
            raise ValueError(f"streams={self.streams}: there is no room for {count} streams; set it to {count} or more")
        of_streams = {name: getattr(memory, name)[:count] for name in ("passed", "returns", "episode", "earned")}
        steps = steps._replace(reward=steps.reward / self.scale)
        after, seen = jax.lax.scan(_remember, memory._replace(**of_streams), steps)
        kept = {name: jnp.asarray(getattr(memory, name)).at[:count].set(getattr(after, name)) for name in of_streams}
        return seen, after._replace(**kept)


def _remember(m: Remembered, step: Steps) -> tuple[Remembered, Float[Array, "B 11"]]:
    """Takes in one step; what is said of it."""
    lanes = jnp.arange(len(step.here))
    m = _was_at(m, step.here)
    first = m.passed[lanes, step.there] != m.episode
    m = _was_at(m, step.there)
    m = m._replace(visits=m.visits.at[step.there].add(1.0), earned=m.earned + step.reward)
    best, before, top = (jnp.where(x > _NEVER, x, 0.0) for x in (m.best[step.there], m.best[step.here], m.top))
    seen = (
        jax.lax.rsqrt(m.visits[step.there]),
        jnp.log1p(m.visits[step.here]) - jnp.log1p(m.visits[step.there]),
        first,
        step.reward,
        1.0 - step.discount,
        best,
        m.best[step.there] > _NEVER,
        best - before,
        jnp.broadcast_to(top, best.shape),
        best - top,
        jax.lax.rsqrt(m.episode + 1.0),
    )
    ended = m._replace(
        returns=m.returns.at[lanes, m.episode % m.returns.shape[1]].set(m.earned),
        top=jnp.maximum(m.top, jnp.max(jnp.where(step.last, m.earned, _NEVER))),
        episode=m.episode + step.last,
        earned=jnp.where(step.last, 0.0, m.earned),
    )
    return ended, jnp.stack([jnp.asarray(x, jnp.float32) for x in seen], axis=-1)


def _was_at(m: Remembered, place: Int[Array, " B"]) -> Remembered:
    """Each stream is at its place: first, what came of the last episode there is taken in, of every stream."""
    passed = m.passed[:, place]
    age = m.episode[:, None] - passed
    ended = (passed >= 0) & (age > 0) & (age < m.returns.shape[1])
    came = jnp.take_along_axis(m.returns, passed % m.returns.shape[1], axis=1)
    best = m.best.at[place].max(jnp.max(jnp.where(ended, came, _NEVER), axis=0))
    return m._replace(best=best, passed=m.passed.at[jnp.arange(len(place)), place].set(m.episode))
