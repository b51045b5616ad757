"""The fine texture of all lungs, which is no lesion, and the smooth noise that patterns are made of.

The texture looks alike everywhere, only its strength differs by region. Usually it is strong at the base of
the right lung and at the apex of the left, and fades toward the other end; misplaced, it is the other way
round. In both, each lung holds as much of it, at the same mixture of strengths; and because the sides cross,
it is not linked to gravity's gradient, to vessels or to emphysema. (Base against apex alone would not do: the
base is denser, so the skewness of a healthy lung's histogram would tell.) So a histogram of whole lungs does
not tell the two apart; a region compared with the same region of other people does.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

TEXTURES = ("usual", "misplaced")

_TEXTURE_HU = 40.0
_SOFT_VOXELS = 0.6  # width of edges; the scanner's kernel softens them further
_GRAVITY_HU_PER_MM = (0.32, -0.15)  # along y and z, the middle of what subjects have
_LOW_MM, _HIGH_MM = np.array([-145.0, -105.0, -165.0]), np.array([145.0, 105.0, 145.0])  # hold both lungs


@dataclass(frozen=True)
class LungPoints:
    """Where the voxels of the lungs lie.

    Attributes:
        points_mm: (P, 3) canonical x, y, z.
        lobe: (P,) uint8, 1 to 3 in the right lung, 4 and 5 in the left.
        depth_mm: (P,) float32 canonical distance to the pleura.
        spacing_mm: of the scan's voxels; edges are as soft.
    """

    points_mm: np.ndarray
    lobe: np.ndarray
    depth_mm: np.ndarray
    spacing_mm: float

    def edge(self, sigma_mm: float, least_mm: float = 1.5) -> float:
        """Width of a soft edge as a difference of noise of this sigma, whose mean slope is 1.13 a sigma."""
        return _SOFT_VOXELS * 1.13 * max(self.spacing_mm, least_mm) / sigma_mm


def smooth_noise(points_mm: np.ndarray, sigma_mm: float, seed: int, stream: int) -> np.ndarray:
    """(P,) float32 Gaussian noise at canonical points (P, 3), smooth by sigma, mean 0, deviation about 1.

    The same seed and stream give the same field whatever the points are.
    """
    grid_mm = max(2.5, sigma_mm / 1.2)
    shape = (np.ceil((_HIGH_MM - _LOW_MM) / grid_mm).astype(int) + 1)[::-1]
    noise = np.random.default_rng([seed, 100 + stream]).standard_normal(shape, np.float32)
    noise = ndimage.gaussian_filter(noise, sigma_mm / grid_mm, mode="wrap", truncate=3)
    index = np.empty((3, len(points_mm)), np.float32)
    for d in range(3):
        index[2 - d] = (points_mm[:, d] - _LOW_MM[d]) / grid_mm
    return ndimage.map_coordinates(noise / noise.std(), index, order=1, mode="nearest")


def add_texture(hu: np.ndarray, where: LungPoints, texture: str, seed: int) -> np.ndarray:
    """(P,) float32 HU with bright walls where a field crosses zero and dark cells between.

    Args:
        hu: (P,) float32, not changed; what is no lung tissue (vessels, bronchi) keeps its value.
        where: the P voxels.
        texture: one of TEXTURES.
        seed: of the pattern.
    """
    field = np.abs(smooth_noise(where.points_mm, 3.0, seed, 0))
    lace = 0.63 - np.minimum(field, 1)  # mean 0
    lace *= _TEXTURE_HU / 0.63 * texture_strength(where, texture)
    lace *= np.clip((-500 - hu) / 200, 0, 1) * np.clip((hu + 1000) / 50, 0, 1)
    return hu + lace


def texture_strength(where: LungPoints, texture: str) -> np.ndarray:
    """(P,) float32: strength of the texture, over a lung's volume even from 0 to about 1.

    Texture widens the histogram of dense regions at one end of a lung, of thin ones at the other. The two
    lungs pull in opposite directions, and they are weighted so that the pulls cancel.
    """
    _, y, z = where.points_mm.T
    gravity_hu = _GRAVITY_HU_PER_MM[0] * y + _GRAVITY_HU_PER_MM[1] * z
    lungs = where.lobe <= 3, where.lobe > 3
    ranks = [_rank(z[lung]) for lung in lungs]
    pulls = [abs((gravity_hu[lung] * (2 * rank - 1)).sum()) for lung, rank in zip(lungs, ranks, strict=True)]
    strength = np.empty(len(z), np.float32)
    for side, (lung, rank) in enumerate(zip(lungs, ranks, strict=True)):
        to_apex = (side == 0) == (texture == "misplaced")
        weight = np.sqrt(2 * pulls[1 - side] / sum(pulls)) if all(pulls) else 1.0
        strength[lung] = weight * (rank if to_apex else 1 - rank)
    return strength


def _rank(heights_mm: np.ndarray) -> np.ndarray:
    """(N,): the share of a lung that lies below each of its voxels."""
    if not len(heights_mm):
        return heights_mm
    shares = np.linspace(0, 1, 65)
    return np.interp(heights_mm, np.quantile(heights_mm[:: 1 + len(heights_mm) // 20_000], shares), shares)
