"""How far a scan's features lie from those that a probe was fitted on."""

from dataclasses import dataclass

import numpy as np

RANK = 16
"""Directions whose spread is known one by one; that of all others is one number."""

_LEAST = 1e-9  # relative spread, or a variance; below it is rounding
_STILL = 1e-6  # relative spread of a feature that was the same in all scans: any other value lies far


@dataclass(frozen=True)
class Cloud:
    """A normal distribution around training features: some directions, and a round rest.

    With fewer scans than features no covariance could be inverted; here what few scans say of most
    directions is pooled.

    Attributes:
        mean: (D,).
        scale: (D,) standard deviations; tiny where a feature is constant.
        axes: (R, D) of length one, of standardised features.
        variances: (R,) along the axes.
        rest: variance along any direction across them; 1 where there is none.

    Source: Tipping and Bishop, "Probabilistic principal component analysis", 1999.
    """

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    rest: float

    @classmethod
    def of(cls, features: np.ndarray) -> "Cloud":
        """The cloud of (n, D) features."""
        mean, scale = features.mean(0), features.std(0)
        still = scale <= _LEAST * np.abs(mean)
        scale = np.where(still, _STILL * np.maximum(np.abs(mean), 1), scale)
        _, values, axes = np.linalg.svd((features - mean) / scale, full_matrices=False)
        variances = values**2 / max(len(features) - 1, 1)
        known, width = int((variances > _LEAST).sum()), features.shape[1]
        # where scans leave directions open, one known direction at least tells what the rest is like
        rank = min(RANK, known if known == width else max(known - 1, 0))
        rest = max(float(variances[rank:].sum()) / (width - rank), _LEAST) if rank < width else 1.0
        return cls(mean, scale, axes[:rank], variances[:rank], rest)

    def distances(self, features: np.ndarray) -> np.ndarray:
        """(m,) Mahalanobis distances of (m, D) features, divided by sqrt(D): about 1 within the cloud."""
        z = (features - self.mean) / self.scale
        along = z @ self.axes.T  # (m, R)
        across = np.maximum((z**2).sum(1) - (along**2).sum(1), 0)
        squares = (along**2 / self.variances).sum(1) + across / self.rest
        return np.sqrt(squares / features.shape[1])
