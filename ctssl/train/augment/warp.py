"""The step that moves voxels: elastic and affine in one resampling; and cutting crops, likewise.

The displacement is uniform noise smoothed so much that few cosines along each axis carry it. Its points
are therefore sums of products of one function of z, of y and of x, and the affine map is three more.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from ctssl.config.augment import Augment
from ctssl.train.augment.step import Frame, Share, Stream, between, row
from ctssl.train.random import normal, uniform

LOST_VARIANCE = 0.003
"""Share of the displacement's variance that leaving out cosines may cost, in the worst voxel."""

CACHED_VOXELS = 2**18
"""Voxels resampled at a time on a CPU: what is made in between stays in its cache."""

GPU_VOXELS = 2**24
"""The same on a GPU, where it bounds memory."""


@dataclass(frozen=True)
class Warp:
    """warp: where each voxel's value comes from.

    Attributes:
        factors: (G, 3, A, B, C): the point's z, y, x as a sum of products of functions of z, y and x.
        bases: those functions: (G, Z, A), (G, Y, B) and (G, X, C).
    """

    factors: Tensor
    bases: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def draw(cls, options: Augment, keys: Tensor, frame: Frame) -> "Warp":
        """Source: MONAI 0.3.0 Rand3DElastic; normal numbers for its uniform ones (sums of thousands)."""
        numbers = uniform(keys, Stream.WARP, 12)
        affine = draw_affine(options, numbers[:, :10])
        sigma = between(numbers[:, 10], *options.elastic_sigma_voxels)
        magnitude = between(numbers[:, 11], 0, options.elastic_magnitude)
        magnitude = magnitude.where(numbers[:, 0] < options.warp_probability, 0.0)
        low, high = options.elastic_sigma_voxels
        elastic = options.elastic_magnitude > 0
        ranks = [rank(extent, low, high) if elastic else 0 for extent in frame.extent]
        cosines = normal(keys, Stream.ELASTIC, 3 * ranks[0] * ranks[1] * ranks[2]).view(len(keys), 3, *ranks)
        cosines = cosines * (magnitude / 3**0.5)[:, None, None, None, None]  # U(-1, 1) has variance 1/3
        bases = [basis(sigma, extent, r) for extent, r in zip(frame.extent, ranks, strict=True)]
        return cls(with_affine(cosines, affine), (bases[0], bases[1], bases[2]))

    def apply(self, hu: Tensor, share: Share, frame: Frame) -> Tensor:
        """Patches sampled at their draw's points."""
        voxels = CACHED_VOXELS if hu.device.type == "cpu" else GPU_VOXELS
        together = max(1, voxels // hu.shape[1:].numel())
        for part, owner in zip(hu.split(together), share.owner.split(together), strict=True):
            part.copy_(resample(part, self.points(owner)))
        return hu

    def points(self, owner: Tensor) -> Tensor:
        """(M, 3, Z, Y, X) centred voxels z, y, x of the draws (M,)."""
        return products(self.factors[owner], tuple(basis[owner] for basis in self.bases))


def draw_affine(options: Augment, numbers: Tensor) -> Tensor:
    """(G, 3, 4) centred output voxel -> centred input voxel, z, y, x: rotation x translation x scale.

    numbers: (G, 10) uniform: a coin, and for each axis angle, shift and factor.
    """
    sides = 2 * numbers[:, 1:] - 1
    sides = sides * (numbers[:, :1] < options.warp_probability)
    ranges = row(options.rotations_deg, numbers).deg2rad()
    turn = rotation(sides[:, :3] * ranges)
    shift, scale = sides[:, 3:6] * options.translation_voxels, 1 + sides[:, 6:9] * options.scale
    return torch.cat([turn * scale[:, None, :], turn @ shift[:, :, None]], 2)


def rotation(angles: Tensor) -> Tensor:
    """(G, 3, 3): the product of rotations about the first, second and third axis by angles (G, 3), rad."""
    cos, sin = angles.cos(), angles.sin()
    (a, b, c), (u, v, w) = cos.unbind(1), sin.unbind(1)
    rows = [
        [b * c, -b * w, v],
        [a * w + u * v * c, a * c - u * v * w, -u * b],
        [u * w - a * v * c, u * c + a * v * w, a * b],
    ]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def smoothing(sigma: Tensor, extent: int) -> Tensor:
    """(G, E, E) the symmetric matrices that smooth E voxels by sigma (G,) voxels, zeros outside.

    Taps are integrals of the Gaussian over a voxel, cut at 3 sigma and not renormalised, as in MONAI.
    """
    line = torch.arange(extent, device=sigma.device)
    apart = (line[:, None] - line).abs().to(sigma.dtype)  # (E, E)
    width = sigma[:, None, None] * 2**0.5
    taps = 0.5 * (torch.erf((apart + 0.5) / width) - torch.erf((apart - 0.5) / width))
    return taps * (apart <= (3 * sigma[:, None, None] + 0.5).floor())


def cosines(extent: int, count: int, like: Tensor) -> Tensor:
    """(E, count) the first orthonormal cosines of E voxels (DCT-II)."""
    line = torch.arange(extent, device=like.device, dtype=like.dtype)
    number = torch.arange(count, device=like.device, dtype=like.dtype)
    waves = torch.cos(torch.pi / extent * (line[:, None] + 0.5) * number) * (2 / extent) ** 0.5
    return waves * torch.where(number == 0, 0.5**0.5, 1.0)


@lru_cache
def rank(extent: int, low: float, high: float) -> int:
    """How many cosines carry noise smoothed by `low` to `high` voxels, but for LOST_VARIANCE.

    White noise projected on r orthonormal functions P along each axis is white there: the smoothed field
    has covariance (W P P^T W)^x3 in place of (W W)^x3. All E cosines would lose nothing. What two voxels'
    covariance loses, relative to their standard deviations, is no more than what their variances lose.
    """
    sigma = torch.linspace(low, high, 9, dtype=torch.float64)
    smooth = smoothing(sigma, extent)
    waves = (smooth @ cosines(extent, extent, sigma)).square().cumsum(2)  # (9, E, E) variance with r
    kept = (waves / waves[:, :, -1:]).amin((0, 1)) ** 3
    return int((kept < 1 - LOST_VARIANCE).sum()) + 1


def basis(sigma: Tensor, extent: int, count: int) -> Tensor:
    """(G, E, count + 2) functions of an axis: smoothed cosines, one, and the centred voxel."""
    waves = smoothing(sigma, extent) @ cosines(extent, count, sigma)
    line = torch.arange(extent, device=sigma.device, dtype=sigma.dtype) - (extent - 1) / 2
    plain = torch.stack([torch.ones_like(line), line], 1).expand(len(sigma), -1, -1)
    return torch.cat([waves, plain], 2)


def with_affine(displacement: Tensor, affine: Tensor) -> Tensor:
    """(G, 3, A + 2, B + 2, C + 2): the affine map (G, 3, 4) of displaced voxels, as factors of `basis`.

    displacement: (G, 3, A, B, C), its factors; affine: of z, y, x and one.
    """
    linear = affine[:, :, :3]
    moved = (linear @ displacement.flatten(2)).view_as(displacement)
    factors = functional.pad(moved, (0, 2, 0, 2, 0, 2))
    a, b, c = displacement.shape[2:]
    factors[:, :, a, b, c] = affine[:, :, 3]
    factors[:, :, a + 1, b, c], factors[:, :, a, b + 1, c], factors[:, :, a, b, c + 1] = linear.unbind(2)
    return factors


def products(factors: Tensor, bases: tuple[Tensor, ...]) -> Tensor:
    """(M, 3, Z, Y, X): the sum over a, b, c of factors (M, 3, A, B, C) x z_a x y_b x x_c."""
    z, y, x = bases
    count, _, a, b, c = factors.shape
    lines = factors.reshape(count, 3 * a * b, c) @ x.mT  # (M, 3AB, X)
    planes = y[:, None] @ lines.view(count, 3 * a, b, x.shape[1])  # (M, 3A, Y, X)
    blocks = z[:, None] @ planes.view(count, 3, a, y.shape[1] * x.shape[1])  # (M, 3, Z, YX)
    return blocks.view(count, 3, z.shape[1], y.shape[1], x.shape[1])


def resample(hu: Tensor, points: Tensor) -> Tensor:
    """(M, Z', Y', X') trilinear values of (M, Z, Y, X) at centred voxels (M, 3, Z', Y', X'), z, y, x.

    The border extends. Done as a plane's bilinear values in two neighbouring planes at once, which torch
    computes several voxels at a time on a CPU, where it takes the trilinear ones one by one: rows of all
    planes make one high image, and a second channel begins one plane later. Points are exact to 1e-4 voxel.

    Raises:
        ValueError: an axis has fewer than two voxels.
    """
    if min(hu.shape[1:]) < 2:
        msg = f"patches have at least 2 voxels along each axis, but these have {tuple(hu.shape[1:])}"
        raise ValueError(msg)
    count, depth, height, width = hu.shape
    z = (points[:, 0] + (depth - 1) / 2).clamp_(0, depth - 1)
    y = (points[:, 1] + (height - 1) / 2).clamp_(0, height - 1)
    below = z.floor().clamp_(max=depth - 2)
    rows = (depth - 1) * height
    grid = points.new_empty(*z.shape, 2)  # x and row, each from -1 to 1
    torch.mul(points[:, 2], 2 / (width - 1), out=grid[..., 0])
    torch.sub(y.add_(below, alpha=height).mul_(2 / (rows - 1)), 1, out=grid[..., 1])
    plane = height * width
    images = hu.contiguous().as_strided((count, 2, rows, width), (depth * plane, plane, width, 1))
    grid = grid.flatten(2, 3)  # (M, Z', Y'X', 2)
    pair = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)
    pair = pair.view(count, 2, *points.shape[2:])
    return torch.lerp(pair[:, 0], pair[:, 1], z.sub_(below))


def crop(volumes: Tensor, corners: Tensor, sizes: Tensor, extent: tuple[int, int, int]) -> Tensor:
    """(B, K, *extent) boxes of volumes (B, Z, Y, X), resampled so that end voxels meet end voxels.

    Args:
        volumes: float32.
        corners: (B, K, 3) the first voxel of each box, z, y, x.
        sizes: (B, K, 3) voxels of each box.
        extent: voxels of a result.
    """
    middle = row(volumes.shape[1:], volumes).sub(1) / 2
    lines = []
    for axis, voxels in enumerate(extent):
        way = torch.linspace(0, 1, voxels, device=volumes.device)
        start = corners[..., axis, None] - middle[axis]
        lines.append(start + way * (sizes[..., axis, None] - 1))  # (B, K, voxels)
    z, y, x = lines
    shape = (*corners.shape[:2], *extent)
    points = torch.stack(
        [a.expand(shape) for a in (z[..., None, None], y[..., None, :, None], x[..., None, None, :])], 1
    )
    return resample(volumes, points.flatten(2, 3)).view(shape)
