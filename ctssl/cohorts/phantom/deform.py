"""The known deformation of each subject: affine after a smooth local part, with its inverse."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Deformation:
    """A map from canonical to subject points, both x, y, z in LPS mm.

    subject = matrix @ (canonical + local(canonical)) + shift_mm, where local is a sum of sines with
    wavelengths so long that the map cannot fold.

    Attributes:
        matrix: (3, 3) rotation, scale and shear.
        shift_mm: (3,).
        waves: (K, 3) wave vectors in rad/mm.
        phases: (K,).
        amplitudes_mm: (K, 3).
    """

    matrix: np.ndarray
    shift_mm: np.ndarray
    waves: np.ndarray
    phases: np.ndarray
    amplitudes_mm: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, *, size: float = 0.1, local_mm: float = 9.0) -> "Deformation":
        """A random subject: size +-10 %, tilt up to 5 degrees, local displacement up to `local_mm`."""
        scale = np.diag((1 + rng.uniform(-size, size)) * (1 + rng.uniform(-0.04, 0.04, 3)))
        tilt = np.deg2rad(rng.uniform(-5, 5, 3))
        count = 4
        directions = rng.standard_normal((count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        waves = directions * (2 * np.pi / rng.uniform(180, 320, (count, 1)))
        amplitudes = rng.uniform(-1, 1, (count, 3))
        amplitudes *= local_mm / np.linalg.norm(amplitudes, axis=1).sum()
        return cls(
            _rotation(tilt) @ scale,
            rng.uniform(-15, 15, 3),
            waves,
            rng.uniform(0, 2 * np.pi, count),
            amplitudes,
        )

    @classmethod
    def identity(cls) -> "Deformation":
        """No deformation: the canonical chest itself."""
        return cls(np.eye(3), np.zeros(3), np.zeros((1, 3)), np.zeros(1), np.zeros((1, 3)))

    def __call__(self, canonical_mm: np.ndarray) -> np.ndarray:
        """(P, 3) subject points of (P, 3) canonical points."""
        return (canonical_mm + self._local(canonical_mm)) @ self.matrix.T + self.shift_mm

    def inverse(self, subject_mm: np.ndarray) -> np.ndarray:
        """(P, 3) canonical points of (P, 3) subject points, to 1e-6 mm, by fixed-point iteration."""
        goal = (subject_mm - self.shift_mm) @ np.linalg.inv(self.matrix).T
        points = goal
        while True:
            step = goal - self._local(points) - points
            points = points + step
            if not step.size or np.abs(step).max() < 1e-7:
                return points

    def _local(self, points_mm: np.ndarray) -> np.ndarray:
        return np.sin(points_mm @ self.waves.T + self.phases) @ self.amplitudes_mm

    def to_json(self) -> dict[str, Any]:
        """The parameters as plain lists."""
        return {name: value.tolist() for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Deformation":
        """The deformation that `to_json` described."""
        return cls(**{name: np.array(value, float) for name, value in values.items()})


def _rotation(angles: np.ndarray) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[j, i] = np.sin(angle)
        turn[i, j] = -np.sin(angle)
        matrix = turn @ matrix
    return matrix
