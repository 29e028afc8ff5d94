"""Implicit differentiation: the gradient at a fixed point of the inner training, without its history."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray

from truncation.cohort import Cohort, masked
from truncation.lives import Tally, all_finite, life_key
from truncation.problem import Estimate, InnerProblem, Theta
from truncation.schedule import Schedule

Adjoint: TypeAlias = Any
Solver: TypeAlias = Callable[[Callable[[Adjoint], Adjoint], Adjoint], Adjoint]


@dataclass(frozen=True)
class Neumann:
    """λ = Σ_{k<terms} (Aᵀ)^k b: truncated backprop through so many segments before that of the loss.

    Biased by what is left of the series, of the order ρ(A)^terms.
    """

    terms: int

    def __post_init__(self):
        if self.terms < 0:
            raise ValueError(f"terms={self.terms} is negative; 0 credits the segment of the loss alone")

    def __call__(self, pull: Callable[[Adjoint], Adjoint], right: Adjoint) -> Adjoint:
        def term(_: int, sums: Adjoint) -> Adjoint:
            return jax.tree.map(jnp.add, right, pull(sums))

        return jax.lax.fori_loop(0, self.terms, term, jax.tree.map(jnp.zeros_like, right))


@dataclass(frozen=True)
class Krylov:
    """λ of least residual in spaces of b, (I - Aᵀ) b, ...: A need not be symmetric, nor contract.

    What GMRES finds (Saad & Schultz 1986), in the form that needs no factorisation (Orthodir; Young & Jea 1980): one
    direction p for every application, with images (I - Aᵀ) p made orthonormal. LAPACK inside a loop over lives can wait
    for ever in the thread pool of a small host.

    Memory: 2 restart adjoints per life.

    Attributes:
      tolerance: of the residual, relative.
      restart: dimension of the Krylov space.
      repeats: how many spaces are tried.
    """

    tolerance: float = 1e-6
    restart: int = 20
    repeats: int = 10

    def __call__(self, pull: Callable[[Adjoint], Adjoint], right: Adjoint) -> Adjoint:
        goal, back = ravel_pytree(right)

        def operator(flat: Float[Array, " n"]) -> Float[Array, " n"]:
            return flat - ravel_pytree(pull(back(flat)))[0]

        def unsolved(carry: tuple) -> Array:
            count, _, residual = carry
            return (count < self.repeats) & (jnp.linalg.norm(residual) > self.tolerance * jnp.linalg.norm(goal))

        def space(carry: tuple) -> tuple:
            count, flat, residual = carry
            flat = flat + self._within(operator, residual)
            return count + 1, flat, goal - operator(flat)

        return back(jax.lax.while_loop(unsolved, space, (0, jnp.zeros_like(goal), goal))[1])

    def _within(self, operator: Callable, residual: Float[Array, " n"]) -> Float[Array, " n"]:
        """What to add for the least residual in one space."""

        def grow(number: Int[Array, ""], carry: tuple) -> tuple:
            sought, direction, directions, images = carry
            image = operator(direction)
            scale = jnp.linalg.norm(image)
            for _ in range(2):  # twice is enough
                along = images @ image
                direction, image = direction - along @ directions, image - along @ images
            size = jnp.linalg.norm(image)
            new = size > 10 * jnp.finfo(image.dtype).eps * scale  # else the space is exhausted
            direction, image = (jnp.where(new, x / jnp.where(new, size, 1), 0) for x in (direction, image))
            directions, images = directions.at[number].set(direction), images.at[number].set(image)
            return sought + (image @ residual) * direction, image, directions, images

        nothing = jnp.zeros((self.restart, *residual.shape), residual.dtype)
        carry = jnp.zeros_like(residual), residual, nothing, nothing
        return jax.lax.fori_loop(0, self.restart, grow, carry)[0]


@dataclass(frozen=True)
class ImplicitBackprop:
    """The gradient of the loss at the fixed point that a life has reached after `horizon` segments.

    With s* = f(s*, θ), A = df/ds, B = df/dθ and ℓ(s*, θ) the loss of one more segment,

        λ = dℓ/ds + Aᵀ λ,   ĝ = dℓ/dθ + Bᵀ λ

    (Larsen et al. 1996; Lorraine et al. 2020). Exact for the *last* segment's loss, not for the mean over a lifetime,
    and only where inner training has converged and draws nothing at random; it is blind to learning rates, schedules
    and initialisations, which do not move a fixed point. Many-shot inner loops do not converge: use it as an oracle, or
    for regularisers. It has no state; the reported loss is that of the last segment.

    Cost of an estimate: lives * (horizon + 1) segments forward, and one backward for every application of Aᵀ. Memory:
    the residuals of one segment per life, and what the solver keeps.

    Attributes:
      horizon: segments until convergence.
      lives: how many live side by side.
      solve: `(Aᵀ, b) -> λ`: `Neumann` or `Krylov`.
      microbatch: how many lives run at once (0: all).
    """

    horizon: int
    lives: int
    solve: Solver = Krylov()
    microbatch: int = 0

    def __post_init__(self):
        self._cohort()

    def init(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> None:
        return None

    def estimate(self, problem: InnerProblem, theta: Theta, state: None, key: PRNGKeyArray) -> tuple[Estimate, None]:
        """Leads every life to its end and differentiates one more segment there."""

        def one(theta: Theta, key: PRNGKeyArray, index: Int[Array, ""]) -> tuple[tuple, Any]:
            key = life_key(key, index)
            life, _ = self._cohort().schedule.live(problem, (theta, theta), None, key)
            leaves, structure = jax.tree.flatten(life)
            smooth = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]
            start = [leaf for leaf, moves in zip(leaves, smooth, strict=True) if moves]

            def segment(theta: Theta, start: list) -> Any:
                rest = iter(start)
                entered = [next(rest) if moves else leaf for leaf, moves in zip(leaves, smooth, strict=True)]
                after, report = problem.advance(
                    theta, structure.unflatten(entered), jax.random.fold_in(key, self.horizon + 1)
                )
                ends = zip(jax.tree.leaves(after), leaves, smooth, strict=True)
                return ([end.astype(leaf.dtype) for end, leaf, moves in ends if moves], report.loss), report

            (end, loss), pull, report = jax.vjp(segment, theta, start, has_aux=True)
            nothing = jax.tree.map(jnp.zeros_like, end)
            direct, right = pull((nothing, jnp.ones_like(loss)))
            adjoint = self.solve(lambda adjoint: pull((adjoint, jnp.zeros_like(loss)))[1], right)
            gradient = jax.tree.map(jnp.add, direct, pull((adjoint, jnp.zeros_like(loss)))[0])
            finite = jnp.isfinite(loss) & all_finite(gradient)
            return (), (masked(finite, gradient), Tally.of(report, finite))

        _, (total, tally) = self._cohort().each(one, (theta, key))
        return self._cohort().mean(total, tally), None

    def _cohort(self) -> Cohort:
        return Cohort(Schedule(self.horizon, self.horizon), self.lives, self.microbatch)
