"""The scanner: what stands between a body and the numbers in a file.

Grid, slice thickness, table, reconstruction circle; kernel and noise are next door. `acquire` runs them all.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ctssl.cohorts.phantom import hard as hard_cases
from ctssl.cohorts.phantom.hard import Axes
from ctssl.cohorts.phantom.kernel import KERNELS, add_noise, blur
from ctssl.errors import ConfigError


class Site(NamedTuple):
    """How a hospital's scanner differs from the base."""

    kernel: str
    noise: float  # factor on noise_hu
    table: bool
    circle: bool
    padding_hu: int


SITES = {
    "A": Site("soft", 1.0, table=True, circle=False, padding_hu=-1024),
    "B": Site("sharp", 1.8, table=True, circle=True, padding_hu=-2000),
    "C": Site("soft", 0.7, table=False, circle=True, padding_hu=-3024),
}

AIR_HU = -1000.0
MIN_HU, MAX_HU = -1024, 3071  # 12 bits
REFERENCE_SLICE_MM = 3.0
_PLANE_MM = 2.0  # slices thicker than this are averaged from several planes
_MARGIN_MM = 12.0
# The table is a crescent: half width, radius of the upper face, thickness at the rims, surplus in the middle
_TABLE_HALF_MM, _TABLE_RADIUS_MM, _RIM_MM, _BELLY_MM = 210.0, 900.0, 8.0, 34.0
_GAP_MM, _SHELL_MM, _SHELL_HU, _FOAM_HU = 4.0, 3.0, 150.0, -850.0


