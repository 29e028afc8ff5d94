"""Evolution strategies without a memory of their noise: over whole lifetimes, and over windows."""

from dataclasses import dataclass

import jax
from jaxtyping import PRNGKeyArray

from truncation.antithetic import Antithetic, Pair, Particles, mirrored
from truncation.problem import Estimate, InnerProblem, Theta
from truncation.schedule import Schedule
from truncation.shaping import Shaping, unshaped

# All particles start the window where the life under theta itself stands; it runs along as a third particle. (To carry
# the + particle instead, as learned_optimization does, makes the state drift with the noise.)
mean_life = Particles(
    number=3,
    thetas=lambda theta, noise, std, key: mirrored(theta, noise, theta),
    axis=None,
    keep=lambda lives: jax.tree.map(lambda x: x[2], lives),
)


@dataclass(frozen=True)
class FullES:
    """Antithetic evolution strategy over whole lifetimes, with fresh lives for every estimate; it has no state.

        ĝ = 1/pairs Σ_pairs ε (L(θ+ε) - L(θ-ε)) / (2 σ²),   L = mean segment loss of a lifetime,   ε ~ N(0, σ² I)

    (Rechenberg 1973; Salimans et al. 2017). Unbiased for the gradient of the smoothed loss E L(θ+ε), without any
    assumption on L, sampling inside the lives included. One pair has variance (P+1) ‖∇L‖² where L is quadratic.

    Cost of an estimate: lives * horizon segments forward. Memory: one micro-batch of lives.

    Attributes:
      horizon: segments in a lifetime.
      lives: particles, two a pair.
      std: σ of the noise.
      microbatch: how many particles run at once (0: all).
      shaping: what is done to the losses before they are compared.
    """

    horizon: int
    lives: int
    std: float
    microbatch: int = 0
    shaping: Shaping = unshaped

    def __post_init__(self):
        self._core()

    def init(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Pair | None:
        return self._core().init(problem, theta, key)

    def estimate(
        self, problem: InnerProblem, theta: Theta, state: Pair | None, key: PRNGKeyArray
    ) -> tuple[Estimate, Pair | None]:
        return self._core().estimate(problem, theta, state, key)

    def _core(self) -> Antithetic:
        schedule = Schedule(self.horizon, self.horizon)
        return Antithetic(schedule, self.lives, self.std, self.microbatch, self.shaping)


@dataclass(frozen=True)
class TruncatedES:
    """Antithetic evolution strategy over one window, from the state that theta itself has reached.

        ĝ_w = 1/pairs Σ_pairs ε (L_w(θ+ε | s) - L_w(θ-ε | s)) / (2 σ²),   s = the life under θ at the window's head

    (Metz et al. 2019; Vicol et al. 2021). Unbiased only for the smoothed loss of a window from a given state: as σ → 0
    its bias is exactly that of `TruncatedBackprop` with the same window.

    Cost of an estimate: 3/2 lives * window segments forward (every pair has a third particle that carries the state).
    Memory: lives / 2 lives between estimates, 3/2 micro-batches of lives in one.

    Attributes:
      horizon: segments in a lifetime.
      window: segments per estimate.
      lives: particles, two a pair.
      std: σ of the noise.
      stagger: spread the ages of pairs over the horizon by real burn-in (else lock-step).
      microbatch: how many particles run at once (0: all).
      shaping: what is done to the losses before they are compared.
    """

    horizon: int
    window: int
    lives: int
    std: float
    stagger: bool = True
    microbatch: int = 0
    shaping: Shaping = unshaped

    def __post_init__(self):
        self._core()

    def init(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Pair | None:
        return self._core().init(problem, theta, key)

    def estimate(
        self, problem: InnerProblem, theta: Theta, state: Pair | None, key: PRNGKeyArray
    ) -> tuple[Estimate, Pair | None]:
        return self._core().estimate(problem, theta, state, key)

    def _core(self) -> Antithetic:
        schedule = Schedule(self.horizon, self.window, self.stagger)
        return Antithetic(schedule, self.lives, self.std, self.microbatch, self.shaping, particles=mean_life)
