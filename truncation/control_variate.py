"""Control variates for antithetic evolution strategies: a guess of the gradient, whose errors alone are sampled."""

from dataclasses import dataclass
from typing import TypeAlias

from truncation.controlled import TEAMS, Controlled, Fitted
from truncation.controls import Control, RunningMean, WindowGradient
from truncation.evolution import FullES, Strategy
from truncation.generalized import GeneralizedPES
from truncation.noise_reuse import NoiseReuseES
from truncation.persistent import PersistentES
from truncation.shaping import unshaped

Unshaped: TypeAlias = FullES | PersistentES | NoiseReuseES | GeneralizedPES


@dataclass(frozen=True)
class ControlVariateES(Strategy):
    """An antithetic evolution strategy with a guess p of its gradient as control variate.

    With δ = (L+ - L-) / 2 of the window, ε its noise and ξ what it is credited with (ξ = ε with noise reuse),

        ĝ = 1/pairs Σ_pairs a + β b,   a = ξ δ / σ²,   b = p - ξ (ε·p) / σ²

    which for noise reuse is β p + ε/σ² (δ - β ε·p): structured control variates (Tang, Choromanski & Kucukelbir 2020)
    along an estimator of unrolled gradients. Since E ξ εᵀ = σ² I, b has mean zero for every p that is independent of
    the pair's noise, however wrong p is.

    Unbiased for what `base` is unbiased for, under the same assumptions. One pair with noise reuse has variance
    (P+1) ‖G - β p‖² where losses are quadratic; the best β multiplies it by 1 - cos²(G, p). A fixed β is for guesses
    of known scale: with an exploded gradient for p it makes the variance worse, by orders of magnitude. `Fitted` looks
    for the least variance of a single estimate (not of a sum over a lifetime), and goes to zero where p is useless.

    What is gained is what p explains linearly. Of lifetimes that is much even where inner training is chaotic (Lorenz:
    16 times less variance), of single late windows it is not: there even the best p for every age apart, which no
    estimator knows, leaves more than half (1.8 times less).

    Independence is by construction. Pairs are dealt into three teams. Team k's β is fitted on the pairs of team k + 1,
    and a running mean that serves team k is of the plain estimates of team k + 2: of this estimate and of all before,
    so that it also holds for noise that is reused. (A running mean over all pairs would contain each pair's own noise.)

    Cost of an estimate: that of `base`; with `WindowGradient` another lives / 2 * window segments forward and backward.
    Memory: that of `base` and six copies of theta; with `RunningMean` another three; with `WindowGradient` lives / 2
    lives more between estimates, and the residuals of `window` segments of half a micro-batch of lives.

    Attributes:
      base: `FullES`, `PersistentES`, `NoiseReuseES` or `GeneralizedPES`, without shaping.
      control: where p comes from, `WindowGradient` or `RunningMean`.
      beta: `Fitted`, or a number.

    Raises:
      ValueError: base cannot be corrected, or has too few lives for three teams.
    """

    base: Unshaped
    control: Control = WindowGradient()
    beta: Fitted | float = Fitted()

    def __post_init__(self):
        if not isinstance(self.base, Unshaped):
            raise ValueError(
                f"base={type(self.base).__name__} is none of FullES, PersistentES, NoiseReuseES, GeneralizedPES"
            )
        if self.base.shaping is not unshaped:
            raise ValueError("base.shaping: only unshaped losses are differences that a gradient can explain")
        teams = isinstance(self.beta, Fitted) or isinstance(self.control, RunningMean)
        if teams and self.base.lives < 2 * TEAMS:
            raise ValueError(f"base.lives={self.base.lives}: three teams of pairs need at least {2 * TEAMS}")

    @property
    def horizon(self) -> int:
        return self.base.horizon

    @property
    def window(self) -> int:
        return self.core().core.schedule.window

    @property
    def lives(self) -> int:
        return self.base.lives

    @property
    def microbatch(self) -> int:
        return self.base.microbatch

    def core(self) -> Controlled:
        return Controlled(self.base.core(), self.control, self.beta)
