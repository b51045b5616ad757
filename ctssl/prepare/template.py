"""A group-wise template: the mean chest of several scans, by ANTs' build_template and our registration.

Scans are first brought to one place and size by centre and spread of their lungs. On a coarse grid,
antspyx averages them and moves the average to their middle, again and again. Its lungs are then what all
scans are registered to, as any scan to an atlas; the means of the warped masks and CTs are the template.

A mean of smoothed lungs, cut at half their value, is smaller than they are (6 % of two equal ones, seen).
So each lung is cut at the level that gives it the members' mean volume at that one size. Their mean volume
at their own sizes would be larger than what goes with the mean of their spreads.
"""

from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ctssl.config.prepare import Registration
from ctssl.errors import ScanError
from ctssl.log import Progress
from ctssl.prepare.atlas import Anatomy
from ctssl.prepare.grid import LEFT, RIGHT, Grid, covering_grid
from ctssl.prepare.images import read_array, write_array
from ctssl.prepare.lungs import Lungs
from ctssl.prepare.mask import lung_box
from ctssl.prepare.registration import ants_image, ants_with, register
from ctssl.prepare.transforms import warp_to_atlas

_ROUNDS = 3  # of averaging; build_template's own default
_PAD_MM = 40.0
_CT_SHARE = 0.5  # of a lung's sign that its densest tissue adds
_MIN_DICE = 0.7  # of each lung of a member with the mean
_MIN_LEVEL = 0.25  # of a lung's value; lungs that lie on each other are cut near 0.5


@dataclass(frozen=True)
class Member:
    """A scan of the template: its name, and the folder with hu.nii and mask.nii of its lungs' box."""

    scan: str
    folder: Path

    def hu(self) -> tuple[np.ndarray, Grid]:
        """(z, y, x) int16 and its grid."""
        return read_array(self.folder / "hu.nii")

    def lungs(self) -> Lungs:
        """The mask on the same grid."""
        return Lungs(*read_array(self.folder / "mask.nii"))

    @classmethod
    def written(cls, scan: str, folder: Path, hu: np.ndarray, lungs: Lungs) -> "Member":
        """A member whose arrays lie in a folder from now on."""
        folder.mkdir()
        write_array(folder / "hu.nii", hu, lungs.grid)
        write_array(folder / "mask.nii", lungs.mask, lungs.grid)
        return cls(scan, folder)


def make_template(members: Sequence[Member], settings: Registration, margin_voxels: int) -> Anatomy:
    """The mean chest on the spacing of the members, axes LPS, the lungs' centre of mass near 0.

    The same members in the same order and the same settings give the same template on one machine.

    Args:
        members: two or more scans with whole lungs, LPS, one spacing.
        settings: grid, iterations, seed and threads as for the registration of scans.
        margin_voxels: what to leave around the lungs.

    Raises:
        ScanError: a member does not fit the mean of all, or there is none that is like lungs.

    Source: antspyx build_template (Avants et al. 2010, doi 10.1016/j.neuroimage.2009.09.062).
    """
    mean, coarse, litres = _coarse_mean(members, settings)
    spacing_mm = members[0].lungs().grid.spacing_mm
    target = lungs_of(mean, coarse, litres, spacing_mm, margin_voxels)
    return mean_anatomy(members, target, settings, margin_voxels)


def _coarse_mean(
    members: Sequence[Member], settings: Registration
) -> tuple[np.ndarray, Grid, dict[int, float]]:
    """(z, y, x) the template of signed lungs with their tissue, on a coarse grid around 0.

    And the mean litres of each lung, all members brought to the same size.
    """
    frames = [_place_and_size(member.lungs()) for member in members]
    size = np.mean([spread for _, spread in frames], 0)
    litres = dict.fromkeys((RIGHT, LEFT), 0.0)
    for member, (_, spread) in zip(members, frames, strict=True):
        for label in litres:
            litres[label] += _litres(member.lungs(), label) * float((size / spread).prod()) / len(members)
    reach = [
        (_box_mm(m.lungs()) - centre) / spread * size
        for m, (centre, spread) in zip(members, frames, strict=True)
    ]
    corners = np.stack([np.min(reach, (0, 1)) - _PAD_MM, np.max(reach, (0, 1)) + _PAD_MM])
    grid = covering_grid(corners, settings.spacing_mm, "LPS")
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).reshape(-1, 3)
    points = grid.to_points(index.astype(float))
    ants = ants_with(settings.threads)
    images = []
    for member, (centre, spread) in zip(members, frames, strict=True):
        values, own = _signed_tissue(member, settings.spacing_mm)
        where = own.to_array(points / size * spread + centre).T
        values = ndimage.map_coordinates(values, where, order=1, cval=0).reshape(grid.shape)
        images.append(ants_image(ants, values, grid))
    return _average(images, settings, members[0].folder.parent), grid, litres


