"""What is known about the problems where how far to back-propagate is the question."""

import itertools
from dataclasses import dataclass

import numpy as np

from truncation import problems


@dataclass(frozen=True)
class Kesten(problems.Kesten):
    """With its gradient and the errors of truncation, in closed form."""

    def gradient(self, width):
        """Of the mean segment loss, exactly."""
        lags = self.mean ** np.arange(self.horizon)
        return lags @ self.inputs(width) / self.horizon

    def error(self, window, lives, width=1):
        """The mean squared error of `window` lags over so many lives, in units of the squared gradient, exactly."""
        j, b = np.arange(self.horizon), self.inputs(width)
        a, square = self.mean, self.mean**2 + self.spread**2
        covariance = a ** np.abs(j[:, None] - j) * square ** np.minimum(j[:, None], j) - a ** (j[:, None] + j)
        missing = (a ** j[window:]) @ b[window:]
        noise = np.sum(((b @ b.T) * covariance)[:window, :window]) / lives
        return (np.sum(missing**2) + noise) / np.sum((self.horizon * self.gradient(width)) ** 2)

    def moments(self, depth, lives, width):
        """D and V of blocks of lags 1, 1, 2, 4, ... up to `depth`, and of an evolution-strategy tail for the others.

        In units of the squared gradient, exactly. The tail of a life is ε (ε · q) / σ², with q what these lags add up
        to: E ‖tail‖² = (width + 2) E ‖q‖².
        """
        j, b = np.arange(self.horizon), self.inputs(width)
        a, square = self.mean, self.mean**2 + self.spread**2
        edges = [0, *(2**k for k in range(depth.bit_length())), self.horizon]
        rows = np.stack([(low <= j) & (j < high) for low, high in itertools.pairwise(edges)]).astype(float)
        signal = rows @ (b @ b.T * a ** (j[:, None] + j)) @ rows.T
        second = rows @ (b @ b.T * a ** np.abs(j[:, None] - j) * square ** np.minimum(j[:, None], j)) @ rows.T
        second[-1, -1] *= width + 2
        return signal / signal.sum(), (second - signal) / lives / signal.sum()


@dataclass(frozen=True)
class NoisyQuadratic(problems.NoisyQuadratic):
    """With its terminal loss."""

    def terminal(self, theta):
        """E of the terminal loss, less its floor ½ Σ h."""
        return self.horizon * self.expected(theta)
