"""Learned objectives: what they ask of the policy, given reward or advantage, action probability, and age."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_rl.distributions import Categorical
from learned_rl.rules.averages import MovingAverage
from learned_rl.rules.disco.predictions import Pair, Predictions
from learned_rl.rules.disco.rule import Averages, Disco
from learned_rl.rules.lpg import LPG
from learned_rl.rules.metagenrl import MetaGenRL, Seen
from learned_rl.types import Outputs, Rollout, Theta
from runs.explain.explanation import Explanation, Relation, at, bars, heat, most, panels, without

REWARD, PROBABILITY = np.linspace(-1, 1, 33, dtype=np.float32), np.linspace(0.03, 0.97, 33, dtype=np.float32)
DELAYS, AGES = 10, (0, 10, 100)


def rollout(reward: Any, discount: Any = 1.0, progress: float = 0.5) -> Rollout:
    """`[T, B]` steps of somebody who always takes action 0, with no episode's end."""
    zero = jnp.zeros_like(jnp.asarray(reward))
    return Rollout(
        obs=zero[..., None], action=zero.astype(jnp.int32), reward=jnp.asarray(reward), discount=zero + discount,
        last=zero > 0, next_obs=zero[..., None], behaviour_log_prob=zero, progress=jnp.asarray(progress),
        lifetime=jnp.asarray(100.0),
    )  # fmt: skip


def two_actions(probability: Any) -> Categorical:
    """The policy that takes action 0 with some probability, and one other action else."""
    p = jnp.asarray(probability)
    return Categorical(jnp.stack([jnp.log(p), jnp.log1p(-p)], axis=-1))


def lpg(rule: LPG, theta: Theta) -> Iterator[Explanation]:
    """pi_hat, the weight of log pi(a), of single steps; and of the steps before a reward."""

    @jax.jit
    def asked(reward, probability, discount=1.0, y=0.0, next_y=0.0, progress=0.5):
        def outputs(logits: Any) -> Outputs:
            zero = jnp.zeros((*jnp.shape(reward), rule.predictions)) + logits
            return Outputs(two_actions(probability), {"prediction": zero}, {})

        return rule.targets(theta, rollout(reward, discount, progress), outputs(y), outputs(next_y)).policy

    square = _square(lambda r, p: asked(r, p))
    late = np.zeros((DELAYS + 1, 1), np.float32)
    half = np.full_like(late, 0.5)
    paid = late.copy()
    paid[-1] = 1.0
    credit = np.asarray(asked(paid, half) - asked(late, half))[::-1, 0]
    probes = _probes(("reward", "probability", "discount"))
    rng = np.random.default_rng(1)
    probes |= {name: rng.normal(size=(8, 256, rule.predictions)).astype(np.float32) for name in ("y", "next_y")}
    shares = without(lambda x: asked(**x), probes)
    ages = [float(np.mean(np.asarray(asked(np.ones((1, 1)), np.full((1, 1), 0.5), progress=p)))) for p in (0.0, 1.0)]
    life = f"; for reward 1 it goes from {ages[0]:.3g} to {ages[1]:.3g} over a life" if ages[0] != ages[1] else ""
    says = (
        f"LPG's weight of log pi(a) for a step: {_ends(square)}; a reward of 1 adds {credit[0]:.3g} to its own step, "
        f"{credit[1]:.3g} to the step before and {credit[DELAYS]:.3g} to that {DELAYS} before{life}; {most(shares)}."
    )
    figure, axes = _three(square, "weight of log pi(a)")
    axes[0, 1].plot(np.arange(DELAYS + 1), credit, "o-", color="#D55E00", ms=3)
    axes[0, 1].set(xlabel="steps until a reward of 1", ylabel="what it adds to the weight")
    bars(axes[0, 2], shares)
    yield Explanation("objective", says, _data(square) | {"credit": credit}, figure, _relation(square))


def metagenrl(rule: MetaGenRL, theta: Theta) -> Iterator[Explanation]:
    """-dL / d log pi(a), the weight of log pi(a) that descent on the learned loss amounts to."""

    @jax.jit
    def asked(reward, probability, time=0.5, next_value=0.0, value=0.0):
        zero = jnp.zeros(jnp.shape(reward))
        seen = Seen(zero + reward, zero + value, zero + next_value, zero + time, zero)

        def cost(log_prob):
            return jnp.sum(rule.objective(theta, log_prob, seen, rollout(reward)))

        return -jax.grad(cost)(jnp.log(jnp.asarray(probability)))

    square = _square(lambda r, p: asked(r, p))
    better = np.asarray(asked(0 * REWARD[None], np.full_like(REWARD, 0.5)[None], next_value=REWARD[None]))[0]
    probes = _probes(("reward", "probability", "time", "next_value", "value"))
    shares = without(lambda x: asked(**x), probes)
    says = (
        f"MetaGenRL's weight of log pi(a) for a step: {_ends(square)}; with the value of what follows from -1 to 1 it "
        f"goes from {better[0]:.3g} to {better[-1]:.3g}; {most(shares)}."
    )
    figure, axes = _three(square, "weight of log pi(a)")
    axes[0, 1].plot(REWARD, better, color="#D55E00", lw=1.8)
    axes[0, 1].set(xlabel="value of what follows (standardised)", ylabel="weight of log pi(a)")
    bars(axes[0, 2], shares)
    yield Explanation("objective", says, _data(square) | {"next value": better}, figure, _relation(square))