def _average(images: list[Any], settings: Registration, folder: Path) -> np.ndarray:
    """(z, y, x): antspyx's template of images on one grid."""
    ants = ants_with(settings.threads)
    mean: Any = None  # at first the plain mean
    ants.config.set_ants_deterministic(on=False, seed_value=settings.seed)  # the seed alone
    try:
        with chdir(folder), Progress("template", _ROUNDS, "rounds") as progress:
            for number in range(_ROUNDS):
                mean = ants.build_template(
                    initial_template=mean,
                    image_list=images,
                    iterations=1,
                    output_dir=f"round{number}",  # ants stumbles over brackets in whole paths
                    type_of_transform="SyN",
                    initial_transform="Identity",  # centres of mass are nowhere when signs differ
                    aff_metric="meansquares",
                    aff_random_sampling_rate=1.0,
                    syn_metric="meansquares",
                    reg_iterations=settings.syn_iterations,
                    grad_step=settings.gradient_step,
                    flow_sigma=settings.flow_sigma,
                    total_sigma=settings.total_sigma,
                )
                progress.advance()
    finally:
        ants.config.set_ants_deterministic(on=False, seed_value=None)
    return mean.numpy().transpose(2, 1, 0)


def _signed_tissue(member: Member, spacing_mm: float) -> tuple[np.ndarray, Grid]:
    """(z, y, x) float32: about 1 in the right lung, -1 in the left, more where vessels are; smoothed."""
    (hu, grid), lungs = member.hu(), member.lungs()
    inside = lungs.mask > 0
    density = np.clip((hu + 1000) / 1000, 0, 1).astype(np.float32)
    density -= np.median(density[inside])  # how far a person breathed in is no anatomy
    sides = np.where(lungs.mask == RIGHT, 1, np.where(lungs.mask == LEFT, -1, 0)).astype(np.float32)
    sides *= 1 + _CT_SHARE * np.clip(density, 0, 1)
    return ndimage.gaussian_filter(sides, 0.5 * spacing_mm / grid.spacing_mm), grid


def lungs_of(
    mean: np.ndarray, coarse: Grid, litres: dict[int, float], spacing_mm: float, margin_voxels: int
) -> Lungs:
    """Lungs of these volumes on a fine grid: where a coarse mean is highest, the largest part of each."""
    shown = np.argwhere(np.abs(mean) > _MIN_LEVEL)
    if not len(shown):
        raise ScanError(*_NO_SHAPE)
    box = coarse.to_points(np.stack([shown.min(0) - 1.0, shown.max(0) + 1.0]))
    pad = margin_voxels * spacing_mm
    grid = covering_grid(np.stack([box.min(0) - pad, box.max(0) + pad]), spacing_mm, "LPS")
    fine = np.empty(grid.shape, np.float32)
    rows = np.stack(np.meshgrid(*map(np.arange, grid.shape[1:]), indexing="ij"), -1)
    for z in range(grid.shape[0]):
        positions = np.concatenate([np.full((*rows.shape[:2], 1), z), rows], -1).astype(float)
        where = np.moveaxis(coarse.to_array(grid.to_points(positions)), -1, 0)
        fine[z] = ndimage.map_coordinates(mean, where, order=1, cval=0)
    mask = np.zeros(grid.shape, np.uint8)
    for label, values in ((RIGHT, fine), (LEFT, -fine)):
        labels, _ = ndimage.label(_highest(values, litres[label], spacing_mm))
        counts = np.bincount(labels.ravel())
        counts[0] = 0
        mask[ndimage.binary_fill_holes(labels == counts.argmax())] = label
    return Lungs(mask, grid)


