"""The two ways to improve theta: follow an estimate of its gradient, or evolve a population of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from runs.errors import ConfigurationError, nearest
from truncation import Estimate, GradientEstimator, InnerProblem, evaluate_population
from truncation.lives import check_microbatch
from truncation.problem import Metrics, Theta

Problems: TypeAlias = Sequence[tuple[str, InnerProblem]]  # one per task family, named; shapes may differ


class OuterLearner(Protocol):
    """Settings, and pure methods on an explicit state that holds everything a checkpoint must hold."""

    @property
    def horizon(self) -> int:
        """Segments in a lifetime."""
        ...

    @property
    def segments_per_step(self) -> int:
        """Segments lived per outer step and task family, all lives together."""
        ...

    @property
    def batches(self) -> int:
        """Micro-batches per step: what devices can share without changing a bit of the result."""
        ...

    def init(self, problems: Problems, theta: Theta, key: PRNGKeyArray) -> Any: ...

    def step(self, problems: Problems, state: Any, key: PRNGKeyArray) -> tuple[Any, Metrics]: ...

    def theta(self, state: Any) -> Theta:
        """What would be deployed now."""
        ...


class DescentState(NamedTuple):
    """`moments` and `lives` have one entry per task family."""

    theta: Theta
    moments: tuple[Any, ...]
    lives: tuple[Any, ...]
    steps: Int[Array, ""]


@dataclass(frozen=True)
class GradientDescent:
    """Descends the estimator's gradient, normalised per task family, averaged over families.

        g_f = estimator's gradient in family f, clipped to global norm `max_norm`
        theta <- theta - learning_rate decay^step mean_f transform_f(g_f)

    Each family has its own Adam moments, so that none outweighs another because its rewards are larger (Oh et al. 2025
    do so per agent). A family with no finite life in a step, or a gradient that is not finite, sits that step out,
    moments and all.

    Attributes:
      estimator: any of `truncation`'s.
      transform: makes the optax transform that normalises one family's gradient.
    """

    estimator: GradientEstimator
    learning_rate: float = 1e-3
    decay: float = 1.0
    max_norm: float = 1.0
    transform: Callable[[], optax.GradientTransformation] = optax.scale_by_adam

    @property
    def horizon(self) -> int:
        return self.estimator.horizon  # type: ignore[attr-defined]

    @property
    def segments_per_step(self) -> int:
        return getattr(self.estimator, "window", self.horizon) * self.estimator.lives  # type: ignore[attr-defined]

    @property
    def batches(self) -> int:
        microbatch = self.estimator.microbatch  # type: ignore[attr-defined]
        return self.estimator.lives // microbatch if microbatch else 1  # type: ignore[attr-defined]

    @property
    def _transform(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(self.max_norm), self.transform())

    def init(self, problems: Problems, theta: Theta, key: PRNGKeyArray) -> DescentState:
        keys = [jax.random.fold_in(key, i) for i in range(len(problems))]
        lives = tuple(self.estimator.init(p, theta, k) for (_, p), k in zip(problems, keys, strict=True))
        moments = tuple(self._transform.init(theta) for _ in problems)
        return DescentState(theta, moments, lives, jnp.zeros((), jnp.int32))

    def step(self, problems: Problems, state: DescentState, key: PRNGKeyArray) -> tuple[DescentState, Metrics]:
        updates, moments, lives, metrics, used = [], [], [], {}, []
        for i, (name, problem) in enumerate(problems):
            estimate, life = self.estimator.estimate(problem, state.theta, state.lives[i], jax.random.fold_in(key, i))
            update, moment, usable = self._normalised(estimate, state.moments[i], state.theta)
            updates.append(update)
            moments.append(moment)
            lives.append(life)
            used.append(usable)
            norm = optax.tree.norm(estimate.gradient)
            metrics[name] = estimate.metrics | {"loss": estimate.loss, "gradient_norm": norm}
        share = 1.0 / jnp.maximum(sum(u.astype(jnp.float32) for u in used), 1.0)
        rate = self.learning_rate * self.decay**state.steps * share
        theta = jax.tree.map(lambda p, *u: p - (rate * sum(u)).astype(p.dtype), state.theta, *updates)
        return DescentState(theta, tuple(moments), tuple(lives), state.steps + 1), _summary(metrics)

    def _normalised(self, estimate: Estimate, moments: Any, theta: Theta) -> tuple[Theta, Any, Bool[Array, ""]]:
        norm = optax.tree.norm(estimate.gradient)
        usable = jnp.isfinite(norm) & (estimate.metrics["dead"] < 1.0)
        update, new = self._transform.update(estimate.gradient, moments, theta)
        update = jax.tree.map(lambda u: jnp.where(usable, u, 0.0), update)
        return update, jax.tree.map(lambda n, old: jnp.where(usable, n, old), new, moments), usable

    def theta(self, state: DescentState) -> Theta:
        return state.theta


@dataclass(frozen=True)
class Evolution:
    """Any distribution-based evosax strategy on whole lifetimes.

    Every member is judged by its mean segment loss over `repeats` fresh lives per family, all members on the same lives
    (common random numbers). With several families the losses are replaced by their centred ranks within each family and
    averaged, so that no family's scale decides; with one they are passed on as they are.

    A member that broke down is ranked just behind the worst that did not: never NaN (which poisons evosax's identity-
    shaped strategies), never a huge constant (which flattens everybody else).

    Attributes:
      strategy: a name from evosax's own table, e.g. Open_ES, SNES, CMA_ES, PGPE, LES (learned).
      population: members; even, for antithetic strategies.
      horizon: segments in a lifetime.
      std: initial standard deviation, where the strategy has one.
      learning_rate: Adam's, where the strategy takes an optimizer.
      repeats: lives per member and family.
      microbatch: members evaluated at once (0: all).

    Raises:
      ConfigurationError: unknown strategy, one that needs an initial population, or one of evosax's window estimators.
    """

    strategy: str = "Open_ES"
    population: int = 32
    horizon: int = 20
    std: float = 0.03
    learning_rate: float = 0.02
    repeats: int = 1
    microbatch: int = 0

    def __post_init__(self):
        if self.population < 2 or self.std <= 0 or self.repeats < 1:
            raise ValueError("population must be at least 2, repeats at least 1 and std above 0")
        check_microbatch(self.population, self.microbatch)

    @property
    def segments_per_step(self) -> int:
        return self.population * self.repeats * self.horizon

    @property
    def batches(self) -> int:
        return self.population // self.microbatch if self.microbatch else 1

    def _build(self, theta: Theta) -> tuple[Any, Any]:
        """evosax hashes strategies by identity, so this is called inside the one jitted program that uses it."""
        from evosax.algorithms import algorithms, population_based  # imports flax and all strategies

        refused = {"PersistentES", "NoiseReuseES", "RandomSearch", "SV_CMA_ES", "SV_Open_ES"}
        population_names = set(getattr(population_based, "__all__", ()))
        allowed = [name for name in algorithms if name not in refused and name not in population_names]
        if self.strategy not in allowed:
            hint = nearest(self.strategy, allowed)
            raise ConfigurationError(f"outer.strategy: {self.strategy!r} cannot be used; {hint}; allowed: {allowed}")
        make, arguments = algorithms[self.strategy], {}
        names = make.__init__.__code__.co_varnames
        if "optimizer" in names:
            arguments["optimizer"] = optax.adam(self.learning_rate)
        if "std_schedule" in names:
            arguments["std_schedule"] = optax.constant_schedule(self.std)
        # The default metrics carry three vectors of theta's size through every scan.
        strategy = make(self.population, theta, metrics_fn=_no_metrics, **arguments)
        params = strategy.default_params
        return strategy, params.replace(std_init=self.std) if hasattr(params, "std_init") else params

    def init(self, problems: Problems, theta: Theta, key: PRNGKeyArray) -> tuple[Any, Theta]:
        strategy, params = self._build(theta)
        state = strategy.init(key, theta, params)
        # evosax's own initial states hold weakly typed scalars.
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), state), theta

    def step(
        self, problems: Problems, state: tuple[Any, Theta], key: PRNGKeyArray
    ) -> tuple[tuple[Any, Theta], Metrics]:
        inner, template = state
        strategy, params = self._build(template)
        key_ask, key_judge, key_tell = jax.random.split(key, 3)
        members, asked = strategy.ask(key_ask, inner, params)
        fitness, metrics = [], {}
        for i, (name, problem) in enumerate(problems):
            losses, seen = evaluate_population(
                problem, members, self.horizon, self.repeats, jax.random.fold_in(key_judge, i), self.microbatch
            )
            fitness.append(behind_the_worst(losses))
            metrics[name] = seen | {"loss": jnp.mean(fitness[-1]), "best": jnp.min(fitness[-1])}
        total = fitness[0] if len(fitness) == 1 else sum(centred_ranks(f) for f in fitness) / len(fitness)
        told, _ = strategy.tell(key_tell, members, total, asked, params)
        told = jax.tree.map(lambda new, old: jnp.asarray(new, jnp.result_type(old)), told, inner)
        broken = jnp.stack([m["dead"] for m in metrics.values()]).min() >= 1.0  # nobody lived: nothing was learned
        told = jax.tree.map(lambda new, old: jnp.where(broken, old, new), told, inner)
        return (told, template), _summary(metrics)

    def theta(self, state: tuple[Any, Theta]) -> Theta:
        strategy, _ = self._build(state[1])
        return strategy.get_mean(state[0])


def behind_the_worst(losses: Float[Array, " n"]) -> Float[Array, " n"]:
    """Replaces losses that are not finite by one just above the largest finite one (0 if there is none)."""
    finite = jnp.isfinite(losses)
    any_finite = jnp.any(finite)
    worst = jnp.where(any_finite, jnp.max(jnp.where(finite, losses, -jnp.inf)), 0.0)
    best = jnp.where(any_finite, jnp.min(jnp.where(finite, losses, jnp.inf)), 0.0)
    gap = 0.01 * (worst - best) + 1e-6 * jnp.maximum(jnp.abs(worst), 1.0)
    return jnp.where(finite, losses, worst + gap)


def centred_ranks(losses: Float[Array, " n"]) -> Float[Array, " n"]:
    """Ranks scaled to [-1/2, 1/2], ties sharing their mean rank."""
    below = jnp.sum(losses[None, :] < losses[:, None], axis=1)
    ties = jnp.sum(losses[None, :] == losses[:, None], axis=1)
    return (below + 0.5 * (ties - 1)) / max(losses.shape[0] - 1, 1) - 0.5


def _no_metrics(*_: Any) -> dict[str, Any]:
    return {}


def _summary(per_family: dict[str, Metrics]) -> Metrics:
    """`meta/...` averaged over families, and `inner/<family>/...` of each."""
    shared = set.intersection(*(set(m) for m in per_family.values()))
    meta = {
        k: jnp.mean(jnp.stack([m[k] for m in per_family.values()]))
        for k in ("loss", "dead", "gradient_norm")
        if k in shared
    }
    inner = {f"inner/{name}/{k}": v for name, m in per_family.items() for k, v in m.items()}
    return {f"meta/{k}": v for k, v in meta.items()} | inner
