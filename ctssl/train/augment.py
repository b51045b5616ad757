"""Two views of a patch: drawing what happens (numpy, pure) and doing it (torch, batched).

One draw can hold for one patch or for all patches of a scan (`owner` says which draw is whose).

Source: batmanlab/Context_Aware_SSL@6fa7acb and the transforms of MONAI 0.3.0 that it uses: contrast,
noise, elastic with affine, in this order. The streams of random numbers are ours.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ctssl.config.methods import Augment


@dataclass(frozen=True)
class Draw:
    """What happens in G views.

    Attributes:
        gamma: (G,) exponents; 1 leaves the values.
        noise_hu: (G,) sigma; 0 adds nothing.
        affine: (G, 3, 4) centred output voxel -> centred input voxel, axes z, y, x.
        elastic_sigma: (G,) smoothing of the displacement's noise, in voxels.
        elastic_magnitude: (G,) its factor.
        seed: of the fields (displacement and noise), which are drawn on the device.
    """

    gamma: np.ndarray
    noise_hu: np.ndarray
    affine: np.ndarray
    elastic_sigma: np.ndarray
    elastic_magnitude: np.ndarray
    seed: int


def draw(options: Augment, count: int, rng: np.random.Generator) -> Draw:
    """What happens in `count` views; takes the same amount from `rng` whatever is chosen."""
    is_gamma = rng.random(count) < options.gamma_probability
    gamma = rng.uniform(*options.gamma_range, count)
    is_noise = rng.random(count) < options.noise_probability
    noise_hu = rng.uniform(0, options.noise_max_hu, count)
    angles = np.radians(rng.uniform(-options.rotation_deg, options.rotation_deg, (count, 3)))
    shift = rng.uniform(-options.translation_voxels, options.translation_voxels, (count, 3))
    scale = 1 + rng.uniform(-options.scale, options.scale, (count, 3))
    rotation = _rotation(angles)
    return Draw(
        gamma=np.where(is_gamma, gamma, 1.0),
        noise_hu=np.where(is_noise, noise_hu, 0.0),
        affine=np.concatenate([rotation * scale[:, None, :], rotation @ shift[:, :, None]], 2),
        elastic_sigma=rng.uniform(*options.elastic_sigma_voxels, count),
        elastic_magnitude=rng.uniform(0, options.elastic_magnitude, count),
        seed=int(rng.integers(2**62)),
    )


def apply(drawn: Draw, hu: Tensor, owner: Tensor) -> Tensor:
    """(M, E, E, E) augmented HU, float32, of patches `hu` of that shape, axes patch, z, y, x.

    Args:
        drawn: G draws.
        hu: clipped to the window.
        owner: (M,) the draw of each patch. Contrast takes minimum and maximum over all its patches.
    """
    with torch.autocast(hu.device.type, enabled=False):  # bfloat16 would move points by half a voxel
        generator = torch.Generator(hu.device).manual_seed(drawn.seed)
        sigma, magnitude = _as(drawn.elastic_sigma, hu), _as(drawn.elastic_magnitude, hu)
        shape = (len(sigma), 3, *hu.shape[1:])
        field = torch.rand(shape, generator=generator, device=hu.device) * 2 - 1
        displacement = smooth(field, sigma) * magnitude[:, None, None, None, None]
        hu = adjust_contrast(hu.float(), _as(drawn.gamma, hu), owner)
        hu = add_noise(hu, _as(drawn.noise_hu, hu)[owner], generator)
        return resample(hu, sampling_points(_as(drawn.affine, hu), displacement)[owner])


def adjust_contrast(hu: Tensor, gamma: Tensor, owner: Tensor) -> Tensor:
    """(M, E, E, E): ((x - low) / (range + 1e-7))^gamma * range + low, low and range over a draw's patches."""
    low = gamma.new_full(gamma.shape, torch.inf).scatter_reduce(0, owner, hu.amin((1, 2, 3)), "amin")
    high = gamma.new_full(gamma.shape, -torch.inf).scatter_reduce(0, owner, hu.amax((1, 2, 3)), "amax")
    changed = gamma[owner] != 1
    rows = owner[changed]
    out = hu.clone()
    bottom, span, power = ((a[rows])[:, None, None, None] for a in (low, high - low, gamma))
    out[changed] = ((hu[changed] - bottom) / (span + 1e-7)).pow(power) * span + bottom
    return out


