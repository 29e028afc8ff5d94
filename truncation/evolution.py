"""Evolution strategies without a memory of their noise, and what all public evolution strategies share."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import PRNGKeyArray

from truncation.antithetic import Antithetic
from truncation.noise import Noise, every_window
from truncation.particles import Particles, both, mean_life
from truncation.problem import Estimate, GradientEstimator, InnerProblem, Theta
from truncation.schedule import Schedule
from truncation.shaping import Shaping, unshaped


class Strategy:
    """An estimator that is nothing but settings of a core, which refuses what cannot work."""

    @abstractmethod
    def core(self) -> GradientEstimator: ...

    def __post_init__(self):
        self.core()

    def init(self, problem: InnerProblem, theta: Theta, key: PRNGKeyArray) -> Any:
        return self.core().init(problem, theta, key)

    def estimate(self, problem: InnerProblem, theta: Theta, state: Any, key: PRNGKeyArray) -> tuple[Estimate, Any]:
        return self.core().estimate(problem, theta, state, key)


@dataclass(frozen=True)
class FullES(Strategy):
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

    def core(self) -> Antithetic:
        return Antithetic(Schedule(self.horizon, self.horizon), self.lives, self.std, self.microbatch, self.shaping)


@dataclass(frozen=True)
class WindowedES(Strategy):
    """Settings of an antithetic evolution strategy over windows; `noise` and `particles` make it this or that one.

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

    noise: ClassVar[Noise] = every_window
    particles: ClassVar[Particles] = both

    def core(self) -> Antithetic:
        schedule = Schedule(self.horizon, self.window, self.stagger)
        return Antithetic(schedule, self.lives, self.std, self.microbatch, self.shaping, self.noise, self.particles)


class TruncatedES(WindowedES):
    """Antithetic evolution strategy over one window, from the state that theta itself has reached.

        ĝ_w = 1/pairs Σ_pairs ε (L_w(θ+ε | s) - L_w(θ-ε | s)) / (2 σ²),   s = the life under θ at the window's head

    (Metz et al. 2019; Vicol et al. 2021). Unbiased only for the smoothed loss of a window from a given state: as σ → 0
    its bias is exactly that of `TruncatedBackprop` with the same window.

    Cost of an estimate: 3/2 lives * window segments forward (every pair has a third particle that carries the state).
    Memory: lives / 2 lives between estimates, 3/2 micro-batches of lives in one. Settings: `WindowedES`.
    """

    particles = mean_life
