"""Steps that change values: contrast, noise, blur, shift, non-linear curve."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ctssl.config.augment import Augment
from ctssl.train.augment.step import Frame, Share, Stream, between, rows_of, spread
from ctssl.train.random import normal, uniform

CURVE_POINTS = 1000
"""Points of a curve, between which it is straight."""


@dataclass(frozen=True)
class Contrast:
    """gamma: values to a power between a draw's minimum and maximum.

    Attributes:
        exponent: (G,); 1 leaves the values.
    """

    exponent: Tensor

    @classmethod
    def draw(cls, options: Augment, keys: Tensor, frame: Frame) -> "Contrast":
        """Source: MONAI 0.3.0 RandAdjustContrast."""
        coin, where = uniform(keys, Stream.GAMMA, 2).unbind(1)
        exponent = between(where, *options.gamma_range)
        return cls(exponent.where(coin < options.gamma_probability, 1.0))

    def apply(self, hu: Tensor, share: Share, frame: Frame) -> Tensor:
        """Patches with their draw's exponent."""
        return adjust_contrast(hu, self.exponent, share.owner)


def adjust_contrast(hu: Tensor, exponent: Tensor, owner: Tensor) -> Tensor:
    """(M, Z, Y, X): ((x - low) / (range + 1e-7))^exponent * range + low; overwrites `hu`.

    low and range are over all patches (M) of a draw; exponent (G,), owner (M,).
    """
    rows = rows_of(exponent[owner] != 1)
    if len(rows) == 0:
        return hu
    mine, old = owner[rows], hu[rows]
    low = exponent.new_full(exponent.shape, torch.inf).scatter_reduce(0, mine, old.amin((1, 2, 3)), "amin")
    high = exponent.new_full(exponent.shape, -torch.inf).scatter_reduce(0, mine, old.amax((1, 2, 3)), "amax")
    bottom, span, power = (spread(values[mine]) for values in (low, high - low, exponent))
    new = old.sub(bottom).div_(span + 1e-7).pow_(power).mul_(span).add_(bottom)
    return hu.index_copy_(0, rows, torch.where(power == 1, old, new))


@dataclass(frozen=True)
class Noise:
    """noise: normal, independent in each voxel.

    Attributes:
        sigma_hu: (G,); 0 adds nothing.
    """

    sigma_hu: Tensor

    @classmethod
    def draw(cls, options: Augment, keys: Tensor, frame: Frame) -> "Noise":
        """Source: MONAI 0.3.0 RandGaussianNoise, whose std is an upper bound."""
        coin, where = uniform(keys, Stream.NOISE, 2).unbind(1)
        sigma = between(where, 0, options.noise_max_hu)
        return cls(sigma.where(coin < options.noise_probability, 0.0))

    def apply(self, hu: Tensor, share: Share, frame: Frame) -> Tensor:
        """Patches plus noise of their draw's sigma; the noise itself is each patch's own."""
        return add_noise(hu, self.sigma_hu[share.owner], share.keys)


def add_noise(hu: Tensor, sigma_hu: Tensor, keys: Tensor) -> Tensor:
    """(M, Z, Y, X) plus normal noise of each patch's sigma (M,) and key (M,); overwrites `hu`."""
    rows = rows_of(sigma_hu > 0)
    field = normal(keys[rows], Stream.NOISE_FIELD, hu.shape[1:].numel()).view(len(rows), *hu.shape[1:])
    return hu.index_add_(0, rows, field.mul_(spread(sigma_hu[rows])))


@dataclass(frozen=True)
class Blur:
    """blur: a Gaussian along each axis.

    Attributes:
        sigma_voxels: (G, 3) along z, y, x; 0 leaves the values.
        most: none of them is above.
    """

    sigma_voxels: Tensor
    most: float

    @classmethod
    def draw(cls, options: Augment, keys: Tensor, frame: Frame) -> "Blur":
        """Each axis has a sigma of its own."""
        numbers = uniform(keys, Stream.BLUR, 4)
        sigma = between(numbers[:, 1:], *options.blur_sigma_voxels)
        sigma = sigma.where(numbers[:, :1] < options.blur_probability, 0.0)
        return cls(sigma, options.blur_sigma_voxels[1])

    def apply(self, hu: Tensor, share: Share, frame: Frame) -> Tensor:
        """Blurred patches."""
        sigma = self.sigma_voxels[share.owner]
        rows = rows_of((sigma > 0).any(1))
        return hu.index_copy_(0, rows, blur(hu[rows], sigma[rows], self.most))


def blur(hu: Tensor, sigma_voxels: Tensor, most: float) -> Tensor:
    """(M, Z, Y, X) blurred by (M, 3) voxels along z, y, x, none above `most`; faces are mirrors.

    As scipy.ndimage.gaussian_filter: taps at voxels, cut at 4 sigma and normalised.
    """
    depth, height, width = hu.shape[1:]
    z, y, x = (_mirrored(sigma_voxels[:, i], hu.shape[i + 1], most) for i in range(3))  # (M, E, E)
    hu = hu @ x[:, None].mT
    hu = y[:, None] @ hu
    return (z @ hu.reshape(-1, depth, height * width)).view_as(hu)