def disco(rule: Disco, theta: Theta) -> Iterator[Explanation]:
    """log pi_hat(a) - log pi(a) of terminal steps, whose advantage is their reward; young and old lives."""
    reward, probability = (x.reshape(1, -1) for x in np.meshgrid(REWARD, PROBABILITY))

    @jax.jit
    def found(reward, said: Predictions, lifetime):
        glance = rule.glance(theta, said)
        averages = Averages(MovingAverage.start(), MovingAverage.start())
        seen, _ = rule.look(Pair(glance, glance), Pair(glance, glance), rollout(reward, 0.0), averages)
        targets = rule.network.targets(theta, lifetime, seen)
        wanted = jax.nn.log_softmax(targets.policy) - jax.nn.log_softmax(said.policy)
        return wanted[..., 0], rule.network.live(theta, lifetime, seen, targets)

    def asked(reward, probability, lifetime):
        # Nothing but the policy is said. An argument: constants of this size XLA would fold for half a minute.
        return found(reward, _silent(rule, two_actions(probability).logits), lifetime)

    squares, lifetime = {}, rule.network.birth()
    for age in range(max(AGES) + 1):
        wanted, following = asked(reward, probability, lifetime)
        if age in AGES:
            squares[age] = np.asarray(wanted).reshape(len(PROBABILITY), len(REWARD))
        lifetime = following
    old = lifetime
    probes = _probes(("reward", "probability"))
    shares = without(lambda x: asked(x["reward"], x["probability"], old)[0], probes)
    says = (
        f"DiscoRL's target for the action taken, log pi_hat - log pi, of steps whose advantage is their reward: "
        f"at birth {_ends(squares[0])}; after {AGES[-1]} updates {_ends(squares[AGES[-1]])}; {most(shares)}."
    )
    figure, axes = _three(squares[AGES[-1]], "log pi_hat(a) - log pi(a)")
    for age, square in squares.items():
        axes[0, 1].plot(REWARD, square[at(PROBABILITY, 0.5)], lw=1.8, label=f"after {age} updates")
    axes[0, 1].set(xlabel="advantage", ylabel="target at probability 0.5")
    axes[0, 1].legend(fontsize=8, frameon=False)
    bars(axes[0, 2], shares)
    square = squares[AGES[-1]]
    yield Explanation("objective", says, _data(square) | {"at birth": squares[0]}, figure, _relation(square))


def _silent(rule: Disco, logits: Any) -> Predictions:
    """Predictions of two actions that say nothing: uniform, and so of value 0."""
    shape, m, bins = logits.shape[:-1], rule.network.predictions, rule.values.bins
    y, z, q, aux_pi = (jnp.zeros((*shape, *more)) for more in ((m,), (2, m), (2, bins), (2, 2)))
    return Predictions(logits, y, z, q, aux_pi)


def _square(asked: Any) -> np.ndarray:
    """An objective over probability x reward."""
    reward, probability = np.meshgrid(REWARD, PROBABILITY)
    found = asked(reward.reshape(1, -1), probability.reshape(1, -1))
    return np.asarray(found).reshape(reward.shape)


def _probes(names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Random steps `[8, 256]`: probabilities uniform, one step in ten terminal, the rest standard normal."""
    rng = np.random.default_rng(0)
    drawn = {name: rng.normal(size=(8, 256)) for name in names}
    drawn["probability"] = rng.uniform(0.03, 0.97, (8, 256))
    special = {"discount": rng.random((8, 256)) > 0.1, "time": rng.random((8, 256))}
    drawn |= {name: x for name, x in special.items() if name in names}
    return {name: x.astype(np.float32) for name, x in drawn.items()}


def _ends(square: np.ndarray) -> str:
    at_half = square[at(PROBABILITY, 0.5)]
    rare, usual = square[0, -1], square[-1, -1]
    return (
        f"from {at_half[0]:.3g} at reward -1 to {at_half[-1]:.3g} at 1 (probability 0.5), at reward 1 {rare:.3g} "
        f"for an action of probability {PROBABILITY[0]:.2f} and {usual:.3g} for one of {PROBABILITY[-1]:.2f}"
    )


def _data(square: np.ndarray) -> dict[str, np.ndarray]:
    return {"reward": REWARD, "probability": PROBABILITY, "target": square}


def _relation(square: np.ndarray) -> Relation:
    return Relation.of(square, probability=PROBABILITY, reward=REWARD)


def _three(square: np.ndarray, what: str) -> Any:
    figure, axes = panels(1, 3)
    heat(axes[0, 0], REWARD, PROBABILITY, square, what)
    axes[0, 0].set(xlabel="reward", ylabel="probability of the action")
    return figure, axes