@dataclass(frozen=True)
class Scanner:
    """How a chest is scanned.

    Attributes:
        spacing_mm: distance of voxels in the plane (x and y).
        slice_mm: distance and thickness of slices (z).
        noise_hu: standard deviation of the noise at slices of 3 mm.
        kernel: soft or sharp.
        fov_mm: edge of the square field of view, centred on the body, which it may cut; None: the whole body.
        table: whether the table is in the image.
        circle: whether voxels outside the reconstruction circle hold `padding_hu`.
        padding_hu: -1024, -2000 or -3024, as the manufacturers do.
        site: the hospital, see SITES.
        hard: names of hard cases, see hard.HARD_CASES.

    Raises:
        ConfigError: a value that no scanner has.
    """

    spacing_mm: float = 2.0
    slice_mm: float = 3.0
    noise_hu: float = 18.0
    kernel: str = "soft"
    fov_mm: float | None = None
    table: bool = True
    circle: bool = False
    padding_hu: int = -2000
    site: str = "A"
    hard: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ranges = {"spacing_mm": (0.3, 10.0), "slice_mm": (0.5, 10.0), "noise_hu": (0.0, 500.0)}
        ranges |= {} if self.fov_mm is None else {"fov_mm": (50.0, 800.0)}
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is from {low:g} to {high:g}, but is {getattr(self, name)!r}")
        choices: dict[str, Collection[object]] = {
            "kernel": list(KERNELS),
            "padding_hu": [-1024, -2000, -3024],
            "site": list(SITES),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is one of {known}, but is {getattr(self, name)!r}")
        hard_cases.check(self.hard)


def scanner_of(site: str, base: Scanner) -> Scanner:
    """The scanner of a site: grid, field of view and hard cases of `base`, all else the site's own.

    Raises:
        ConfigError: there is no such site.
    """
    if site not in SITES:
        raise ConfigError(f"site is one of {list(SITES)}, but is {site!r}")
    own = SITES[site]._asdict()
    return replace(base, site=site, noise_hu=base.noise_hu * own.pop("noise"), **own)


def field_of_view(low_mm: np.ndarray, high_mm: np.ndarray, scanner: Scanner) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner (3,), (3,) of what is scanned, for the box x, y, z of the body (LPS mm).

    z is taken as given. Without `fov_mm` there is a margin around the body, at the back for the table too.
    """
    low, high = np.array(low_mm, float), np.array(high_mm, float)
    if scanner.fov_mm is None:
        back = _GAP_MM + _RIM_MM + _BELLY_MM if scanner.table else 0.0
        margin = np.array([_MARGIN_MM, _MARGIN_MM, 0.0])
        return low - margin, high + margin + np.array([0.0, back, 0.0])
    centre = (low[:2] + high[:2]) / 2
    low[:2], high[:2] = centre - scanner.fov_mm / 2, centre + scanner.fov_mm / 2
    return low, high


def scan_axes(low_mm: np.ndarray, high_mm: np.ndarray, scanner: Scanner) -> Axes:
    """Centres of the voxels that fill the box from low (3,) to high (3,), x, y, z in LPS mm."""
    steps = (scanner.spacing_mm, scanner.spacing_mm, scanner.slice_mm)
    counts = np.maximum(np.floor((np.asarray(high_mm) - low_mm) / steps + 1e-6).astype(int), 1)
    x, y, z = (low + step * (np.arange(n) + 0.5) for low, step, n in zip(low_mm, steps, counts, strict=True))
    return x, y, z


def subslices(scanner: Scanner) -> int:
    """Planes whose mean is one slice: within 2 mm of each other, and odd in number: one is at the centre."""
    return int(np.ceil(scanner.slice_mm / _PLANE_MM - 1e-6)) | 1


def planes_mm(z_mm: np.ndarray, scanner: Scanner) -> np.ndarray:
    """(Z n,) z of the planes to sample, n = `subslices` for each of the slices at z (Z,)."""
    n = subslices(scanner)
    offsets = ((np.arange(n) + 0.5) / n - 0.5) * scanner.slice_mm
    return (z_mm[:, None] + offsets).ravel()


def average_slices(hu: np.ndarray, n: int) -> np.ndarray:
    """(Z, y, x) float32: the means of n planes each, of (Z n, y, x): a slice's profile is a box.

    Raises:
        ValueError: the planes cannot be dealt out evenly.
    """
    if len(hu) % n:
        msg = (
            f"each slice is the mean of {n} planes, but there are {len(hu)} planes; sample those of planes_mm"
        )
        raise ValueError(msg)
    return hu.reshape(-1, n, *hu.shape[1:]).mean(1, dtype=np.float32)


def deviation_hu(scanner: Scanner) -> float:
    """Root mean square of the noise in HU: noise_hu * sqrt(3 mm / slice_mm), more at a low dose.

    The photons of a slice grow with its thickness, and the noise falls with their root.
    """
    dose = hard_cases.LOW_DOSE_NOISE if "low-dose" in scanner.hard else 1.0
    return float(scanner.noise_hu * dose * np.sqrt(REFERENCE_SLICE_MM / scanner.slice_mm))


def add_table(hu: np.ndarray, axes_mm: Axes, back_mm: float) -> np.ndarray:
    """(z, y, x) float32: with the table beneath the back, a shell filled with foam, where there was air.

    It stands in the room: its middle is x = 0 whatever the field of view. `back_mm` is the body's largest y.
    """
    x, y = axes_mm[0], axes_mm[1][:, None]
    top = back_mm + _GAP_MM - x**2 / (2 * _TABLE_RADIUS_MM)
    thickness = _RIM_MM + _BELLY_MM * (1 - np.minimum((x / _TABLE_HALF_MM) ** 2, 1))
    depth = np.minimum(
        np.minimum(y - top, top + thickness - y), _TABLE_HALF_MM - np.abs(x)
    )  # from the surface
    voxel = abs(y[1, 0] - y[0, 0])
    shell, foam = (np.clip((depth - d) / voxel + 0.5, 0, 1) for d in (0.0, _SHELL_MM))  # share of the voxel
    table = AIR_HU + shell * (_SHELL_HU - AIR_HU) + foam * (_FOAM_HU - _SHELL_HU)
    return np.where((hu < -900) & (shell > 0), np.maximum(hu, table.astype(np.float32)), hu)


def finish(hu: np.ndarray, axes_mm: Axes, scanner: Scanner) -> np.ndarray:
    """(z, y, x) int16: rounded, held within 12 bits, padded outside the circle.

    The circle touches the far sides of the field of view; in a square one it is the inscribed circle.
    """
    out = np.clip(np.rint(hu), MIN_HU, MAX_HU).astype(np.int16)
    if scanner.circle:
        x, y = (axis - (axis[0] + axis[-1]) / 2 for axis in axes_mm[:2])
        radius = max(len(x), len(y)) * scanner.spacing_mm / 2
        out[:, np.hypot(y[:, None], x) > radius] = scanner.padding_hu
    return out


def acquire(
    hu: np.ndarray, axes_mm: Axes, scanner: Scanner, back_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """(Z, y, x) int16: the scan of a scene, the same for the same arguments.

    Args:
        hu: (Z n, y, x) float32, the scene at `planes_mm` of the slices.
        axes_mm: x, y, z of the scan's voxels, as of `scan_axes`.
        scanner: how it is scanned; its hard cases that spoil images act here.
        back_mm: y of the body's back, on which it lies.
        rng: source of noise and of the hard cases' chance.
    """
    image = hard_cases.move(average_slices(hu, subslices(scanner)), axes_mm, scanner.hard, rng)
    if scanner.table:  # it stands still while the body moves
        image = add_table(image, axes_mm, back_mm)
    image = blur(image, scanner.kernel, scanner.spacing_mm)
    image = hard_cases.streak(image, axes_mm, scanner.hard, rng)
    image = add_noise(image, scanner.kernel, scanner.spacing_mm, deviation_hu(scanner), rng)
    return finish(image, axes_mm, scanner)