def _mirrored(sigma: Tensor, extent: int, most: float) -> Tensor:
    """(M, E, E) the matrices of a Gaussian of sigma (M,) voxels, at most `most`; rows and columns voxels."""
    reach = (4 * sigma + 0.5).floor()[:, None, None]
    width = sigma.clamp_min(1e-3)[:, None, None]

    def taps(apart: Tensor) -> Tensor:
        return torch.exp(-0.5 * (apart / width) ** 2) * (apart <= reach)

    line = torch.arange(extent, device=sigma.device)
    apart, between_images = (line[:, None] - line).abs(), line[:, None] + line + 1
    weights = taps(apart) + taps(between_images) + taps(2 * extent - between_images)
    for k in range(1, int(4 * most + extent) // (2 * extent) + 1):  # a long tail meets both mirrors again
        away = 2 * extent * k
        weights += taps(away - apart) + taps(away + apart)
        weights += taps(away + between_images) + taps(away + 2 * extent - between_images)
    return weights / weights.sum(2, keepdim=True)


@dataclass(frozen=True)
class Shift:
    """shift: one number added to all values.

    Attributes:
        by_hu: (G,).
    """

    by_hu: Tensor

    @classmethod
    def draw(cls, options: Augment, keys: Tensor, frame: Frame) -> "Shift":
        """A share of the window, on either side."""
        coin, where = uniform(keys, Stream.SHIFT, 2).unbind(1)
        by = between(where, -options.shift, options.shift) * (frame.hu_max - frame.hu_min)
        return cls(by.where(coin < options.shift_probability, 0.0))

    def apply(self, hu: Tensor, share: Share, frame: Frame) -> Tensor:
        """Shifted patches."""
        return hu.add_(spread(self.by_hu[share.owner]))


@dataclass(frozen=True)
class Curve:
    """curve: values in the window through a monotone curve of the window onto itself.

    Attributes:
        active: (G,) bool.
        control: (G, 2, 2) the two inner points of a cubic Bezier curve in the unit square, (x, y).
        falling: (G,) bool: the curve runs from high to low.
    """

    active: Tensor
    control: Tensor
    falling: Tensor

    @classmethod
    def draw(cls, options: Augment, keys: Tensor, frame: Frame) -> "Curve":
        """Source: Models Genesis (MedIA 2021), non-linear transformation; half of the curves fall."""
        numbers = uniform(keys, Stream.CURVE, 6)
        active = numbers[:, 0] < options.curve_probability
        return cls(active, numbers[:, 2:].reshape(len(keys), 2, 2), numbers[:, 1] < 0.5)

    def apply(self, hu: Tensor, share: Share, frame: Frame) -> Tensor:
        """Patches through their draw's curve; values beyond the window become its ends' values."""
        rows = rows_of(self.active[share.owner])
        mine, span = share.owner[rows], frame.hu_max - frame.hu_min
        old = hu[rows]
        new = through(bezier(self.control, self.falling)[mine], (old - frame.hu_min) / span)
        new = new.mul_(span).add_(frame.hu_min)
        return hu.index_copy_(0, rows, torch.where(spread(self.active[mine]), new, old))


def bezier(control: Tensor, falling: Tensor) -> Tensor:
    """(G, 2, CURVE_POINTS): x, which rises from 0 to 1, and y of cubic Bezier curves.

    From (0, 0) by control (G, 2, 2) to (1, 1): both coordinates rise. Where `falling` (G,), the y are
    taken in reverse, as in the release, which sorts the x alone.
    """
    t = torch.linspace(0, 1, CURVE_POINTS, device=control.device)
    first, second = control[:, 0, :, None], control[:, 1, :, None]  # (G, 2, 1)
    curve = 3 * (1 - t) ** 2 * t * first + 3 * (1 - t) * t**2 * second + t**3
    x, y = curve.cummax(2).values.unbind(1)  # rounding never lets it fall
    return torch.stack([x, torch.where(falling[:, None], y.flip(1), y)], 1)


def through(curve: Tensor, values: Tensor) -> Tensor:
    """(M, Z, Y, X) values, in the unit interval, through (M, 2, P) curves, linear between their points."""
    x, y = curve[:, 0].contiguous(), curve[:, 1]
    flat = values.flatten(1).clamp(0, 1)
    right = torch.searchsorted(x, flat).clamp_(1, x.shape[1] - 1)  # (M, V)
    left = right - 1
    x0, x1, y0, y1 = (a.gather(1, i) for a in (x, y) for i in (left, right))
    share = (flat - x0) / (x1 - x0).clamp_min(1e-12)
    return torch.lerp(y0, y1, share).view_as(values)
