"""Graceful failure: a learned rule on probation, an engineered one in reserve."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from learned_rl.blueprint import blueprint_of
from learned_rl.rules.drift import Drift
from learned_rl.rules.evidence import ENOUGH, Ledger, Sample, chance
from learned_rl.rules.lpg import LPG
from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, Rule, RuleState, Theta

_OTHER = 0x66616C6C  # more than any number of keys that a rule splits its own into


class GuardState(NamedTuple):
    """Two agents, of which one acts.

    Attributes:
      base, fallback: what the two rules remember.
      resting: the parameters of the agent that does not act; those of the one that does are the life's.
      learned_acts: whether it is the learned rule's.
      decided: whether they still take turns.
      ledger: episodes under way.
      learned, reference: returns of the learned rule's latest turn, and of the fallback's.
      updates: of both together.
    """

    base: RuleState
    fallback: RuleState
    resting: Params
    learned_acts: Bool[Array, ""]
    decided: Bool[Array, ""]
    ledger: Ledger
    learned: Sample
    reference: Sample
    updates: Int[Array, ""]


class Verdict(NamedTuple):
    """What was found at the end of a turn: nothing, or that one of them is to act from now on."""

    learned: Bool[Array, ""]
    fallback: Bool[Array, ""]


@dataclass(frozen=True)
class Guard:
    """Combinator: `base`, a learned rule, until it misbehaves; from then on `fallback`.

    theta = {"base": the learned rule's, "fallback": the other's, () if it has none}. Both rules have an agent of their
    own from birth on, and learn from what their own agent does and from nothing else.

    *Probation.* For a fraction `probation` of the lifetime they take turns, `rounds` each, the fallback first. If fewer
    than `evidence.ENOUGH` episodes end in its first turn, turns are too short to compare anything, and it keeps the
    agent: the learned rule never acts, and the life is the fallback's own. At the end of a round the returns of the
    latest turns are compared, by Welch's test (`evidence.chance`), at the level

        error (k^3 - (k - 1)^3) / rounds^3      in round k

    (Kim & DeMets 1987: strict at first, `error` in all). Who is better by the test keeps the agent, at once; if nobody
    is by the end, the fallback. A learned rule that is no better while both are young may be much worse later, which no
    test can see in time, and little is lost where the two are equal.

    *Watch.* In the rest of life, every turn's length of the learned rule is compared with the latest turn of the
    fallback, at `error` over the number of these comparisons; if it is worse, the fallback takes over, with its
    parameters as they were.

    *At once*, at any time: an update of the learned rule that leaves a parameter that is not finite is undone, and the
    fallback takes over.

    A learned rule that is no better than the fallback is thus trusted with a probability of at most `error`, and one
    that is no worse than the fallback was loses the life later with at most as much. What the test cannot see: a
    learned rule that stays ahead of the young fallback, and behind of what that would have become.

    Streams go on when agents change: an episode counts for both by their shares of its steps, and a recurrent agent
    begins with the other's memory until the episode's end. `Rollout.progress` is the life's, so that schedules end when
    it does. The choice is data: no gradient flows through it. In a segment in which an update is undone the
    meta-gradient is not finite, and estimators mask it; before and after, it is.

    Under `vmap`, `lax.cond` is a selection: every update costs what both rules' cost, acting what one costs.

    Attributes:
      base: the learned rule.
      fallback: the engineered one.
      probation: fraction of the lifetime.
      rounds: turns of each.
      error: probability of a false alarm, in probation and in the watch.
      watched: streams that are looked at, at most.

    Raises:
      ValueError: a setting out of range, heads of one name and two widths, or a fallback that brings its own agents.
    """

    base: Rule = LPG()
    fallback: Rule = Drift(anneal=True)
    probation: float = 0.08
    rounds: int = 2
    error: float = 0.02
    watched: int = 64

    def __post_init__(self):
        if not 0 < self.probation <= 1 or not 0 < self.error < 0.5 or self.rounds < 1 or self.watched < 1:
            raise ValueError(
                "probation must be in (0, 1], error in (0, 0.5), rounds and watched at least 1, not "
                f"{self.probation}, {self.error}, {self.rounds}, {self.watched}"
            )
        if blueprint_of(self.fallback) is not None:
            raise ValueError(f"fallback: a {type(self.fallback).__name__} brings agents of its own")
        _ = self.heads

    @property
    def heads(self) -> Heads:
        """Those of both rules; what one of them does not use it leaves alone."""
        mine, other = self.base.heads, self.fallback.heads
        return Heads(_union(mine.flat, other.flat), _union(mine.per_action, other.per_action))

    def init(self, key: PRNGKeyArray) -> Theta:
        return {"base": self.base.init(key), "fallback": self.fallback.init(jax.random.fold_in(key, _OTHER))}

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, GuardState]:
        params, fallback = self.fallback.birth(theta["fallback"], policy, key)
        resting, base = self.base.birth(theta["base"], policy, jax.random.fold_in(key, _OTHER))
        nothing = Sample.empty()
        return params, GuardState(
            base=base,
            fallback=fallback,
            resting=resting,
            learned_acts=jnp.zeros((), bool),
            decided=jnp.zeros((), bool),
            ledger=Ledger.empty(self.watched),
            learned=nothing,
            reference=nothing,
            updates=jnp.zeros((), jnp.int32),
        )

    def update(
        self, theta: Theta, params: Params, state: GuardState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, GuardState, Metrics]:
        acts = state.learned_acts
        # Each rule is given its own agent, also where it is not its turn and what it makes of it is thrown away: what
        # is not finite in a branch that is not taken would be NaN in the gradient of the one that is.
        ours = _where(acts, (params, state.base), (state.resting, state.base))
        theirs = _where(acts, (state.resting, state.fallback), (params, state.fallback))

        def learned() -> tuple[Any, Any, Array]:
            new, base, metrics = self.base.update(theta["base"], ours[0], ours[1], rollout, policy, key)
            return (new, base), theirs, metrics["entropy"]

        def fallen_back() -> tuple[Any, Any, Array]:
            new, fallback, metrics = self.fallback.update(theta["fallback"], theirs[0], theirs[1], rollout, policy, key)
            return ours, (new, fallback), metrics["entropy"]

        (new, base), (resting, fallback), entropy = jax.lax.cond(acts, learned, fallen_back)
        broken = ~_finite(new)
        new, base = _where(broken, ours, (new, base))
        state = self._judged(self._posted(state, rollout), broken, jnp.asarray(rollout.lifetime))
        acting = _where(state.learned_acts, new, resting)
        resting = _where(state.learned_acts, resting, new)
        learned_acts, decided = (x.astype(jnp.float32) for x in (state.learned_acts, state.decided))
        metrics = {"entropy": entropy, "guard_learned": learned_acts, "guard_decided": decided}
        return acting, state._replace(base=base, fallback=fallback, resting=resting), metrics

    def _posted(self, state: GuardState, rollout: Rollout) -> GuardState:
        """Returns are data, whatever the reward is made of."""
        ledger, ended = state.ledger.post(jax.lax.stop_gradient(rollout), state.learned_acts)
        return state._replace(
            ledger=ledger,
            learned=state.learned.add(ended.returns, ended.learned),
            reference=state.reference.add(ended.returns, ended.fallback),
            updates=state.updates + 1,
        )

    def _judged(self, state: GuardState, broken: Bool[Array, ""], lifetime: Float[Array, ""]) -> GuardState:
        """Who acts from now on."""
        turn = jnp.maximum(1, jnp.round(self.probation * lifetime / (2 * self.rounds))).astype(jnp.int32)
        turns, rest = jnp.divmod(state.updates, turn)
        ended = rest == 0
        verdict = self._verdict(state, turns, lifetime / turn)
        falls = broken | (ended & verdict.fallback)
        keeps = ended & verdict.learned & ~falls
        learned_next = jnp.where(state.decided, state.learned_acts, turns % 2 == 1)
        acts = (learned_next | keeps) & ~falls
        nothing = Sample.empty()
        return state._replace(
            learned_acts=acts,
            decided=state.decided | falls | keeps,
            learned=_where(ended & acts, nothing, state.learned),
            reference=_where(ended & ~acts, nothing, state.reference),
        )

    def level(self, round_: Float[Array, ""] | float) -> Float[Array, ""] | float:
        """Of the test at the end of a round of probation; over all rounds they add up to `error`."""
        return self.error * (round_**3 - (round_ - 1) ** 3) / self.rounds**3

    def _verdict(self, state: GuardState, turns: Int[Array, ""], in_life: Float[Array, ""]) -> Verdict:
        """What the returns of `turns` whole turns, of `in_life` in the whole life, say of the two."""
        alarm = chance(state.reference, state.learned)
        level = self.level(turns / 2)
        judged = ~state.decided & (turns % 2 == 0)
        worse, better = judged & (alarm < level), judged & (chance(state.learned, state.reference) < level)
        over = judged & (turns >= 2 * self.rounds)
        blind = ~state.decided & (turns == 1) & (state.reference.effective < ENOUGH)
        looks = jnp.maximum(in_life - 2 * self.rounds, 1.0)
        collapsed = state.decided & state.learned_acts & (alarm < self.error / looks)
        return Verdict(better, blind | worse | (over & ~better) | collapsed)


def _where(condition: Bool[Array, ""], chosen: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, other)


def _finite(params: Params) -> Bool[Array, ""]:
    return jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(params)]).all()


def _union(mine: Any, other: Any) -> dict[str, int]:
    for name in set(mine) & set(other):
        if mine[name] != other[name]:
            raise ValueError(f"the head {name!r} has width {mine[name]} in base and {other[name]} in fallback")
    return {**mine, **other}
