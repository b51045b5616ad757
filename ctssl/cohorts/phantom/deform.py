"""The known deformation of each subject: affine after a smooth local part, with its inverse."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

_SIZE = (0.85, 1.15)  # of each axis, relative to the canonical chest
_DIAPHRAGM_MM = 13.0  # lower at full hyperinflation, higher after poor breath holding
_WAVES = 5
_STRAIN = (0.5, 0.72)  # sum over waves of amplitude times wave number; with the diaphragm it stays below 1
_WAVE_MM = (140.0, 300.0)
_ITERATIONS = 200  # a step is at most 0.87 of the one before: 1e-9 mm take less
_BASE_MM, _SOFT_MM = -55.0, 22.0  # height and softness of the step by which the diaphragm moves


@dataclass(frozen=True)
class Deformation:
    """A map from canonical to subject points, both x, y, z in LPS mm.

    subject = matrix @ (canonical + local(canonical)) + shift_mm. `local` is a sum of sines plus a smooth step
    that lowers what lies at the base. Both bend so little that the map cannot fold.

    Attributes:
        matrix: (3, 3) rotation, scale and shear.
        shift_mm: (3,).
        waves: (K, 3) wave vectors in rad/mm.
        phases: (K,).
        amplitudes_mm: (K, 3).
        diaphragm_mm: how much lower the base lies.
    """

    matrix: np.ndarray
    shift_mm: np.ndarray
    waves: np.ndarray
    phases: np.ndarray
    amplitudes_mm: np.ndarray
    diaphragm_mm: float

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        *,
        sex: str,
        age: float,
        height_cm: float,
        bmi: float,
        inflation: float,
    ) -> "Deformation":
        """A random body of this kind: size within 15 %, tilt to 4 degrees, local displacement to about 20 mm.

        Args:
            rng: of everything that the other arguments do not decide.
            sex: M or F; women's chests are narrower and shorter at the same height.
            age: years; chests grow deeper.
            height_cm: of the body.
            bmi: kg/m2; chests of heavy people are deeper.
            inflation: -1 (breath out) to 1 (hyperinflated): lowers the diaphragm, deepens the chest.
        """
        tall = height_cm / 172
        narrow = 0.97 if sex == "F" else 1.01
        scale = np.array([narrow * tall**0.8, narrow * tall**0.6, narrow * tall])
        scale[1] *= 1 + 0.0012 * (age - 60) + 0.03 * inflation + 0.003 * (bmi - 26)
        scale = np.clip(scale * (1 + rng.uniform(-0.04, 0.04, 3)), *_SIZE)
        directions = rng.standard_normal((_WAVES, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = rng.uniform(*_WAVE_MM, (_WAVES, 1))
        amplitudes = rng.standard_normal((_WAVES, 3))
        amplitudes /= np.linalg.norm(amplitudes, axis=1, keepdims=True)
        amplitudes *= lengths * rng.uniform(*_STRAIN) / (2 * np.pi * _WAVES)
        return cls(
            _rotation(np.deg2rad(rng.uniform(-4, 4, 3))) @ np.diag(scale),
            rng.uniform(-15, 15, 3),
            directions * (2 * np.pi / lengths),
            rng.uniform(0, 2 * np.pi, _WAVES),
            amplitudes,
            float(_DIAPHRAGM_MM * np.clip(inflation, -1, 1)),
        )

    @classmethod
    def identity(cls) -> "Deformation":
        """No deformation: the canonical chest itself."""
        return cls(np.eye(3), np.zeros(3), np.zeros((1, 3)), np.zeros(1), np.zeros((1, 3)), 0.0)

    def inflated(self, inflation: float) -> "Deformation":
        """The same body at another breath: only the diaphragm moves."""
        return replace(self, diaphragm_mm=float(_DIAPHRAGM_MM * np.clip(inflation, -1, 1)))

    def turned(self, degrees: np.ndarray) -> "Deformation":
        """The same body turned about x, then y, then z (3,), around the scanner's centre."""
        turn = _rotation(np.deg2rad(degrees))
        return replace(self, matrix=turn @ self.matrix, shift_mm=turn @ self.shift_mm)

    def __call__(self, canonical_mm: np.ndarray) -> np.ndarray:
        """(P, 3) subject points of (P, 3) canonical points."""
        return (canonical_mm + self._local(canonical_mm)) @ self.matrix.T + self.shift_mm

    def inverse(self, subject_mm: np.ndarray, tolerance_mm: float = 1e-7) -> np.ndarray:
        """(P, 3) canonical points of (P, 3) subject points, by fixed-point iteration.

        Args:
            subject_mm: x, y, z.
            tolerance_mm: the last step is smaller; the error is at most a few times this.

        Raises:
            ValueError: a point or a parameter is no finite number, or the iteration does not come to rest.
        """
        goal = (subject_mm - self.shift_mm) @ np.linalg.inv(self.matrix).T
        if not np.isfinite(goal).all():
            msg = "an inverse is of finite points, but there are NaN or infinite ones: leave them out"
            raise ValueError(msg)
        points, last = goal, np.inf
        for _ in range(_ITERATIONS):
            step = goal - self._local(points) - points
            points = points + step
            last = np.abs(step).max(initial=0)
            if last < tolerance_mm:
                return points
        msg = (
            f"the inverse comes within {tolerance_mm:g} mm in {_ITERATIONS} steps, but the last step is "
            f"{last:.3g} mm: ask for less, or look for parameters that fold the body"
        )
        raise ValueError(msg)

    def _local(self, points_mm: np.ndarray) -> np.ndarray:
        local = np.sin(points_mm @ self.waves.T + self.phases) @ self.amplitudes_mm
        local[:, 2] -= self.diaphragm_mm / (1 + np.exp((points_mm[:, 2] - _BASE_MM) / _SOFT_MM))
        return local

    def to_json(self) -> dict[str, Any]:
        """The parameters as plain numbers and lists."""
        values = asdict(self)
        return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Deformation":
        """The deformation that `to_json` described."""
        arrays = {name: np.array(v, float) for name, v in values.items() if name != "diaphragm_mm"}
        return cls(**arrays, diaphragm_mm=float(values["diaphragm_mm"]))


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