def add_noise(hu: Tensor, sigma_hu: Tensor, generator: torch.Generator) -> Tensor:
    """(M, E, E, E) plus independent normal noise of each patch's sigma (M,)."""
    noisy = sigma_hu > 0
    noise = torch.randn(
        (int(noisy.sum()), *hu.shape[1:]), generator=generator, device=hu.device, dtype=hu.dtype
    )
    out = hu.clone()
    out[noisy] += noise * sigma_hu[noisy][:, None, None, None]
    return out


def smooth(field: Tensor, sigma: Tensor) -> Tensor:
    """(G, 3, E, E, E) smoothed along each axis by a Gaussian of sigma (G,) voxels, zeros outside.

    Taps are integrals of the Gaussian over a voxel, cut at 3 sigma and not renormalised. Along an axis
    of E voxels this is a product with an E by E matrix, cheaper here than kernels of up to 73 taps.
    """
    edge = field.shape[-1]
    steps = torch.arange(edge, device=field.device)
    apart = (steps[:, None] - steps[None, :]).abs().float()  # (E, E)
    width = sigma[:, None, None] * 2**0.5
    taps = 0.5 * (torch.erf((apart + 0.5) / width) - torch.erf((apart - 0.5) / width))
    taps = taps * (apart <= (3 * sigma[:, None, None] + 0.5).floor())  # (G, E, E), symmetric
    field = field @ taps[:, None, None]  # x
    field = taps[:, None, None] @ field  # y
    return (taps[:, None] @ field.flatten(3)).view_as(field)  # z


def sampling_points(affine: Tensor, displacement: Tensor) -> Tensor:
    """(G, E, E, E, 3) centred input voxels, z, y, x: the affine (G, 3, 4) of displaced output voxels."""
    edge = displacement.shape[-1]
    line = torch.arange(edge, device=affine.device, dtype=affine.dtype) - (edge - 1) / 2
    grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij"))  # (3, E, E, E)
    moved = (grid + displacement).flatten(2)  # (G, 3, E^3)
    points = affine[:, :, :3] @ moved + affine[:, :, 3:]
    return points.transpose(1, 2).reshape(len(affine), edge, edge, edge, 3)


def resample(hu: Tensor, points: Tensor) -> Tensor:
    """(M, E, E, E) trilinear at centred voxels (M, E, E, E, 3) in order z, y, x; the border extends."""
    half = (hu.shape[-1] - 1) / 2
    grid = points.flip(-1) / half  # grid_sample wants x, y, z from -1 to 1
    warped = functional.grid_sample(
        hu[:, None], grid, mode="bilinear", padding_mode="border", align_corners=True
    )
    return warped[:, 0]


def to_window(hu: Tensor, hu_min: float, hu_max: float) -> Tensor:
    """(M, 1, E, E, E) with hu_min as -1 and hu_max as 1; values beyond go beyond."""
    half = (hu_max - hu_min) / 2
    return ((hu - hu_min) / half - 1)[:, None]


def _as(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=like.device)


def _rotation(angles: np.ndarray) -> np.ndarray:
    """(G, 3, 3): the product of rotations about the first, second and third axis by angles (G, 3), rad."""
    count = len(angles)
    product = np.broadcast_to(np.eye(3), (count, 3, 3))
    for axis in range(3):
        a, b = [i for i in range(3) if i != axis]
        turn = np.tile(np.eye(3), (count, 1, 1))
        cos, sin = np.cos(angles[:, axis]), np.sin(angles[:, axis])
        sign = -1 if axis == 1 else 1  # right-handed about each axis
        turn[:, a, a] = turn[:, b, b] = cos
        turn[:, a, b], turn[:, b, a] = -sign * sin, sign * sin
        product = product @ turn
    return product