def _highest(values: np.ndarray, litres: float, spacing_mm: float) -> np.ndarray:
    """(z, y, x) bool: where a mean of lungs, 1 inside and 0 outside, is highest, in all these litres.

    Raises:
        ScanError: what is highest there is no lung.
    """
    count = round(litres * 1e6 / spacing_mm**3)
    if not 0 < count < values.size:
        raise ScanError(*_NO_SHAPE)
    level = float(np.partition(values.ravel(), -count)[-count])
    if level <= _MIN_LEVEL:
        raise ScanError(*_NO_SHAPE)
    return values >= level


_NO_SHAPE = (
    "the scans have no common shape",
    "look at their masks: is each lung there, and whole? Name other scans in atlas.scans",
)


def mean_anatomy(
    members: Sequence[Member], target: Lungs, settings: Registration, margin_voxels: int
) -> Anatomy:
    """Mean of masks and CTs, each warped onto the target's lungs, whose volumes the mean's lungs keep.

    Raises:
        ScanError: names the member whose lungs do not fit the target's.
    """
    shares = {label: np.zeros(target.grid.shape, np.float32) for label in (RIGHT, LEFT)}
    total, seen = np.zeros(target.grid.shape, np.float32), np.zeros(target.grid.shape, np.uint8)
    middle = target.grid.corners_mm().mean(0, keepdims=True)
    with Progress("template", len(members), "scans registered") as progress:
        for member in members:
            lungs = member.lungs()
            aligned = register(lungs, target, middle, settings, member.folder)
            _check_fit(member.scan, aligned.numbers)
            to_scan = [aligned.files["warp"], aligned.files["affine"]]
            for label, share in shares.items():
                share += _warped(lungs.mask == label, lungs.grid, target.grid, to_scan)
            hu = _warped(member.hu()[0], lungs.grid, target.grid, to_scan, np.nan)
            seen += ~np.isnan(hu)
            total += np.nan_to_num(hu)
            progress.advance()
    mask = np.zeros(target.grid.shape, np.uint8)
    sigma = 0.5 * settings.spacing_mm / target.grid.spacing_mm  # a sharp edge has no levels to choose from
    for share in shares.values():
        share[:] = ndimage.gaussian_filter(share / len(members), sigma)
    for label, share in shares.items():
        part = _highest(share, _litres(target, label), target.grid.spacing_mm)
        mask[part & (share == np.maximum(*shares.values()))] = label
    hu = np.where(seen > 0, total / np.maximum(seen, 1), -1000)
    low, high = lung_box(mask, margin_voxels)
    box = tuple(slice(lo, hi) for lo, hi in zip(low, high, strict=True))
    return Anatomy(target.grid.crop(low, high), mask[box], np.rint(hu[box]).astype(np.int16))


def _check_fit(scan: str, numbers: dict[str, Any]) -> None:
    """Nothing, when both lungs of a member overlap the mean enough.

    Raises:
        ScanError: with both overlaps.
    """
    dice = [numbers["dice_right"], numbers["dice_left"]]
    if None in dice or min(dice) < _MIN_DICE:
        raise ScanError(
            f"scan {scan} cannot be part of the template: its lungs do not fit the mean of all, Dice right "
            f"{dice[0]}, left {dice[1]}, at least {_MIN_DICE} is needed",
            "is its mask right, are both lungs there? Name another scan in atlas.scans",
        )


def _warped(
    array: np.ndarray, own: Grid, grid: Grid, to_scan: list[Path], outside: float = 0.0
) -> np.ndarray:
    """(z, y, x) float32: a scan's array seen from the template, linear."""
    return warp_to_atlas(array.astype(np.float32), own, grid, to_scan, labels=False, outside=outside)


def _litres(lungs: Lungs, label: int) -> float:
    return np.count_nonzero(lungs.mask == label) * lungs.grid.spacing_mm**3 / 1e6


def _place_and_size(lungs: Lungs) -> tuple[np.ndarray, np.ndarray]:
    """Centre (3,) and spread (3,) of the lungs, x, y, z in mm."""
    points = lungs.grid.to_points(np.argwhere(lungs.mask > 0).astype(float))
    return points.mean(0), points.std(0)


def _box_mm(lungs: Lungs) -> np.ndarray:
    """(2, 3) lowest and highest x, y, z of the lungs."""
    points = lungs.grid.to_points(np.stack(lung_box(lungs.mask, margin=0)).astype(float))
    return np.stack([points.min(0), points.max(0)])
